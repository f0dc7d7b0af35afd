package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"noctule/bench"
)

func TestRetainedCommand(t *testing.T) {
	r := report(t, "retained", "-u", serve(t), "-c3", "-n200", "--duration=30s", "--fail=lost>0", "--fail=p99>20s")
	if r.Stored != 200 || r.TotalReceived != 600 || r.Latency.Count != 3 || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
}

func TestStormCommand(t *testing.T) {
	url := serve(t)
	r := report(t, "storm", "-u", url, "-c20", "--fail=failed>0", "--fail=p99>20s")
	if x := r.Return; x.Cut != 20 || x.Returned != 20 || x.Resumed != 0 {
		t.Errorf("%+v", x)
	}
	r = report(t, "storm", "-u", url, "-c20", "--persistent", "--return-rate=200")
	if x := r.Return; x.Returned != 20 || x.Resumed != 20 || x.Time < 90e6 {
		t.Errorf("%+v", x)
	}
	if code, _, _ := command(t, "storm", "-u", url, "--retries=-1"); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	_, out, _ := command(t, "storm", "-u", url, "-c5", "--quiet")
	for _, want := range []string{"5 clients, 5 returned, 0 did not", "all back", "return latency"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestSoakCommand(t *testing.T) {
	code, out, log := command(t, "soak", "-u", serve(t), "-c5", "--rate=20", "--churn=0.5", "--period=500ms", "--warmup=0s",
		"--duration=4s", "--pid", strconv.Itoa(os.Getpid()), "--fail=lost>0", "--fail=failed>0")
	if code != exitOK || !strings.Contains(out, "memory slope") || !strings.Contains(out, "cut ") {
		t.Errorf("exit code %d\n%s\n%s", code, out, log)
	}
}

func TestSlowCommand(t *testing.T) {
	r := report(t, "slow", "-u", serve(t), "--subscribers=10", "--share=0.2", "--speed=2000", "--rate=50", "--size=500",
		"--warmup=0s", "--duration=2s", "--fail=lost>0")
	if r.Aside == nil || r.Aside.Clients != 2 || r.TotalReceived != 8*r.TotalSent || r.Aside.Received >= 2*r.TotalSent {
		t.Errorf("%+v", r.Aside)
	}
}

func TestBadScenarios(t *testing.T) {
	for _, args := range [][]string{
		{"slow", "--share=1"},
		{"slow", "--speed=0"},
		{"soak", "--churn=-1"},
		{"retained", "-n0"},
		{"retained", "--size=3"},
		{"preset"},
		{"preset", "nonsense"},
		{"preset", "conn-tcp-10k-100", "--scale=0"},
	} {
		if code, _, log := command(t, args...); code != exitUsage {
			t.Errorf("%v: exit code %d, %s", args, code, log)
		}
	}
}

// The standard names mean what the suite says.
func TestPresets(t *testing.T) {
	_, out, _ := command(t, "preset", "--list")
	for name, want := range map[string]struct {
		clients, groups int
		perSecond       float64 // delivered
	}{
		"conn-tcp-10k-100":                    {10000, 1, 0},
		"fanout-1-1k-1-1k":                    {1001, 2, 1000},
		"p2p-1k-1k-1k-1k":                     {2000, 2, 1000},
		"sharedsub-1k-5-1k-1k":                {1005, 2, 1000},
		"conn-tcp-1M-5K":                      {1000000, 1, 0},
		"fanout-5-1000-5-250K":                {1005, 2, 250000},
		"p2p-50K-50K-50K-50K":                 {100000, 2, 50000},
		"sharedsub-50K-500-50K-50K":           {50500, 2, 50000},
		"singlenode-sharesub-50k-500-50k-50k": {50500, 2, 50000},
	} {
		p, ok := findPreset(name)
		if !ok {
			t.Errorf("no %s", name)
			continue
		}
		plan, clients := p.plan(bench.Load{Duration: 1})
		n, rate := 0, 0.0
		for _, g := range plan.Groups {
			n += g.Count
			rate += g.Rate * float64(g.Count)
		}
		if p.kind == presetFanout {
			rate *= float64(p.subscribers)
		}
		if clients != want.clients || n != want.clients || len(plan.Groups) != want.groups || rate != want.perSecond {
			t.Errorf("%s: %d clients, %d in groups, %g/s", name, clients, n, rate)
		}
		if !strings.Contains(out, p.name) {
			t.Errorf("%s is not listed", p.name)
		}
	}
}

// A preset scaled down runs, and all of its messages are accounted for.
func TestPresetScaled(t *testing.T) {
	url := serve(t)
	for name, clients := range map[string]int{"p2p-1k-1k-1k-1k": 20, "sharedsub-1k-5-1k-1k": 11, "fanout-1-1k-1-1k": 11, "conn-tcp-10k-100": 100} {
		args := []string{"preset", name, "-u", url, "--scale=0.01", "--warmup=0s", "--duration=1500ms", "--fail=lost>0", "--fail=failed>0"}
		if strings.HasPrefix(name, "conn") {
			args = append(args, "-R200")
		}
		r := report(t, args...)
		if r.Clients != clients || r.Connected != int64(clients) || r.Lost != 0 || clients < 100 && r.Latency.Count == 0 ||
			!strings.Contains(r.Name, "x 0.01") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
