package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// at is the time of all lines in these tests.
var at = time.Date(2024, 2, 29, 14, 5, 5, 0, time.UTC)

// say logs one line at a level if the handler wants it.
func say(t *testing.T, h *Handler, level slog.Level, text string) {
	t.Helper()
	if !h.Enabled(context.Background(), level) {
		return
	}
	if err := h.Handle(context.Background(), slog.NewRecord(at, level, text, 0)); err != nil {
		t.Fatal(err)
	}
}

// open is New, with buffers for the standard streams.
func open(t *testing.T, cfg conf.Log, o Options) (h *Handler, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	o.Stdout, o.Stderr = stdout, stderr
	h, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return h, stdout, stderr
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestDestinations(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a b.log")
	const line = "1709215505: hello\n"
	tests := []struct {
		name                 string
		cfg                  conf.Log
		stdout, stderr, file string
	}{
		{"default", conf.Log{}, "", line, ""},
		{"stdout", conf.Log{Dest: []string{"stdout"}}, line, "", ""},
		{"stderr", conf.Log{Dest: []string{"stderr"}}, "", line, ""},
		{"both", conf.Log{Dest: []string{"stdout", "stderr"}}, line, line, ""},
		{"file", conf.Log{File: file}, "", "", line},
		{"file and stdout", conf.Log{Dest: []string{"stdout"}, File: file}, line, "", line},
		{"none", conf.Log{None: true}, "", "", ""},
		{"none, then stdout", conf.Log{None: true, Dest: []string{"stdout"}}, line, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_ = os.Remove(file)
			tt.cfg.Timestamp = true
			h, stdout, stderr := open(t, tt.cfg, Options{})
			say(t, h, broker.LevelNotice, "hello")
			if stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
			if tt.cfg.File != "" && read(t, file) != tt.file {
				t.Errorf("file %q", read(t, file))
			}
		})
	}
}

