package logs

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// gate is a destination that can be held up.
type gate struct {
	mu      sync.Mutex
	text    strings.Builder
	entered chan struct{} // told of each write
	open    chan struct{} // closed to let writes through
}

func newGate() *gate { return &gate{entered: make(chan struct{}, 100), open: make(chan struct{})} }

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	default:
	}
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(b)
}

func (g *gate) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

func TestSlowDestinationHoldsNobodyUp(t *testing.T) {
	g := newGate()
	const size = 64
	h, err := New(conf.Log{}, Options{Stderr: g, Queue: size})
	if err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelNotice, "first")
	<-g.entered // the writer is stuck with it
	const lines = 100
	for i := range lines {
		say(t, h, broker.LevelNotice, fmt.Sprint("n", i))
	}
	say(t, h, broker.LevelError, "serious") // has room of its own
	room := size - size/8
	if got := h.Dropped(); got != int64(lines-room) {
		t.Errorf("%d dropped, want %d", got, lines-room)
	}
	close(g.open)
	h.Close()
	var b strings.Builder
	b.WriteString("first\n")
	for i := range room {
		fmt.Fprintf(&b, "n%d\n", i)
	}
	fmt.Fprintf(&b, "serious\nWarning: %d log lines were dropped: a log destination is too slow.\n", lines-room)
	want := b.String()
	if got := g.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	say(t, h, broker.LevelError, "too late")
	if got := g.String(); got != want {
		t.Errorf("after Close: %q", got)
	}
}

func TestGapIsTold(t *testing.T) {
	g := newGate()
	h, err := New(conf.Log{}, Options{Stderr: g, Queue: 8})
	if err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelError, "first")
	<-g.entered
	for i := range 10 {
		say(t, h, broker.LevelError, fmt.Sprint(i))
	}
	close(g.open)
	if err := h.between(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelError, "later")
	h.Close()
	want := "first\n0\n1\n2\n3\n4\n5\n6\n7\nWarning: 2 log lines were dropped: a log destination is too slow.\nlater\n"
	if got := g.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFlushWaits tests that Flush returns behind the lines, and does not wait for a destination that hangs.
func TestFlushWaits(t *testing.T) {
	g := newGate()
	h, err := New(conf.Log{}, Options{Stderr: g, Queue: 8})
	if err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelError, "why it crashes")
	h.Flush(time.Millisecond)
	if got := g.String(); got != "" {
		t.Errorf("%q is through", got)
	}
	close(g.open)
	h.Flush(time.Minute)
	if got, want := g.String(), "why it crashes\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	h.Close()
}

// TestStuckDestinationDoesNotKeepTheProgram has a destination that never takes anything.
func TestStuckDestinationDoesNotKeepTheProgram(t *testing.T) {
	g := newGate()
	file := filepath.Join(t.TempDir(), "x.log")
	h, err := New(conf.Log{Dest: []string{"stderr"}, File: file}, Options{Stderr: g, Queue: 8})
	if err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelError, "first")
	<-g.entered
	if err := h.Reopen(); err != errStuck {
		t.Errorf("Reopen: %v", err)
	}
	start := time.Now()
	h.Close()
	if d := time.Since(start); d > 3*patience {
		t.Errorf("Close took %v", d)
	}
	close(g.open)
}

