package session

import (
	"cmp"
	"slices"

	"noctule/broker/message"
)

// A durable session tells every change of its state, and can be made again from what it has told.

// SetDurable makes the session tell its changes from now on; it must be empty.
func (s *Session) SetDurable() { s.durable = true }

// Durable reports whether the session tells its changes.
func (s *Session) Durable() bool { return s.durable }

// Restore gives an empty durable session the outgoing messages that it has told of: of each the last Stored,
// Moved or Yielded. A message that was sent with QoS 1 out of the queue has no packet id here; it gets one
// that no QoS 2 handshake has. Messages that are not certain to have been sent wait in the queue again, in
// their order.
func (s *Session) Restore(list []Change) {
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Seq, b.Seq) })
	if s.out == nil {
		s.out = &outbound{base: 1}
	}
	o := s.out
	first, last := -1, -1 // those with a packet id
	for i := range list {
		o.seq = max(o.seq, list[i].Seq)
		if list[i].State == Waiting || list[i].ID == 0 {
			continue
		}
		if last = i; first < 0 {
			first = i
		}
	}
	if first >= 0 {
		// What was before the first had an earlier id.
		o.base = idAt(list[first].ID, 65535-min(first, maxSpan))
	}
	for i := range list {
		c := &list[i]
		e := entry{
			m: c.Message, seq: c.Seq, subID: c.Grant.SubscriptionID, qos: c.Grant.QoS, state: c.State,
			retain: c.Grant.Retain,
		}
		if i > last || c.Grant.QoS == 0 && c.Message != nil {
			e.state = Waiting
			o.queue.Push(e)
			o.queueBytes += e.m.Size()
			continue
		}
		if c.ID != 0 && c.State != Waiting {
			o.pad(c.ID)
		} else if e.state = WaitAck; e.qos == 2 {
			e.state = WaitRec
		}
		o.flight.Push(e)
	}
}

// pad fills the flight with what has been acknowledged, up to a packet id.
func (o *outbound) pad(id uint16) {
	gap := int(id) - int(idAt(o.base, o.flight.Len()))
	if gap < 0 {
		gap += 65535
	}
	for ; gap > 0 && o.flight.Len() < maxSpan; gap-- {
		o.flight.Push(entry{state: done})
	}
}

// RestoreHeld gives an empty durable session an incoming QoS 2 packet id that it has told of.
func (s *Session) RestoreHeld(id uint16, m *message.Message) {
	if s.in == nil {
		s.in = &inbound{held: make(map[uint16]*message.Message)}
	}
	s.in.held[id] = m
	if m != nil {
		s.in.bytes += m.Held()
	}
}

// Messages calls f for each message that the session holds, in both directions: when the session ends.
func (s *Session) Messages(f func(m *message.Message)) {
	if o := s.out; o != nil {
		for i := range o.flight.Len() {
			if m := o.flight.At(i).m; m != nil {
				f(m)
			}
		}
		for i := range o.queue.Len() {
			f(o.queue.At(i).m)
		}
	}
	if s.in != nil {
		for _, m := range s.in.held {
			if m != nil {
				f(m)
			}
		}
	}
}