func TestTypes(t *testing.T) {
	all := map[string]slog.Level{
		"debug": broker.LevelDebug, "unsubscribe": broker.LevelUnsubscribe, "subscribe": broker.LevelSubscribe,
		"information": broker.LevelInfo, "notice": broker.LevelNotice, "warning": broker.LevelWarning,
		"error": broker.LevelError,
	}
	set := func(names ...string) map[string]bool {
		m := map[string]bool{}
		for _, n := range names {
			m[n] = true
		}
		return m
	}
	every := strings.Fields("debug error information notice subscribe unsubscribe warning")
	tests := []struct {
		name  string
		types map[string]bool
		o     Options
		want  []string
	}{
		{"default", nil, Options{}, strings.Fields("error information notice warning")},
		{"none", set(), Options{}, nil},
		{"all", set(conf.LogTypes()...), Options{}, every},
		{"-v", nil, Options{Verbose: true}, every},
		{"-v over log_type", set("error"), Options{Verbose: true}, every},
		{"-q over log_type", set("error"), Options{Quiet: true}, nil},
		{"-q over -v", nil, Options{Quiet: true, Verbose: true}, nil},
	}
	for n := range all {
		tests = append(tests, struct {
			name  string
			types map[string]bool
			o     Options
			want  []string
		}{n, set(n), Options{}, []string{n}})
	}
	for _, tt := range tests {
		h, _, stderr := open(t, conf.Log{Types: tt.types}, tt.o)
		for n, level := range all {
			say(t, h, level, n)
		}
		got := strings.Fields(stderr.String())
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestLineFormat(t *testing.T) {
	long := strings.Repeat("x", 2000)
	tests := []struct {
		cfg        conf.Log
		text, want string
	}{
		{conf.Log{Timestamp: true}, "a", "1709215505: a"},
		{conf.Log{Timestamp: true, TimestampFormat: "%Y-%m-%dT%H:%M:%S"}, "a", "2024-02-29T14:05:05: a"},
		{conf.Log{TimestampFormat: "%F"}, "a", "a"},
		{conf.Log{}, "", ""},
		{conf.Log{}, long, long[:1000]},
		{conf.Log{Timestamp: true}, long, "1709215505: " + long[:1000-12]},
	}
	for _, tt := range tests {
		h, _, stderr := open(t, tt.cfg, Options{})
		say(t, h, broker.LevelError, tt.text)
		if got := stderr.String(); got != tt.want+"\n" {
			t.Errorf("%+v: %.60q", tt.cfg, got)
		}
	}
	h, _, stderr := open(t, conf.Log{}, Options{})
	l := slog.New(h).WithGroup("g").With("a", 1)
	l.Warn("text", "key", "v")
	if got := stderr.String(); got != "text key=v\n" {
		t.Errorf("attributes: %q", got)
	}
}

// TestStrftime has what date(1) prints in the C locale.
func TestStrftime(t *testing.T) {
	const format = "%Y|%y|%m|%d|%e|%H|%I|%M|%S|%p|%a|%A|%b|%B|%h|%z|%Z|%F|%T|%D|%R|%c|%j|%x|%X|%r|%s|%C|%G|%g|%V|%U|%W|%u|%w|%k|%l|%P|%%"
	for unix, want := range map[int64]string{
		1709215505: "2024|24|02|29|29|14|02|05|05|PM|Thu|Thursday|Feb|February|Feb|+0000|UTC|2024-02-29|14:05:05|02/29/24|14:05|Thu Feb 29 14:05:05 2024|060|02/29/24|14:05:05|02:05:05 PM|1709215505|20|2024|24|09|08|09|4|4|14| 2|pm|%",
		1735430399: "2024|24|12|28|28|23|11|59|59|PM|Sat|Saturday|Dec|December|Dec|+0000|UTC|2024-12-28|23:59:59|12/28/24|23:59|Sat Dec 28 23:59:59 2024|363|12/28/24|23:59:59|11:59:59 PM|1735430399|20|2024|24|52|51|52|6|6|23|11|pm|%",
		1704067200: "2024|24|01|01| 1|00|12|00|00|AM|Mon|Monday|Jan|January|Jan|+0000|UTC|2024-01-01|00:00:00|01/01/24|00:00|Mon Jan  1 00:00:00 2024|001|01/01/24|00:00:00|12:00:00 AM|1704067200|20|2024|24|01|00|01|1|1| 0|12|am|%",
		1735603200: "2024|24|12|31|31|00|12|00|00|AM|Tue|Tuesday|Dec|December|Dec|+0000|UTC|2024-12-31|00:00:00|12/31/24|00:00|Tue Dec 31 00:00:00 2024|366|12/31/24|00:00:00|12:00:00 AM|1735603200|20|2025|25|01|52|53|2|2| 0|12|am|%",
		1609459200: "2021|21|01|01| 1|00|12|00|00|AM|Fri|Friday|Jan|January|Jan|+0000|UTC|2021-01-01|00:00:00|01/01/21|00:00|Fri Jan  1 00:00:00 2021|001|01/01/21|00:00:00|12:00:00 AM|1609459200|20|2020|20|53|00|00|5|5| 0|12|am|%",
	} {
		if got := strftime(format, time.Unix(unix, 0).UTC()); got != want {
			t.Errorf("%d:\n got %s\nwant %s", unix, got, want)
		}
	}
	for format, want := range map[string]string{
		"": "", "plain": "plain", "%": "%", "100%": "100%", "%Q": "%Q", "a%nb%tc": "a\nb\tc", "%%Y": "%Y",
		"January 2006": "January 2006",
	} {
		if got := strftime(format, at); got != want {
			t.Errorf("%q: %q", format, got)
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.log")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, _, _ := open(t, conf.Log{File: file}, Options{})
	say(t, h, broker.LevelError, "1")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelError, "2")
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	say(t, h, broker.LevelError, "3")
	if a, b := read(t, file+".1"), read(t, file); a != "old\n1\n2\n" || b != "3\n" {
		t.Errorf("%q and %q", a, b)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := h.Reopen(); err == nil || !strings.HasPrefix(err.Error(), "Unable to open log file "+file+" for writing: ") {
		t.Errorf("%v", err)
	}
	say(t, h, broker.LevelError, "into the file that is gone")
	h, _, _ = open(t, conf.Log{}, Options{})
	if err := h.Reopen(); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

func TestUnopenableFile(t *testing.T) {
	var out bytes.Buffer
	cfg := conf.Log{File: "/does/not/exist.log", Dest: []string{"stdout"}}
	h, err := New(cfg, Options{Stdout: &out, Stderr: io.Discard})
	if h == nil || err == nil || !strings.Contains(err.Error(), "Unable to open log file /does/not/exist.log for writing: ") {
		t.Fatalf("%v", err)
	}
	say(t, h, broker.LevelError, "still here")
	if out.String() != "still here\n" {
		t.Errorf("%q", out.String())
	}
}

// TestUnopenableOnlyFile: who has no other destination sees errors, and errors only, on stderr, after a reload
// as at the start.
func TestUnopenableOnlyFile(t *testing.T) {
	var out bytes.Buffer
	cfg, o := conf.Log{File: "/does/not/exist.log"}, Options{Verbose: true, Stdout: io.Discard, Stderr: &out}
	h, err := New(cfg, o)
	if err == nil {
		t.Fatal("it can be opened")
	}
	say(t, h, broker.LevelError, "told")
	say(t, h, broker.LevelWarning, "not told")
	if err := h.Configure(cfg, o); err == nil {
		t.Fatal("it can be opened")
	}
	say(t, h, broker.LevelError, "told again")
	if out.String() != "told\ntold again\n" {
		t.Errorf("%q", out.String())
	}
}

// TestLinesStayWhole writes from many goroutines while the file is reopened.
func TestLinesStayWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.log")
	h, stdout, _ := open(t, conf.Log{File: file, Dest: []string{"stdout"}}, Options{})
	const writers, lines = 8, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range lines {
				say(t, h, broker.LevelError, fmt.Sprintf("writer %d line %d", w, i))
			}
		})
	}
	for range 20 {
		if err := h.Reopen(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	whole := regexp.MustCompile(`^(writer \d line \d+\n)+$`)
	for name, text := range map[string]string{"file": read(t, file), "stdout": stdout.String()} {
		if n := strings.Count(text, "\n"); n != writers*lines || !whole.MatchString(text) {
			t.Errorf("%s: %d lines", name, n)
		}
	}
}
