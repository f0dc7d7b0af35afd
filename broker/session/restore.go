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
// their order; those may be Away instead of having a Message.
func (s *Session) Restore(list []Change) {
	if s.out == nil {
		s.out = &outbound{base: 1}
	}
	o := s.out
	k := o.durableState()
	first, last := flying(list)
	for i := range list {
		k.seq = max(k.seq, list[i].Seq)
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
		if i > last || c.Grant.QoS == 0 && (c.Message != nil || c.Away != nil) {
			e.state = Waiting
			s.enqueue(o, e, c.Away)
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

// flying sorts list and returns the first and the last with a packet id; -1 if there are none.
func flying(list []Change) (first, last int) {
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Seq, b.Seq) })
	first, last = -1, -1
	for i := range list {
		if list[i].State == Waiting || list[i].ID == 0 {
			continue
		}
		if last = i; first < 0 {
			first = i
		}
	}
	return first, last
}

// Flying sorts list and returns those of which Restore needs the messages: they, and no others, will be in
// flight.
func Flying(list []Change) []Change {
	_, last := flying(list)
	return list[:last+1]
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
