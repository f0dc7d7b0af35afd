package crash

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"noctule/broker/message"
	"noctule/internal/testlog"
)

// faulty panics when it is shown.
type faulty struct{}

func (faulty) Error() string { panic("one more") }

// A panic is told once, with what says what went on, also where that panics in its turn, or the value does; the loops
// stop before, and the log is flushed.
func TestReport(t *testing.T) {
	for _, tt := range []struct {
		what  func() string
		value any
		loop  int
		want  []string
	}{
		{func() string { return "in a test" }, "a fault", 3, []string{`panic on loop 3, the broker ends: "a fault"`, "it came in a test"}},
		{func() string { panic("broken") }, errors.New("x"), OffLoops, []string{"panic off the loops", "it came in what cannot be described: broken"}},
		{func() string { return "" }, faulty{}, 0, []string{"panic on loop 0", "PANIC"}},
		{func() string { return "" }, strings.Repeat("x", 2*textMax), 0, []string{strings.Repeat("x", textMax) + `"`}},
	} {
		h := &testlog.Messages{}
		order := ""
		r := Reporter{
			Log: slog.New(h), Flush: func() { order += "flush" }, Stop: func(loop int) { order += fmt.Sprint(loop, " ") },
		}
		r.Report(tt.loop, tt.what, tt.value, []byte("goroutine 1\n\tfile.go:1"))
		text := strings.Join(h.Text, "\n")
		for _, want := range append(tt.want, "goroutine 1\n    file.go:1") {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if order != fmt.Sprint(tt.loop, " flush") {
			t.Errorf("the order was %q", order)
		}
	}
}

// What goes on behind a Guard is told and panics on; without a panic nothing is told.
func TestGuard(t *testing.T) {
	h := &testlog.Messages{}
	r := Reporter{Log: slog.New(h), Stop: func(int) {}}
	func() {
		defer r.Guard(func() string { return "nowhere" })
	}()
	if len(h.Text) != 0 {
		t.Errorf("%q", h.Text)
	}
	defer func() {
		if v := recover(); v != "a fault" || len(h.Text) == 0 || h.Text[1] != "Error: it came by a client" {
			t.Errorf("%v: %q", v, h.Text)
		}
	}()
	defer r.Guard(func() string { return "by a client" })
	panic("a fault")
}

// A message that is being delivered is told with its publisher and its bytes, but for a request to the server.
func TestSceneOfADelivery(t *testing.T) {
	s := Scene{FromWhom: func() string { return "client \"far\" [a]" }}
	if got := s.String(); got != "" {
		t.Errorf("nothing: %q", got)
	}
	s.Message = message.New([]byte("t"), []byte("payload"), 0, false)
	want := "while delivering a message of client \"far\" [a] with topic \"t\" and a payload of 7 bytes" +
		"\nError: 0000: 70 61 79 6c 6f 61 64"
	if got := s.String(); got != want {
		t.Errorf("%q", got)
	}
	s.Message = message.New([]byte("$CONTROL/x"), []byte("secret"), 0, false)
	if got := s.String(); strings.Contains(got, "73 65 63") {
		t.Errorf("%q", got)
	}
	if got := dump(nil, make([]byte, dumpMax+3)); !strings.HasSuffix(got, "\nError: and 3 bytes more") ||
		strings.Count(got, "\n") != dumpMax/32+1 {
		t.Errorf("%q", got)
	}
}
