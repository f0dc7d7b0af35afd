package session

import (
	"sync/atomic"

	"noctule/broker/message"
	"noctule/internal/ring"
)

// A durable session need not hold the messages of its queue: a store has them. Above the bound of
// Limits.Memory the last entries of a queue are away, they have given their messages up and know only what
// Stored says. Delivery goes on to the first of them; then the session tells Wanted, and goes on when Supply
// has brought the messages. What the client sees is the same, a little later.

// Memory is a bound for the payload bytes that durable sessions hold in their queues, counted once for each
// queue. Sessions of several loops may share one. Set Bound before a session uses it.
type Memory struct {
	Bound int64

	used atomic.Int64
}

// Used is how many bytes are held. It may exceed the bound by what Supply has brought.
func (m *Memory) Used() int64 { return m.used.Load() }

// take counts n bytes if that is within the bound.
func (m *Memory) take(n int64) bool {
	if m.used.Add(n) <= m.Bound {
		return true
	}
	m.used.Add(-n)
	return false
}

// kept is what a durable session knows besides. Invariants, checked by the model tests:
//
//	queue[i] has no message  <=>  i >= queue.Len() - away.Len()
//	away                     <=>  the entries at the end of the queue, in their order
//	online && queue[0] is away, and could be sent  =>  asked
type kept struct {
	seq   uint64                     // of the last message
	away  ring.Ring[*message.Stored] // of the entries without a message
	bytes int64                      // their payloads
	asked bool                       // Wanted was told, and Supply has not been called since
}

// Supplied is a message that an entry gets back.
type Supplied struct {
	Seq     uint64
	Message *message.Message // kept, with its Stored
}

// When to ask for more messages: so many entries with their messages, and so many bytes of them, keep a
// client busy until Supply is called.
const (
	askAt      = 32
	askAtBytes = 64 << 10
)

// durableState is what a durable session knows besides, made on first use.
func (o *outbound) durableState() *kept {
	if o.kept == nil {
		o.kept = &kept{}
	}
	return o.kept
}

// nextSeq numbers a new message of a durable session.
func (o *outbound) nextSeq() uint64 {
	k := o.durableState()
	k.seq++
	return k.seq
}

// loaded is the number of entries of the queue that have their messages.
func (o *outbound) loaded() int {
	if o.kept == nil {
		return o.queue.Len()
	}
	return o.queue.Len() - o.kept.away.Len()
}

// enqueue adds e to the queue, with its message, or away when there is no room for that; st says what e is
// if it has no message.
func (s *Session) enqueue(o *outbound, e entry, st *message.Stored) {
	var size int64
	if e.m != nil {
		size, st = e.m.Size(), e.m.Stored
	} else {
		size = st.Size
	}
	o.queueBytes += size
	s.tally(1, size, 0)
	if s.durable && s.limits.Memory != nil {
		k := o.durableState()
		if k.away.Len() > 0 || e.m == nil || !s.limits.Memory.take(size) {
			e.m = nil
			k.away.Push(st)
			s.tallyAway(k, size)
		}
	}
	o.queue.Push(e)
}

// dequeue takes the first entry, which has its message, off the queue.
func (s *Session) dequeue(o *outbound) entry {
	e := o.queue.Pop()
	size := e.m.Size()
	o.queueBytes -= size
	s.tally(-1, -size, 0)
	if s.durable && s.limits.Memory != nil {
		s.limits.Memory.used.Add(-size)
	}
	return e
}

// dropAway removes the first entry, which is away, if it has expired.
func (s *Session) dropAway(o *outbound, now int64, sink Sink) bool {
	if !(*o.kept.away.At(0)).Expired(now) {
		return false
	}
	s.popAway(o, Expired, sink)
	return true
}

// popAway takes the first entry, which is away, off the queue, and tells why; Removed follows.
func (s *Session) popAway(o *outbound, why ChangeKind, sink Sink) {
	e := o.queue.Pop()
	st := o.kept.away.Pop()
	s.tallyAway(o.kept, -st.Size)
	o.queueBytes -= st.Size
	s.tally(-1, -st.Size, 0)
	c := e.change(why)
	c.Away = st
	if why != Removed {
		sink.Changed(c)
	}
	c.Kind = Removed
	sink.Changed(c)
}

// ask tells that messages are wanted, once.
func (s *Session) ask(o *outbound, sink Sink) {
	k := o.kept
	if k == nil || k.asked || k.away.Len() == 0 || !s.online {
		return
	}
	if o.loaded() <= askAt && o.queueBytes-k.bytes <= askAtBytes {
		k.asked = true
		sink.Changed(Change{Kind: Wanted})
	}
}

// Wants calls f for the entries that want their messages, first things first, until it returns false.
func (s *Session) Wants(f func(seq uint64, st *message.Stored) bool) {
	if s.out == nil || s.out.kept == nil {
		return
	}
	o := s.out
	from := o.loaded()
	for i := range o.kept.away.Len() {
		if !f(o.queue.At(from+i).seq, *o.kept.away.At(i)) {
			return
		}
	}
}

// Supply answers Wanted: it gives the first entries without a message theirs, in the order of Wants, and
// sends what waited. What is not wanted, or no longer, is left. An empty list lets the session ask again.
func (s *Session) Supply(list []Supplied, now int64, sink Sink) {
	if s.out == nil || s.out.kept == nil {
		return
	}
	o := s.out
	k := o.kept
	k.asked = false
	for i := range list {
		if k.away.Len() == 0 {
			break
		}
		e := o.queue.At(o.loaded())
		if e.seq != list[i].Seq {
			continue
		}
		size := k.away.Pop().Size
		e.m = list[i].Message
		s.tallyAway(k, -size)
		s.limits.Memory.used.Add(size)
	}
	s.drain(o, now, sink)
}

// giveUp gives all messages of the queue up.
func (s *Session) giveUp(o *outbound) {
	k := o.durableState()
	for i := o.loaded() - 1; i >= 0; i-- {
		e := o.queue.At(i)
		k.away.PushFront(e.m.Stored)
		s.tallyAway(k, e.m.Size())
		s.limits.Memory.used.Add(-e.m.Size())
		e.m = nil
	}
}

// AwayBytes is the payload bytes that wait and are not in memory, part of QueuedBytes.
func (s *Session) AwayBytes() int64 {
	if s.out == nil || s.out.kept == nil {
		return 0
	}
	return s.out.kept.bytes
}

// Stored calls f for each message that the session, which is durable, holds or has given up, in both
// directions.
func (s *Session) Stored(f func(st *message.Stored)) {
	if o := s.out; o != nil {
		for i := range o.flight.list.Len() {
			if m := o.flight.list.At(i).m; m != nil {
				f(m.Stored)
			}
		}
		for i := range o.loaded() {
			f(o.queue.At(i).m.Stored)
		}
		if o.kept != nil {
			for i := range o.kept.away.Len() {
				f(*o.kept.away.At(i))
			}
		}
	}
	if s.in != nil {
		for _, m := range s.in.held {
			if m != nil {
				f(m.Stored)
			}
		}
	}
}

// End gives up what the session, which is not used any more, counts in Limits.Memory and in the totals.
func (s *Session) End() {
	s.Forget()
	if s.durable && s.limits.Memory != nil && s.out != nil {
		s.limits.Memory.used.Add(s.AwayBytes() - s.out.queueBytes)
		s.out = nil
	}
}
