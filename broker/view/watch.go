package view

import (
	"slices"
	"sync/atomic"
	"time"
)

// EventKind is what has happened to a client.
type EventKind uint8

// The kinds.
const (
	EventConnected    EventKind = iota // it was let in
	EventDisconnected                  // its connection has ended, for Reason
	EventSubscribed                    // to Filter, with QoS, or changed that
	EventUnsubscribed                  // from Filter
)

// String names the kind.
func (k EventKind) String() string {
	return [...]string{"connected", "disconnected", "subscribed", "unsubscribed"}[k]
}

// Event is something that has happened to a client. R is why connections end.
type Event[R any] struct {
	Kind   EventKind
	At     time.Time
	Client Client // as it was then; of EventDisconnected the connection that has ended
	Reason R
	Filter string // as the broker knows it, with the mount point
	QoS    uint8
	// Lost is how many events of this Watch were lost before this one, since it was not read fast enough.
	Lost int64
}

// Watch hears of events. It is made by Watches.Watch.
type Watch[R any] struct {
	// Set by Watches.Watch, then read-only:
	all *Watches[R]
	ch  chan Event[R]

	lost atomic.Int64 // Atomic: not told yet
}

// watchMax is how many events a Watch may hold.
const watchMax = 1 << 20

// Events is where they come, in the order of each client. It is never closed.
func (w *Watch[R]) Events() <-chan Event[R] { return w.ch }

// Close ends it. An event that is under way may still come.
func (w *Watch[R]) Close() {
	w.all.change(func(list []*Watch[R]) []*Watch[R] {
		return slices.DeleteFunc(list, func(x *Watch[R]) bool { return x == w })
	})
}

// put gives an event, or counts it as lost.
func (w *Watch[R]) put(e Event[R]) {
	e.Lost = w.lost.Swap(0)
	select {
	case w.ch <- e:
	default:
		w.lost.Add(e.Lost + 1)
	}
}

// Watches is those who watch. The zero value is nobody; safe for concurrent use.
type Watches[R any] struct {
	list atomic.Pointer[[]*Watch[R]] // nil while there is nobody
}

// Watch begins to hear of events. It holds so many until they are read, and counts those that it has no room
// for.
func (x *Watches[R]) Watch(hold int) *Watch[R] {
	w := &Watch[R]{all: x, ch: make(chan Event[R], min(max(hold, 1), watchMax))}
	x.change(func(list []*Watch[R]) []*Watch[R] { return append(list, w) })
	return w
}

// change replaces the list by what f makes of a copy of it.
func (x *Watches[R]) change(f func([]*Watch[R]) []*Watch[R]) {
	for {
		old := x.list.Load()
		var next []*Watch[R]
		if old != nil {
			next = slices.Clone(*old)
		}
		p := &next
		if next = f(next); len(next) == 0 {
			p = nil
		}
		if x.list.CompareAndSwap(old, p) {
			return
		}
	}
}

// Any reports whether anybody wants to know.
func (x *Watches[R]) Any() bool { return x.list.Load() != nil }

// Tell tells those who watch, and waits for nobody.
func (x *Watches[R]) Tell(e Event[R]) {
	if list := x.list.Load(); list != nil {
		for _, w := range *list {
			w.put(e)
		}
	}
}
