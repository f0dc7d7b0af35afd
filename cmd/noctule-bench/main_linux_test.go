package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noctule/bench"
	"noctule/broker"
	"noctule/wsnet"
)

// serve starts a broker in this process and returns its URL.
func serve(t *testing.T) string {
	t.Helper()
	o := broker.DefaultOptions()
	o.Log = slog.New(slog.DiscardHandler)
	o.MaxQueuedMessages = 0
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	l, err := b.Listen(broker.ListenerOptions{
		AllowAnonymous: true, MaxQoS: 2, MaxTopicAlias: 10,
		Net: wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return "mqtt://" + l.Addr().String()
}

// bounded is a context for runs that take seconds.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// command runs the program in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	code = run(bounded(t), args, &out, &log)
	return code, out.String(), log.String()
}

// report runs the program, which must go well, and reads what it wrote with --json.
func report(t *testing.T, args ...string) *bench.Report {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	code, out, log := command(t, append(args, "--json="+file, "--quiet")...)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, log)
	}
	return readReport(t, file)
}

func TestBadOptions(t *testing.T) {
	for text, args := range map[string][]string{
		"unknown scheme":        {"conn", "--url=http://x"},
		"no host":               {"conn", "--url=mqtt://"},
		"unknown flag":          {"conn", "--nonsense"},
		"is not METRIC":         {"conn", "--fail=p99"},
		"no metric":             {"conn", "--fail=p98>1ms"},
		"wants a unit":          {"conn", "--fail=p99>5"},
		"is not a number":       {"conn", "--fail=lost>few"},
		"cpu wants --pid":       {"conn", "--fail=cpu>1"},
		"unexpected argument x": {"x"},
	} {
		if code, _, log := command(t, args...); code != exitUsage || !strings.Contains(log, text) {
			t.Errorf("%v: exit code %d, %s", args, code, log)
		}
	}
}

// Each gate that holds ends the program with 1 and says why; each that does not lets it pass.
func TestGates(t *testing.T) {
	url := serve(t)
	short := []string{"p2p", "-u", url, "-c2", "--rate=50", "--warmup=0s", "--duration=300ms", "--quiet"}
	code, _, log := command(t, append(short, "--fail", "p50>1h", "--fail", "lost>0", "--fail", "rate<1")...)
	if code != exitOK {
		t.Errorf("exit code %d: %s", code, log)
	}
	code, _, log = command(t, append(short, "--fail", "p999 > 1ns", "--fail", "rate>=1", "--fail", "lost>0")...)
	if code != exitFailed || !strings.Contains(log, "gate p999 > 1ns: it is ") || !strings.Contains(log, "rate>=1") ||
		strings.Contains(log, "lost") {
		t.Errorf("exit code %d: %s", code, log)
	}
}

func TestGateOperators(t *testing.T) {
	r := &bench.Report{
		Lost: 5, Duplicated: 1, Reordered: 2, Failed: 3, Ended: 4, Measured: time.Second, Received: 1, ReceivedRate: 100,
		Broker:  bench.BrokerUse{CPU: 0.5},
		Latency: bench.Percentiles{Count: 1, P50: 1e6, P90: 2e6, P99: 3e6, P999: 4e6, Max: 5e6},
	}
	for text, holds := range map[string]bool{
		"lost>4": true, "lost>5": false, "lost>=5": true, "lost<5": false, "lost<=5": true, "lost==5": true,
		"lost!=5": false, "duplicated==1": true, "reordered==2": true, "failed==7": true, "rate<100": false,
		"cpu>0.4": true, "p50==1ms": true, "p90==2ms": true, "p99==3ms": true, "p999==4ms": true, "max==5ms": true,
		" p99 > 2.9ms ": true, "p99>3ms": false,
	} {
		g, err := parseGate(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := g.check(r); (err != nil) != holds {
			t.Errorf("%s: %v", text, err)
		}
	}
	g, err := parseGate("p99>1h")
	if err != nil {
		t.Fatal(err)
	}
	if g.check(&bench.Report{Measured: time.Second}) == nil {
		t.Error("a latency that was not measured passes")
	}
}

func TestRedact(t *testing.T) {
	got := strings.Join(redact([]string{"p2p", "-P", "secret", "-Psecret", "--password=secret", "--password", "secret", "-c1", "--url=mqtt://me:secret@x:1"}), " ")
	if want := "p2p -P *** -P*** --password=*** --password *** -c1 --url=mqtt://***@x:1"; got != want {
		t.Errorf("got %s", got)
	}
}

// While clients connect a terminal shows a bar, then lines.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b, 10, true)
	p.second(bench.Second{Phase: "connect", Connected: 4, Failed: 1})
	p.second(bench.Second{Phase: "measure", Connected: 10})
	p.second(bench.Second{Phase: "measure", Connected: 10})
	if got := b.String(); !strings.Contains(got, "5/10") || strings.Count(got, "measure") != 2 ||
		strings.LastIndex(got, "connect") > strings.Index(got, "measure") {
		t.Errorf("%q", got)
	}
	b.Reset()
	p = newProgress(&b, 10, false)
	p.second(bench.Second{Phase: "connect", Connected: 4})
	if got := b.String(); !strings.Contains(got, "4 clients") || strings.ContainsAny(got, "\r\x1b") {
		t.Errorf("%q", got)
	}
	if isTerminal(io.Discard) {
		t.Error("nothing is a terminal")
	}
}
