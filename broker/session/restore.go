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
		s.out = &outbound{}
	}
	o := s.out
	k := o.durableState()
	last := flying(list)
	for i := range list {
		c := &list[i]
		k.seq = max(k.seq, c.Seq)
		e := entry{
			m: c.Message, seq: c.Seq, subID: c.Grant.SubscriptionID, state: c.State, flags: c.Grant.flags(),
		}
		hasMessage := c.Message != nil || c.Away != nil
		switch {
		case i > last || c.Grant.QoS == 0 && hasMessage:
			e.state = Waiting
			s.enqueue(o, e, c.Away)
		case o.flight.list.Len() == flightMax: // no broker has written this
			if e.state = Waiting; hasMessage {
				s.enqueue(o, e, c.Away)
			}
		default:
			if c.ID != 0 && c.State != Waiting {
				e.id = c.ID
			} else if e.state = WaitAck; c.Grant.QoS == 2 {
				e.state = WaitRec
			}
			o.flight.list.Push(e)
		}
	}
	if last >= 0 {
		o.flight.adopt(list[last].ID)
	}
}

// flying sorts list and returns the place of the last with a packet id; -1 if there is none.
func flying(list []Change) int {
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Seq, b.Seq) })
	for i, v := range slices.Backward(list) {
		if v.State != Waiting && v.ID != 0 {
			return i
		}
	}
	return -1
}

// Flying sorts list and returns those of which Restore needs the messages: they, and no others, will be in
// flight.
func Flying(list []Change) []Change { return list[:flying(list)+1] }

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
