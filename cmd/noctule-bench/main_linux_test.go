package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"noctule/bench"
	"noctule/broker"
	"noctule/internal/version"
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

// Two runs beside each other have other client ids, and in MQTT 3.1 they stay within 23 characters.
func TestOwnPrefix(t *testing.T) {
	if a, b := ownPrefix("p2p", 4), ownPrefix("p2p", 4); a == b || !strings.HasPrefix(a, "p2p-") {
		t.Errorf("%s, %s", a, b)
	}
	if p := ownPrefix("retained", 3); len(p)+len("-1234567") > 23 {
		t.Errorf("%s is too long", p)
	}
	url := serve(t)
	done := make(chan int)
	go func() {
		code, _, _ := command(t, "sub", "-u", url, "-d", "500ms", "--quiet")
		done <- code
	}()
	code, _, log := command(t, "pub", "-u", url, "-r", "20", "--warmup=0s", "-d", "500ms", "--quiet", "--fail", "failed>0")
	if other := <-done; code != exitOK || other != exitOK {
		t.Errorf("exit codes %d and %d: %s", code, other, log)
	}
}

// A broker's address is understood in every usual form.
func TestTargetForms(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:1883": "localhost:1883", "localhost": "localhost:1883", "mqtt://h": "h:1883", "tcp://h:7": "h:7",
		"[::1]:99": "[::1]:99", "mqtt://[::1]": "[::1]:1883", "ssl://h": "h:8883", "mqtts://h": "h:8883",
		"ws://h": "h:80", "wss://h/x": "h:443", "unix:///run/m.sock": "/run/m.sock",
	} {
		f := targetFlags{URL: text}
		if target, err := f.target("p2p", 1); err != nil || target.Address != want {
			t.Errorf("%s: %s, %v", text, target.Address, err)
		}
	}
}

