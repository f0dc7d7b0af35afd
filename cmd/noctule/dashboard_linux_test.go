package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"noctule/admin"
)

const dashboardFile = "../../deploy/prometheus/dashboard.json"

// dashboard is what the tests read of Grafana's format.
type dashboard struct {
	Title  string  `json:"title"`
	UID    string  `json:"uid"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int                                   `json:"id"`
	Type        string                                `json:"type"`
	Title       string                                `json:"title"`
	Description string                                `json:"description"`
	Grid        struct{ X, Y, W, H int }              `json:"gridPos"`
	Targets     []struct{ Expr, LegendFormat string } `json:"targets"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || len(d.Panels) < 20 {
		t.Fatalf("title %q, uid %q, %d panels", d.Title, d.UID, len(d.Panels))
	}
	return d
}

// asked is what a query may ask for.
type asked struct {
	gauge  bool
	labels []string
}

// metricNames are the names that a query may ask for.
func metricNames() map[string]asked {
	known := map[string]asked{}
	for _, g := range admin.Metrics() {
		for _, d := range g.Defs {
			if d.Kind != "histogram" {
				known[d.Name] = asked{gauge: d.Kind == "gauge", labels: d.Names()}
				continue
			}
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				known[d.Name+suffix] = asked{labels: d.Names()}
			}
		}
	}
	return known
}

var (
	ourNames  = regexp.MustCompile(`noctule_[a-z_]+`)
	byLabels  = regexp.MustCompile(`by \(([^)]*)\)`)
	matchers  = regexp.MustCompile(`([a-z_]+)=~?"`)
	legends   = regexp.MustCompile(`\{\{([^}]*)\}\}`)
	variables = regexp.MustCompile(`\$[a-z_]+`)
)

// labelsAsked are all labels that a query or its legend names.
func labelsAsked(expr, legend string) (list []string) {
	for _, m := range byLabels.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			list = append(list, strings.TrimSpace(l))
		}
	}
	for _, m := range matchers.FindAllStringSubmatch(expr, -1) {
		list = append(list, m[1])
	}
	for _, m := range legends.FindAllStringSubmatch(legend, -1) {
		list = append(list, m[1])
	}
	return list
}

// TestDashboardNamesMetrics: what the dashboard asks for is there, with the labels that it names; a counter is
// drawn as a rate.
func TestDashboardNamesMetrics(t *testing.T) {
	known := metricNames()
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			labels := []string{"instance", "job", "le"}
			for _, name := range ourNames.FindAllString(q.Expr, -1) {
				d, ok := known[name]
				if !ok {
					t.Errorf("%s: %s is no metric", p.Title, name)
				}
				labels = append(labels, d.labels...)
				if p.Type == "timeseries" && !d.gauge && !strings.Contains(q.Expr, "rate("+name+"{") {
					t.Errorf("%s: %s is no rate of %s", p.Title, q.Expr, name)
				}
			}
			for _, l := range labelsAsked(q.Expr, q.LegendFormat) {
				if !slices.Contains(labels, l) {
					t.Errorf("%s: %s has no label %s", p.Title, q.Expr, l)
				}
			}
		}
	}
}

// TestDashboardLooksWell: each group of metrics has its row, each panel queries, a description, an id of its own and
// a place that no other has.
func TestDashboardLooksWell(t *testing.T) {
	var rows, groups []string
	ids, taken := map[int]string{}, map[[2]int]string{}
	for _, p := range readDashboard(t).Panels {
		if other, twice := ids[p.ID]; twice {
			t.Errorf("%q and %q have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		for x := p.Grid.X; x < p.Grid.X+p.Grid.W; x++ {
			for y := p.Grid.Y; y < p.Grid.Y+p.Grid.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok && other != p.Title || x >= 24 {
					t.Fatalf("%q lies on %q, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		switch {
		case p.Type == "row":
			rows = append(rows, p.Title)
		case len(p.Targets) == 0 || !strings.HasSuffix(p.Description, "."):
			t.Errorf("%q has %d queries and the description %q", p.Title, len(p.Targets), p.Description)
		}
	}
	for _, g := range admin.Metrics() {
		groups = append(groups, g.Title)
	}
	if !slices.Equal(rows, groups) {
		t.Errorf("the rows are\n%q, the groups of metrics\n%q", rows, groups)
	}
}

// grafanaVariables puts values in the place of Grafana's variables.
var grafanaVariables = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")

// TestDashboardQueries has promtool read each query, Grafana's variables replaced.
func TestDashboardQueries(t *testing.T) {
	promtool := program(t, "promtool")
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			expr := grafanaVariables.Replace(q.Expr)
			if v := variables.FindString(expr); v != "" {
				t.Errorf("%s: there is no variable %s", p.Title, v)
			}
			n++
			fmt.Fprintf(&rules, "  - record: query%d\n    expr: %q\n", n, expr)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
