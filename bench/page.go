//go:build linux

package bench

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"noctule/bench/plot"
)

//go:embed compare.html
var comparePage string

// HTML writes the comparison as one self-contained page: a plot and a table per scenario, and all that is
// needed to do it again.
func (c *Comparison) HTML(w io.Writer) error {
	funcs := template.FuncMap{"bars": c.bars, "show": c.show, "ours": ours}
	page, err := template.New("comparison").Funcs(funcs).Parse(comparePage)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return page.Execute(w, map[string]any{
		"Comparison": c, "Present": c.present(), "Summary": c.summary(), "Legend": c.legend(),
		"Cards": c.cards(), "CSS": plot.CSS,
	})
}

// ours reports whether a broker is the one that the page is about.
func ours(name string) bool { return name == "noctule" }

// show is a broker's cell as text.
func (c *Comparison) show(r Row, name string) string { return r.Cells[name].text(r.Memory) }

// headline is a figure at the top of the page.
type headline struct{ Value, Name string }

// cards are ours as a share of the reference, each with its range over the scenarios.
func (c *Comparison) cards() []headline {
	var work, memory []float64
	for _, r := range c.Rows {
		cell := r.Cells["noctule"]
		switch {
		case cell == nil || cell.Ratio <= 0 || r.Reference != c.Reference || ours(r.Reference):
		case r.Memory:
			memory = append(memory, cell.Ratio)
		default:
			work = append(work, cell.Ratio)
		}
	}
	var list []headline
	for _, of := range []struct {
		ratios []float64
		name   string
	}{{work, "of %s's processor time a message"}, {memory, "of %s's memory an idle client"}} {
		if len(of.ratios) == 0 {
			continue
		}
		name := fmt.Sprintf(of.name, c.Reference)
		if len(of.ratios) > 1 {
			name += fmt.Sprintf(", median of %d scenarios (%.2f to %.2f)", len(of.ratios),
				slices.Min(of.ratios), slices.Max(of.ratios))
		}
		list = append(list, headline{fmt.Sprintf("%.2g", median(of.ratios)), name})
	}
	return list
}

// bars draws a scenario: a bar for each broker's median, a line from its least to its greatest value.
func (c *Comparison) bars(r Row) template.HTML {
	p := plot.Bars{Name: r.Key}
	for _, peer := range c.present() {
		cell := r.Cells[peer.Name]
		if cell == nil {
			continue
		}
		b := plot.Bar{Name: peer.Name, Words: "-", Ours: ours(peer.Name)}
		if len(cell.Values) > 0 {
			b.Value, b.Low, b.High = cell.Value, slices.Min(cell.Values), slices.Max(cell.Values)
			b.Words = fmt.Sprintf("%.4g", cell.Value)
			if cell.Ratio > 0 && peer.Name != r.Reference {
				b.Words += fmt.Sprintf(", x %.3g", cell.Ratio)
			}
		} else if len(cell.Notes) > 0 {
			b.Words = strings.TrimSpace(cell.Notes[0])
		}
		p.Bars = append(p.Bars, b)
	}
	return p.SVG()
}