// A run in which nobody was there has failed.
func TestNobodyThere(t *testing.T) {
	for text, r := range map[string]*bench.Report{
		"nobody connected: refused": {Clients: 2, Failed: 2, Failures: map[string]int64{"refused": 2}},
		"all 2 connections":         {Clients: 2, Connected: 2, Ended: 2},
		"nobody came back":          {Clients: 2, Connected: 2, Return: &bench.Return{Cut: 2, Failed: 2}},
	} {
		if err := alive(r); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
	for _, r := range []*bench.Report{{Clients: 2, Connected: 2}, {Clients: 2, Connected: 1, Failed: 1}} {
		if err := alive(r); err != nil {
			t.Error(err)
		}
	}
	code, _, log := command(t, "conn", "-u", "127.0.0.1:1", "-c2", "--quiet")
	if code != exitFailed || !strings.Contains(log, "nobody connected: ") {
		t.Errorf("exit code %d: %s", code, log)
	}
}

// Sessions of --persistent are gone after the run, unless they are to stay.
func TestPersistentCleansUp(t *testing.T) {
	for _, keep := range []bool{false, true} {
		o := broker.DefaultOptions()
		o.Log = slog.New(slog.DiscardHandler)
		b, err := broker.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
		l, err := b.Listen(broker.ListenerOptions{
			AllowAnonymous: true, MaxQoS: 2, Net: wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []string{"-V3", "-V4", "-V5"} {
			args := []string{
				"p2p", "-u", l.Addr().String(), "-c3", version, "--persistent", "-q1", "-r50", "--warmup=0s", "-d200ms", "--quiet",
			}
			if keep {
				args = append(args, "--keep-sessions")
			}
			if code, _, log := command(t, args...); code != exitOK {
				t.Fatalf("exit code %d: %s", code, log)
			}
		}
		want := int64(0)
		if keep {
			want = 18
		}
		deadline := time.Now().Add(10 * time.Second)
		for b.Metrics(t.Context()).Sessions != want && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if got := b.Metrics(t.Context()).Sessions; got != want {
			t.Errorf("keep %v: %d sessions, want %d", keep, got, want)
		}
	}
}

// typeNames are what kong calls a value that has no name.
var typeNames = regexp.MustCompile(`^(STRING|U?INT(-\d+)?|FLOAT-\d+)\b`)

// Every command has its help, in 80 columns, and every example in it is a line that the program takes.
func TestHelp(t *testing.T) {
	parser, err := line(io.Discard, io.Discard).Parser(&commands{}, func(int) {}, settings(t.Context(), &output{})...)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range parser.Model.Children {
		code, text, log := command(t, node.Name, "--help")
		if code != exitOK || log != "" || !strings.HasPrefix(text, "Usage: noctule-bench "+node.Name) {
			t.Errorf("%s --help: exit code %d, %s\n%s", node.Name, code, log, text)
		}
		if code, same, _ := command(t, "help", node.Name); node.Name != "help" && (code != exitOK || same != text) {
			t.Errorf("help %s: exit code %d\n%s", node.Name, code, same)
		}
		for line := range strings.Lines(text) {
			if len(line) > 81 && !strings.HasPrefix(line, "  noctule-bench ") { // an example is one line
				t.Errorf("%s: %d columns: %s", node.Name, len(line)-1, line)
			}
		}
		for _, f := range node.Flags {
			if f.Help == "" {
				t.Errorf("%s: --%s has no help", node.Name, f.Name)
			}
			if kind := f.FormatPlaceHolder(); typeNames.MatchString(kind) {
				t.Errorf("%s: the value of --%s is called %s", node.Name, f.Name, kind)
			}
		}
		_, list, ok := strings.Cut(text, "\nExamples:\n")
		if !ok && node.Name != "help" {
			t.Errorf("%s has no example", node.Name)
		}
		for line := range strings.Lines(list) {
			line = strings.NewReplacer("$(pidof noctule)", "1", "QoS 1", "QoS-1", "'", "").Replace(line)
			words := strings.Fields(line)
			if words[0] != "noctule-bench" || words[1] != node.Name {
				t.Errorf("%s: %s", node.Name, line)
				continue
			}
			if _, err := parser.Parse(words[1:]); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		code, text, log := command(t, arg)
		if code != exitOK || !strings.HasPrefix(text, "noctule-bench "+version.Release) || log != "" {
			t.Errorf("%s: exit code %d %s%s", arg, code, text, log)
		}
	}
}

// What is mistyped gets a guess.
func TestTypos(t *testing.T) {
	for line, want := range map[string]string{
		"pbu":                     "unexpected argument pbu. Did you mean pub?\nTry 'noctule-bench --help'.",
		"pub --rat 5":             "unknown flag --rat. Did you mean --rate?\nTry 'noctule-bench pub --help'.",
		"sub --urll x":            "unknown flag --urll. Did you mean --url?\nTry 'noctule-bench sub --help'.",
		"help comprae":            "unexpected argument comprae. Did you mean compare?\nTry 'noctule-bench --help'.",
		"conn -c many":            `--clients: expected a valid 64 bit int but got "many"` + "\nTry 'noctule-bench conn --help'.",
		"conn -X":                 "unknown flag -X\nTry 'noctule-bench conn --help'.",
		"preset p2p-1k":           "bad option: no preset \"p2p-1k\". Did you mean p2p-1k-1k-1k-1k? --list prints them",
		"preset nothing":          "bad option: no preset \"nothing\"; --list prints them",
		"compare --only noctul":   "bad option --only: no broker \"noctul\". Did you mean noctule? There are noctule, mosquitto, ",
		"compare --scenario idel": "bad option --scenario: none has \"idel\" in its name. There are:\n  ",
	} {
		code, _, log := command(t, strings.Fields(line)...)
		if code != exitUsage || !strings.HasPrefix(log+"\n", "noctule-bench: "+want) {
			t.Errorf("%s: exit code %d, %q, want %q", line, code, log, want)
		}
	}
}
