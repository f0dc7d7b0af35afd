package admin

import (
	"flag"
	"os"
	"strings"
	"testing"

	"noctule/internal/metric"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md")

const (
	document  = "../docs/metrics.md"
	renewWith = "go test ./admin -run TestMetricsDocument -update"
	begin     = "<!-- " + renewWith + " writes what follows -->\n"
	end       = "<!-- end of the tables -->\n"
)

// TestMetricsDocument holds docs/metrics.md to the tables of the code.
func TestMetricsDocument(t *testing.T) {
	raw, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", document)
	}
	want := before + begin + metric.Markdown(Metrics()) + "\n" + end + after
	if want == string(raw) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says: %s", document, renewWith)
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
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
