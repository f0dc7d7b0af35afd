// Package metric says what a metric is, apart from its values: one definition from which it is registered and
// documented.
package metric

import (
	"fmt"
	"strings"
)

// Kind is a metric's type, in Prometheus's words.
type Kind string

// The kinds in use.
const (
	Gauge     Kind = "gauge"     // goes up and down
	Counter   Kind = "counter"   // only grows, from 0 at the start of the process
	Histogram Kind = "histogram" // counts observations by upper bounds
	Summary   Kind = "summary"   // tells quantiles of the last observations
)

// Def is one metric.
type Def struct {
	// Name is the whole name.
	Name string
	Kind Kind
	// Help is its HELP text: what is counted, in which unit, and when it moves, for somebody who sees nothing
	// but the name and this.
	Help   string
	Labels []Label
}

// Label is a label of a metric.
type Label struct {
	Name string
	// Values are all that it can have; nil where they come from outside.
	Values []string
	// Help says what it tells, if there are no Values.
	Help string
}

// Of is a label with a closed set of values.
func Of(name string, values ...string) Label { return Label{Name: name, Values: values} }

// Names are the names of d's labels.
func (d *Def) Names() []string {
	names := make([]string, len(d.Labels))
	for i := range d.Labels {
		names[i] = d.Labels[i].Name
	}
	return names
}

// Group is metrics about one thing.
type Group struct {
	Title string
	Defs  []Def
}

// Markdown is a document's tables of some groups.
func Markdown(groups []Group) string {
	var b strings.Builder
	for _, g := range groups {
		if g.Title != "" {
			fmt.Fprintf(&b, "\n## %s\n", g.Title)
		}
		b.WriteString("\n| metric | kind | what it says |\n|---|---|---|\n")
		for i := range g.Defs {
			d := &g.Defs[i]
			fmt.Fprintf(&b, "| `%s`", d.Name)
			if len(d.Labels) > 0 {
				fmt.Fprintf(&b, "<br>`{%s}`", strings.Join(d.Names(), ","))
			}
			fmt.Fprintf(&b, " | %s | %s", d.Kind, strings.ReplaceAll(d.Help, "|", "\\|"))
			for _, l := range d.Labels {
				fmt.Fprintf(&b, "<br>`%s`: %s.", l.Name, l.text())
			}
			b.WriteString(" |\n")
		}
	}
	return b.String()
}

// text is what a document says of a label.
func (l *Label) text() string {
	if l.Values == nil {
		return l.Help
	}
	return "`" + strings.Join(l.Values, "`, `") + "`"
}