// TestQueueKeepsOrderAroundReopen moves the file away while lines are under way.
func TestQueueKeepsOrderAroundReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.log")
	h, err := New(conf.Log{File: file}, Options{Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for k := range 5 {
		var b strings.Builder
		for i := range 50 {
			say(t, h, broker.LevelError, fmt.Sprint(k, " ", i))
			fmt.Fprintln(&b, k, i)
		}
		want = append(want, b.String())
		old := fmt.Sprint(file, ".", k)
		if err := h.between(func() error { return os.Rename(file, old) }); err != nil {
			t.Fatal(err)
		}
		if err := h.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	for k, w := range want {
		if got := read(t, fmt.Sprint(file, ".", k)); got != w {
			t.Errorf("file %d: %q", k, got)
		}
	}
}

func TestTopicDestination(t *testing.T) {
	h, _, stderr := open(t, conf.Log{Dest: []string{"topic", "stderr"}, Timestamp: true}, Options{Verbose: true})
	say(t, h, broker.LevelInfo, "before there is a broker")
	var got []string
	h.PublishTo(func(topic string, line []byte) { got = append(got, topic+" "+string(line)) })
	for _, l := range []slog.Level{
		broker.LevelError, broker.LevelWarning, broker.LevelNotice, broker.LevelInfo, broker.LevelSubscribe,
		broker.LevelUnsubscribe, broker.LevelWebSockets, broker.LevelDebug, broker.LevelInternal,
	} {
		say(t, h, l, "x")
	}
	var b strings.Builder
	for _, s := range []string{"E", "W", "N", "I", "M/subscribe", "M/unsubscribe", "WS"} {
		b.WriteString("$SYS/broker/log/" + s + " 1709215505: x\n")
	}
	want := b.String()
	if g := strings.Join(got, "\n") + "\n"; g != want {
		t.Errorf("%q, want %q", g, want)
	}
	if n := strings.Count(stderr.String(), "\n"); n != 10 {
		t.Errorf("%d lines on stderr", n)
	}
	h, _, _ = open(t, conf.Log{}, Options{})
	h.PublishTo(func(string, []byte) { t.Error("published without log_dest topic") })
	say(t, h, broker.LevelError, "x")
}

func TestJSON(t *testing.T) {
	h, _, stderr := open(t, conf.Log{JSON: true, Timestamp: true}, Options{Verbose: true})
	names := map[string]slog.Level{
		"error": broker.LevelError, "warning": broker.LevelWarning, "notice": broker.LevelNotice,
		"information": broker.LevelInfo, "debug": broker.LevelDebug, "subscribe": broker.LevelSubscribe,
		"unsubscribe": broker.LevelUnsubscribe, "websockets": broker.LevelWebSockets, "internal": broker.LevelInternal,
	}
	for name, level := range names {
		stderr.Reset()
		say(t, h, level, "Client \"x\"\n\x01 disconnected.")
		var got struct {
			Time       time.Time
			Level, Msg string
		}
		if err := json.Unmarshal(stderr.Bytes(), &got); err != nil {
			t.Fatalf("%v: %q", err, stderr)
		}
		if got.Level != name || got.Msg != "Client \"x\"\n\x01 disconnected." || !got.Time.Equal(at) {
			t.Errorf("%s: %+v", name, got)
		}
		if strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("not one line: %q", stderr)
		}
	}
	h, _, stderr = open(t, conf.Log{JSON: true}, Options{})
	say(t, h, broker.LevelError, strings.Repeat("é", 1000))
	if want := `{"level":"error","msg":"` + strings.Repeat("é", 500) + "\"}\n"; stderr.String() != want {
		t.Errorf("%.100q", stderr)
	}
}

func TestConfigure(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	h, err := New(conf.Log{File: a}, Options{Queue: 100})
	if err != nil {
		t.Fatal(err)
	}
	l := slog.New(h)
	l.Error("1")
	l.Debug("hidden")
	err = h.Configure(conf.Log{File: b, Types: map[string]bool{"debug": true}}, Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	l.Error("hidden")
	l.Debug("2")
	if err := h.Configure(conf.Log{File: filepath.Join(dir, "no", "such")}, Options{Stderr: io.Discard}); err == nil {
		t.Error("no error for a file that cannot be opened")
	}
	l.Error("to stderr")
	h.Close()
	if x, y := read(t, a), read(t, b); x != "1\n" || y != "2\n" {
		t.Errorf("%q and %q", x, y)
	}
}

func BenchmarkHandle(b *testing.B) {
	h, err := New(conf.Log{Timestamp: true, Dest: []string{"stderr"}}, Options{Stderr: io.Discard, Queue: 8192})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	l := slog.New(h)
	for b.Loop() {
		l.Error("New client connected from 127.0.0.1:50948 as ID (p4, c1, k60, u'alice').")
	}
}
