//go:build invariants

package wsnet

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// keeper hands out the connections it gets.
type keeper struct{ conns chan *Conn }

func (k keeper) Opened(c *Conn)                          { k.conns <- c }
func (k keeper) Data(_ *Conn, b []byte) (used, need int) { return len(b), 0 }
func (k keeper) Closed(*Conn, error)                     {}

// TestOwner calls what is for a loop's goroutine from another one, on the loop, and after its end.
func TestOwner(t *testing.T) {
	for _, portable := range []bool{false, true} {
		k := keeper{make(chan *Conn, 1)}
		s, err := New(Config{
			Loops: 1, Portable: portable, Log: slog.New(slog.DiscardHandler),
			NewHandler: func(*Loop) Handler { return k },
		})
		if err != nil {
			t.Fatal(err)
		}
		nc := dial(t, listen(t, s, loopback()))
		c := <-k.conns
		l := c.Loop()
		entries := map[string]func(){
			"Now": func() { l.Now() }, "Again": func() { l.Again(TaskFunc(func(*Loop) {})) },
			"PauseReads": func() { l.PauseReads(false) }, "Reserve": func() { c.Reserve(0) },
			"Write": func() { c.Write(nil) }, "WriteShared": func() { c.WriteShared(nil) },
			"Flush": c.Flush, "Buffered": func() { c.Buffered() }, "Blocked": func() { c.Blocked() },
			"Hold": c.Hold, "Held": func() { c.Held() }, "Move": func() { c.Move(l, nil) },
			"Release": func() { c.Release(l, nil) }, "Arrived": c.Arrived,
			"Progress": func() { c.Progress() }, "Close": func() { c.Close(nil) },
		}
		for name, f := range entries {
			if got := panics(f); !strings.Contains(got, "is entered by goroutine") {
				t.Errorf("%s on a wrong goroutine: %q", name, got)
			}
		}
		done := make(chan string)
		l.MustPost(TaskFunc(func(*Loop) {
			done <- panics(func() {
				c.Write([]byte("x"))
				deep(50, l.MustBeHere) // on a stack that has grown
				c.Close(nil)
			})
		}))
		if got := <-done; got != "" {
			t.Errorf("on the loop: %s", got)
		}
		if b, err := io.ReadAll(nc); string(b) != "x" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := panics(func() { l.Now() }); got != "" {
			t.Errorf("after the end: %s", got)
		}
	}
}

// panics is what f panics with, "" for nothing.
func panics(f func()) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

// deep calls f from n frames of 4 KB.
func deep(n int, f func()) byte {
	var room [4096]byte
	room[n] = byte(n)
	if n == 0 {
		f()
		return 0
	}
	return deep(n-1, f) + room[n]
}
