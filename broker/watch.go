package broker

import (
	"slices"
	"sync/atomic"
	"time"

	"noctule/codec"
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

// Event is something that has happened to a client.
type Event struct {
	Kind   EventKind
	At     time.Time
	Client Client // as it was then; of EventDisconnected the connection that has ended
	Reason EndReason
	Filter string // as the broker knows it, with the mount point
	QoS    uint8
	// Lost is how many events of this Watch were lost before this one, since it was not read fast enough.
	Lost int64
}

// Watch hears of events. It is made by Broker.Watch.
type Watch struct {
	// Set by Broker.Watch, then read-only:
	b  *Broker
	ch chan Event

	lost atomic.Int64 // Atomic: not told yet
}

// watchMax is how many events a Watch may hold.
const watchMax = 1 << 20

// Watch begins to hear of what happens to clients: subscriptions that servers make are not among it. It holds
// so many events until they are read, and counts those that it has no room for; nothing waits for it. While
// nobody watches, events cost a comparison each, and messages never anything. Any goroutine.
func (b *Broker) Watch(hold int) *Watch {
	w := &Watch{b: b, ch: make(chan Event, min(max(hold, 1), watchMax))}
	b.watching.change(func(list []*Watch) []*Watch { return append(list, w) })
	return w
}

// Events is where they come, in the order of each client. It is never closed.
func (w *Watch) Events() <-chan Event { return w.ch }

// Close ends it. An event that is under way may still come.
func (w *Watch) Close() {
	w.b.watching.change(func(list []*Watch) []*Watch {
		return slices.DeleteFunc(list, func(x *Watch) bool { return x == w })
	})
}

// put gives an event, or counts it as lost. Any loop.
func (w *Watch) put(e Event) {
	e.Lost = w.lost.Swap(0)
	select {
	case w.ch <- e:
	default:
		w.lost.Add(e.Lost + 1)
	}
}

// watching is those who watch; nil while there is nobody.
type watching struct {
	list atomic.Pointer[[]*Watch]
}

// change replaces the list by what f makes of a copy of it.
func (x *watching) change(f func([]*Watch) []*Watch) {
	for {
		old := x.list.Load()
		var next []*Watch
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

// watched reports whether anybody wants to know.
func (s *shard) watched() bool { return s.b.watching.list.Load() != nil }

// tellEvent tells those who watch of an event of cl, which is connected.
func (s *shard) tellEvent(cl *client, e Event) {
	list := s.b.watching.list.Load()
	if list == nil {
		return
	}
	e.At, e.Client = time.UnixMilli(s.b.clock.source.Wall()), s.clientOf(cl)
	for _, w := range *list {
		w.put(e)
	}
}

// tellSubscribed tells of one subscription.
func (s *shard) tellSubscribed(cl *client, f *codec.Filter, granted codec.Reason) {
	if s.watched() {
		s.tellEvent(cl, Event{Kind: EventSubscribed, Filter: string(f.Name), QoS: uint8(granted)})
	}
}
