//go:build invariants

package wsnet

import (
	"bytes"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// owner is the goroutine that runs a loop.
type owner struct {
	// Atomic:
	id   atomic.Uint64            // 0 while it does not run
	seen [8]atomic.Uintptr        // blocks of its stack, in this turn, by their lowest bits
	text atomic.Pointer[[64]byte] // to ask the runtime with; nil while somebody does
}

// stackBlock is the size of the smallest stack, as a power of two: a block of a stack is of one goroutine.
const stackBlock = 11

// enter makes the calling goroutine the owner.
func (o *owner) enter() { o.id.Store(o.goroutine()) }

// exit ends enter: the loop is anybody's, as it was before.
func (o *owner) exit() { o.id.Store(0) }

// turn begins a turn: the stack may have moved, and its old place may be another goroutine's.
func (o *owner) turn() {
	for i := range o.seen {
		o.seen[i].Store(0)
	}
}

// MustBeHere panics unless the caller is the loop's goroutine, or the loop does not run.
func (l *Loop) MustBeHere() {
	if l == nil {
		return // a connection that no loop has got
	}
	o := &l.owner
	id := o.id.Load()
	if id == 0 {
		return
	}
	var here byte
	block := uintptr(unsafe.Pointer(&here)) >> stackBlock
	seen := &o.seen[block%uintptr(len(o.seen))]
	if seen.Load() == block { // asking the runtime takes microseconds
		return
	}
	if now := o.goroutine(); now != id {
		panic(fmt.Sprintf("wsnet: loop %d is entered by goroutine %d, it belongs to %d", l.index, now, id))
	}
	seen.Store(block)
}

// goroutine is the number of the caller's goroutine, as a stack trace begins with it.
func (o *owner) goroutine() uint64 {
	buf := o.text.Swap(nil)
	if buf == nil {
		buf = new([64]byte)
	}
	defer o.text.Store(buf)
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	var n uint64
	for _, c := range text[:bytes.IndexByte(text, ' ')] {
		n = 10*n + uint64(c-'0')
	}
	return n
}
