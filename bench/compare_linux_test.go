package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1}, 1}, {[]float64{9, 1, 4}, 4}, {[]float64{4, 3, 2, 1}, 2},
	} {
		before := slices.Clone(c.in)
		if got := median(c.in); got != c.want || !slices.Equal(before, c.in) {
			t.Errorf("median(%v) = %v, want %v", before, got, c.want)
		}
	}
}

// Ratios are of the same round, whichever rounds failed.
func TestRatios(t *testing.T) {
	reference := &Cell{Rounds: []int{1, 3, 4}, Values: []float64{10, 20, 0}}
	c := &Cell{Rounds: []int{1, 2, 3, 4}, Values: []float64{5, 100, 40, 7}}
	c.settle(reference)
	if c.Value != 7 || c.Ratio != 0.5 || c.Low != 0.5 || c.High != 2 {
		t.Errorf("%+v", c)
	}
	reference.settle(reference)
	if reference.Ratio != 1 || reference.Low != 1 || reference.High != 1 {
		t.Errorf("%+v", reference)
	}
	for _, none := range []*Cell{nil, {}} {
		c := &Cell{Rounds: []int{1}, Values: []float64{5}}
		c.settle(none)
		if c.Value != 5 || c.Ratio != 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestUnusable(t *testing.T) {
	for want, r := range map[string]Report{
		"1 of 2 clients could not connect: a": {
			Clients: 2, Failed: 1, Received: 1, Failures: map[string]int64{"b": 1, "a": 1},
		},
		"1 of 2 connections were ended": {Clients: 2, Ended: 1, Received: 1},
		"no message was delivered":      {Clients: 2},
	} {
		if err := r.unusable(false); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	idle, busy := Report{}, Report{Received: 1}
	if err := errors.Join(idle.unusable(true), busy.unusable(false)); err != nil {
		t.Error(err)
	}
}

// built is a broker of the program of this repository.
func built(t *testing.T, name string) Broker {
	t.Helper()
	program := filepath.Join(t.TempDir(), "noctule")
	out, err := exec.Command("go", "build", "-o", program, "noctule/cmd/noctule").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf := "listener {tcp} 127.0.0.1\nlistener {ws} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"
	return Broker{
		Name: name, Start: program + " -c {dir}/c", Version: program + " --version", WebSocket: true,
		Files: map[string]string{"c": conf},
	}
}

// scratch makes temporary directories appear in a directory of the test, which must be empty at its end.
func scratch(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func anywhere(t *testing.T) CompareOptions {
	return CompareOptions{
		Reference: "one", Rounds: 2, BrokerCPU: -1, GeneratorCPU: -1, Log: func(line string) { t.Log(line) },
	}
}

func TestCompare(t *testing.T) {
	one := built(t, "one")
	two := one
	two.Name = "two"
	scratch(t)
	two.WebSocket = false
	dead := Broker{Name: "dead", Start: "sh -c false"}
	load := Load{Window: 4, Duration: 100 * time.Millisecond}
	quiet := load.Idle(20)
	quiet.Duration = 0
	scenarios := []Scenario{
		{Name: "idle", Memory: true, Plan: quiet},
		{Name: "pairs", Plan: load.Pairs(3)},
		{Name: "pairs", Plan: load.Pairs(3), WebSocket: true},
		{Name: "aside", Plan: load.Pairs(3), Reference: "two"},
	}
	only := one
	only.Name, only.Scenarios = "only", []string{"aside"}
	absent := Broker{Name: "absent", Start: "/nowhere/at/all"}
	needy := Broker{Name: "needy", Start: "sh", Needs: []string{"{peers}/none"}}
	c, err := Compare(context.Background(), []Broker{one, two, dead, absent, needy, only}, scenarios, anywhere(t))
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Versions; len(v) != 6 || v[0].Version == "" || v[3].Missing == "" || v[4].Missing == "" {
		t.Errorf("%+v", v)
	}
	for _, r := range c.Rows {
		for name, rounds := range map[string]int{"one": 2, "two": 2, "dead": 0} {
			cell := r.Cells[name]
			if name == "two" && strings.HasSuffix(r.Key, "WebSocket") {
				rounds = 0
			}
			if len(cell.Values) != rounds || rounds == 0 && len(cell.Notes) == 0 {
				t.Errorf("%s, %s: %+v", r.Key, name, cell)
			}
		}
		reference, cell := "one", r.Cells["one"]
		if r.Key == "aside, TCP" {
			reference, cell = "two", r.Cells["two"]
		}
		if cell.Ratio != 1 && cell.Value != 0 || r.Reference != reference { // with little work, no tick of the clock
			t.Errorf("%s: %+v", r.Key, cell)
		}
		if cell := r.Cells["only"]; (cell != nil) != (reference == "two") {
			t.Errorf("%s: %+v", r.Key, cell)
		}
	}
	var text bytes.Buffer
	if err := c.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"absent: left out", "| idle, TCP, B/client |", "no WebSocket", "ended", `"aside, TCP" are to two`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if raw, err := json.Marshal(c); err != nil || !bytes.Contains(raw, []byte("protocol websockets")) {
		t.Errorf("%v: %s", err, raw)
	}
	checkPage(t, c)
}

// checkPage asks that the page has everything and needs nothing from elsewhere.
func checkPage(t *testing.T, c *Comparison) {
	t.Helper()
	var page bytes.Buffer
	if err := c.HTML(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{
		"protocol websockets", "absent", "left out", c.Machine.Kernel, c.Versions[0].Hash, "{dir}/c",
		"no WebSocket",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if plots := strings.Count(text, "<svg"); plots != 2*len(c.Rows) { // wide and narrow
		t.Errorf("%d plots of %d scenarios", plots, len(c.Rows))
	}
	for _, bad := range []string{"<script", "<link", "<img", "src=", "href=", "NaN", "Inf"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s in the page", bad)
		}
	}
}

// What a broker says is no markup, in either report.
func TestReportsEscape(t *testing.T) {
	c := &Comparison{
		Versions: []Peer{{Name: "<b>", Files: map[string]string{"f": "</pre><script>"}}},
		Rows: []Row{{Key: "k", Cells: map[string]*Cell{
			"<b>": {Failed: 1, Notes: []string{"<i>a|b\nc" + strings.Repeat("ä", 100)}},
		}}},
	}
	var page, table bytes.Buffer
	if err := errors.Join(c.HTML(&page), c.Markdown(&table)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<b>", "<script", "<i>"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("%s in\n%s", bad, &page)
		}
	}
	if !strings.Contains(table.String(), `a\|b c`) {
		t.Errorf("%s", &table)
	}
}

// Rounds stop at the budget, but each scenario has one.
func TestBudget(t *testing.T) {
	one := built(t, "one")
	scratch(t)
	o := anywhere(t)
	o.Rounds, o.Budget = 100, time.Nanosecond
	quiet := Load{}.Idle(1)
	quiet.Duration = 0
	c, err := Compare(context.Background(), []Broker{one}, []Scenario{{Name: "a", Memory: true, Plan: quiet}}, o)
	if err != nil || len(c.Rows) != 1 || len(c.Rows[0].Cells["one"].Values) != 1 {
		t.Errorf("%v, %+v", err, c)
	}
}

// daemon is a broker that never listens, leaves its process group and does not care for SIGTERM.
var daemon = Broker{
	Name: "one", Start: "sh {dir}/run", StartWait: 60,
	Files: map[string]string{"run": "trap '' TERM\nsetsid sleep 1000 &\necho begun >{dir}/begun\nsleep 1000\n"},
}

// Cancel ends a comparison at once, and nothing of the broker is left, be it running or about to start.
func TestCancel(t *testing.T) {
	running := built(t, "one")
	for name, b := range map[string]Broker{"running": running, "starting": daemon} {
		t.Run(name, func(t *testing.T) {
			scratch(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			began := make(chan []int, 1)
			go func() { // ends when the broker has begun, or the test
				for ctx.Err() == nil {
					dirs, _ := filepath.Glob(os.TempDir() + "/bench-*")
					for _, dir := range dirs {
						if pids := marked(dir); len(pids) > 0 && (name == "running" || len(pids) > 2) {
							began <- pids
							cancel()
							return
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			plan := Load{Rate: 1, Duration: time.Minute}.Pairs(1)
			_, err := Compare(ctx, []Broker{b}, []Scenario{{Name: "a", Plan: plan}}, anywhere(t))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			for _, pid := range <-began {
				if raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); len(raw) > 0 {
					t.Errorf("process %d is left: %q", pid, raw)
				}
			}
		})
	}
}

// A cancel while brokers tell their versions is no reason to leave them out.
func TestCancelBeforeTheFirstBroker(t *testing.T) {
	scratch(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := Broker{Name: "one", Start: "sleep 1000", Version: "echo 1"}
	c, err := Compare(ctx, []Broker{b}, []Scenario{{Name: "a", Plan: Load{}.Idle(1)}}, anywhere(t))
	if !errors.Is(err, context.Canceled) || len(c.Versions) > 0 {
		t.Errorf("%v, %+v", err, c)
	}
}

// What the version command leaves is ended too.
func TestVersionLeavesNothing(t *testing.T) {
	scratch(t)
	file := filepath.Join(t.TempDir(), "pid")
	script := filepath.Join(t.TempDir(), "version")
	text := "setsid sleep 1000 >/dev/null 2>&1 &\necho $! >" + file + "\necho 1.2\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := host{opts: anywhere(t)}
	p := h.describe(context.Background(), Broker{Name: "x", Start: "sh", Version: "sh " + script})
	pid, err := os.ReadFile(file)
	if err != nil || p.Version != "1.2" {
		t.Fatalf("%v, %+v", err, p)
	}
	if raw, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline"); len(raw) > 0 {
		t.Errorf("left: %q", raw)
	}
}

// The accounting of a process has its children's in it, also of those in a session of their own.
func TestUsageCountsChildren(t *testing.T) {
	scratch(t)
	h := host{opts: anywhere(t)}
	b := Broker{Name: "family", Start: "sh {dir}/run", Files: map[string]string{
		"run": "setsid sh -c 'while :; do :; done' &\nsleep 1000\n",
	}}
	p, err := h.launch(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	const busy = 100 * time.Millisecond
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		own, err := usageOf(p.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		all, err := UsageOf(p.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if all.CPU > busy && own.CPU < busy && all.Threads >= 3 && all.Resident > own.Resident {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("own %+v, all %+v", own, all)
		}
	}
}
