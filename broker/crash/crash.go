// Package crash tells of a panic before it ends the process. What a panic has left half done may be state
// that loops share, and nobody goes on with that; but the log and stderr first say whose packet it was, so
// that the operator can keep that client away; see docs/adr/0012.
package crash

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"noctule/broker/line"
)

// AskPatience is how long what says what went on may ask others.
const AskPatience = 500 * time.Millisecond

const (
	patience = time.Second // for log and stderr
	dumpMax  = 256         // bytes of a packet that are shown
	textMax  = 1000        // bytes of the panic's value that are shown
)

// Reporter reports the first panic. Its methods may be called from any goroutine.
type Reporter struct {
	// Set by whoever makes it, then read-only:
	Log   *slog.Logger
	Flush func()           // returns when Log has written; nil: it does so at once
	Stop  func(except int) // stops all loops but one for good: what they share may be broken

	crashing atomic.Bool // Atomic: a goroutine has panicked
}

// OffLoops stands for the number of a loop where a panic came on none.
const OffLoops = -1

// Guard is deferred by goroutines that work for one client off the loops: it reports a panic and goes on with
// it. what says what they did.
func (r *Reporter) Guard(what func() string) {
	value := recover()
	if value == nil {
		return
	}
	r.Report(OffLoops, what, value, debug.Stack())
	panic(value)
}

// Report reports a panic on a loop. A second goroutine that panics waits here, so that the report of the
// first is whole.
func (r *Reporter) Report(loop int, what func() string, value any, stack []byte) {
	if r.crashing.Swap(true) {
		time.Sleep(2 * (patience + AskPatience)) // rather the process has ended by then
		return
	}
	where := "off the loops"
	if loop != OffLoops {
		where = fmt.Sprintf("on loop %d", loop)
	}
	text := fmt.Sprint(value) // survives a panic in it
	head := fmt.Sprintf("Error: panic %s, the broker ends: %q\nError: it came %s\n",
		where, text[:min(len(text), textMax)], safely(what))
	r.Stop(loop)
	r.write(head, stack)
}

// safely is what f says, which looks at state that may be broken.
func safely(f func() string) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("in what cannot be described: %v", v)
		}
	}()
	return f()
}

// write writes to stderr and the log, which may hang, or be what has panicked: the end waits for neither
// longer than its patience. Go writes the stack to stderr when the panic goes on.
func (r *Reporter) write(head string, stack []byte) {
	done := make(chan struct{}, 2)
	part := func(f func()) {
		defer func() {
			_ = recover() // one panic is enough
			done <- struct{}{}
		}()
		f()
	}
	go part(func() { _, _ = os.Stderr.WriteString(head) }) // ends with the process
	go part(func() {                                       // ends with the process
		for text := range strings.Lines(head + string(stack)) {
			text = strings.ReplaceAll(strings.TrimRight(text, "\n"), "\t", "    ")
			line.Write(r.Log, line.Error, "%s", text)
		}
		if r.Flush != nil {
			r.Flush()
		}
	})
	end := time.NewTimer(patience)
	defer end.Stop()
	for range cap(done) {
		select {
		case <-done:
		case <-end.C:
			return
		}
	}
}
