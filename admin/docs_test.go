package admin

import (
	"flag"
	"strings"
	"testing"

	"noctule/internal/metric"
	"noctule/internal/testdoc"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md")

// TestMetricsDocument holds docs/metrics.md to the tables of the code.
func TestMetricsDocument(t *testing.T) {
	testdoc.Hold(t, "../docs/metrics.md", "go test ./admin -run TestMetricsDocument -update",
		metric.Markdown(Metrics())+"\n", *update)
}

// TestHelpStandsAlone: a HELP text is a sentence that does not lean on its neighbours.
func TestHelpStandsAlone(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range Metrics() {
		for _, d := range g.Defs {
			if seen[d.Name] {
				t.Errorf("%s is there twice", d.Name)
			}
			seen[d.Name] = true
			if len(d.Help) < 25 || !strings.HasSuffix(d.Help, ".") {
				t.Errorf("%s: %q is no sentence", d.Name, d.Help)
			}
			first, _, _ := strings.Cut(d.Help, " ")
			if first == "Their" || first == "Such" || strings.Contains(d.Help, "of them.") {
				t.Errorf("%s: %q leans on what is before it", d.Name, d.Help)
			}
			for _, l := range d.Labels {
				if l.Values == nil && l.Help == "" {
					t.Errorf("%s: label %s is not explained", d.Name, l.Name)
				}
			}
		}
	}
}
