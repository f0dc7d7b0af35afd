package conf

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"noctule/internal/testdoc"
)

var update = flag.Bool("update", false, "write the table of directives in docs/mosquitto.md")

// reloads says what a SIGHUP does with a directive.
func reloads(d directive) string {
	return map[onReload]string{again: "yes", restart: "restart", fixed: "must stay", unread: ""}[d.reload]
}

// table is the directives as the document shows them.
func table() string {
	t := directives()
	count := map[state]int{}
	for k, d := range t {
		if !strings.Contains(k, " ") {
			count[d.state]++
		}
	}
	states := map[state]string{works: "works", inert: "inert", later: "not yet", refused: "refused"}
	scopes := map[scope]string{
		global: "global", listener: "listener", own: "listener", anyL: "listener or default",
		security: "global or per listener", bridge: "bridge", option: "plugin",
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d work, %d are inert (accepted with a warning), %d are not supported yet and %d never will be "+
		"(those stop the start).\n\n", count[works], count[inert], count[later], count[refused])
	b.WriteString("| directive | scope | status | SIGHUP | remark |\n|---|---|---|---|---|\n")
	for _, k := range slices.Sorted(maps.Keys(t)) {
		d := t[k]
		note := strings.TrimPrefix(d.note, "Warning: ")
		if m, ok := deprecations(k); ok {
			note = strings.Trim("deprecated. "+m+" "+note, " ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k, scopes[d.scope], states[d.state], reloads(d), note)
	}
	return b.String() + "\n"
}

// TestDocs holds the document against the parser's table.
func TestDocs(t *testing.T) {
	testdoc.Hold(t, "../../../docs/mosquitto.md", "go test ./cmd/internal/conf -run TestDocs -update",
		table(), *update)
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
	maps.DeleteFunc(ours, func(k string, _ directive) bool { return strings.Contains(k, " ") })
	own := []string{
		"admin_listener", "admin_token_file", "auth_file", "log_format", "max_queued_memory", "max_subscriptions",
		"other_user_session", "persistence_sync",
		"presub_file", "proxy_protocol_from",
	}
	if got := slices.Sorted(maps.Keys(ours)); !slices.Equal(got, own) {
		t.Errorf("directives that Mosquitto does not have: %v", got)
	}
	for k, d := range directives() {
		base, value, isValue := strings.Cut(k, " ")
		_, ok := directives()[base]
		switch {
		case isValue && (!ok || value == "" || d.set != nil):
			t.Errorf("%s: a value has a directive and no setter", k)
		case !isValue && d.set == nil && d.state != inert:
			t.Errorf("%s has no setter", k)
		case d.state == inert && (!strings.HasPrefix(d.note, "Warning: ") || !strings.Contains(d.note, base)):
			t.Errorf("%s: its warning is %q", k, d.note)
		case d.state == refused && d.note == "":
			t.Errorf("%s is refused without a reason", k)
		}
	}
}

// TestReloadTable holds what a SIGHUP changes against what it changes in Mosquitto; the differences are ours.
func TestReloadTable(t *testing.T) {
	better := map[string]bool{ // read again with the listener's other TLS files, or the plugin's
		"cafile": true, "capath": true, "ciphers": true, "ciphers_tls1.3": true, "tls_version": true,
		"plugin": true, "auth_plugin": true, "global_plugin": true, "plugin_load": true, "plugin_use": true,
		"plugin_opt_*": true, "auth_opt_*": true, "auth_plugin_deny_special_chars": true,
	}
	opened := map[string]bool{ // opened once
		"persistence": true, "retained_persistence": true, "persistence_file": true, "persistence_location": true,
		"enable_proxy_protocol": true,
	}
	for line := range strings.Lines(readFile(t, "testdata/reload-2.1.txt")) {
		key, theirs, _ := strings.Cut(strings.TrimSpace(line), " ")
		d, ok := directives()[key]
		ours := reloads(d)
		want := map[string]string{"yes": "yes", "no": "restart"}[theirs]
		switch {
		case !ok:
			t.Errorf("unknown directive %s", key)
		case better[key]:
			want = "yes"
		case opened[key]:
			want = "restart"
		}
		if d.state != refused && d.state != inert && ours != want {
			t.Errorf("%s: %q, want %q", key, ours, want)
		}
	}
}
