package conf

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of directives in docs/mosquitto.md")

const (
	document = "../../../docs/mosquitto.md"
	begin    = "<!-- go test ./cmd/internal/conf -run TestDocs -update writes what follows -->\n"
	end      = "<!-- end of the table -->\n"
)

// table is the directives as the document shows them.
func table() string {
	t := directives()
	for _, n := range []string{"plugin_opt_*", "auth_opt_*"} {
		t[n] = directive{scope: plugin, state: later}
	}
	count := map[state]int{}
	for _, d := range t {
		count[d.state]++
	}
	states := map[state]string{works: "works", inert: "inert", later: "not yet"}
	scopes := map[scope]string{
		global: "global", listener: "listener", anyL: "listener or default", security: "global or per listener",
		bridge: "bridge", plugin: "plugin",
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d work, %d are inert (accepted with a warning), %d are not supported yet (they stop the start).\n\n",
		count[works], count[inert], count[later])
	b.WriteString("| directive | scope | status | remark |\n|---|---|---|---|\n")
	for _, k := range slices.Sorted(maps.Keys(t)) {
		d := t[k]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k, scopes[d.scope], states[d.state],
			strings.TrimPrefix(d.note, "Warning: "))
	}
	return b.String() + "\n"
}

// TestDocs holds the document against the parser's table.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(raw), begin)
	old, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", document)
	}
	want := table()
	if *update {
		if err := os.WriteFile(document, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Errorf("the table in %s is old: run go test ./cmd/internal/conf -run TestDocs -update", document)
	}
}

// TestTable holds the parser's table against the list of Mosquitto 2.1's directives.
func TestTable(t *testing.T) {
	ours := directives()
	for k := range strings.FieldsSeq(readFile(t, "testdata/mosquitto-2.1.txt")) {
		if _, ok := ours[k]; !ok {
			t.Errorf("%s is missing", k)
		}
		delete(ours, k)
	}
	if got := slices.Sorted(maps.Keys(ours)); !slices.Equal(got, []string{"admin_listener", "log_format"}) {
		t.Errorf("directives that Mosquitto does not have: %v", got)
	}
	for k, d := range directives() {
		switch {
		case d.state == works && d.set == nil, d.state == later && d.set != nil:
			t.Errorf("%s: state and setter do not go together", k)
		case d.state == inert && (!strings.HasPrefix(d.note, "Warning: ") || !strings.Contains(d.note, k)):
			t.Errorf("%s: its warning is %q", k, d.note)
		}
	}
}
