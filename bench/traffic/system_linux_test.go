package traffic

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBounds measures our broker, and Debian's mosquitto beside it, and holds ours to the paper's figures:
// 148 bytes and 2 packets a bare message, 276 bytes and 4 packets a ping, at most. TCP has 8 bytes less.
func TestBounds(t *testing.T) {
	noctule := filepath.Join(t.TempDir(), "noctule")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", noctule, "noctule/cmd/noctule").
		CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := Measure(limited(t), Options{
		Noctule: noctule, Only: []string{"noctule", "mosquitto"}, Log: func(s string) { t.Log(s) }, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	limits := map[Scenario]Count{
		Bare: {24, 1776}, BarePing: {28, 2052}, Full: {24, 2184}, FullPing: {28, 2460}, Idle: {40, 2760},
	}
	ours := 0
	for _, row := range r.Rows {
		for s, limit := range limits {
			got, ok := row.Counts[s]
			switch {
			case !ok || got.Packets <= 0 || len(got.Ports) != 1:
				t.Errorf("%s: %s is not measured: %+v", line(row.Stack, row.Way), s, got)
			case row.Stack != "noctule": // shown, not judged
				t.Logf("%s: %s: %v", line(row.Stack, row.Way), s, got.Count)
			case got.Packets > limit.Packets || got.Bytes > limit.Bytes:
				t.Errorf("%s: %s costs %v, at most %v", line(row.Stack, row.Way), s, got.Count, limit)
			}
		}
		if row.Stack == "noctule" {
			ours++
		}
	}
	if ours != 2 {
		t.Errorf("%d rows of ours: %v", ours, r.Missing)
	}
	if why, ok := r.Missing["mosquitto"]; ok && os.Getenv("CI") == "true" {
		t.Errorf("mosquitto is missing: %s", why)
	}
}

// TestAbsent asks that a stack that cannot be started is left out and said so.
func TestAbsent(t *testing.T) {
	r, err := Measure(limited(t), Options{
		Noctule: filepath.Join(t.TempDir(), "none"), Only: []string{"noctule"}, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 0 || !strings.Contains(b.String(), "noctule is left out") {
		t.Errorf("%d rows\n%s", len(r.Rows), b.String())
	}
	fails := stack{name: "false", program: "false", ours: true, start: []string{"{program}"}}
	if v, err := fails.launch(limited(t), t.TempDir()); err == nil {
		v.stop()
		t.Error("a program that ends at once counts as started")
	}
}
