package session

import "noctule/broker/message"

// Rest is what Bequeath leaves.
type Rest uint8

// The values of Rest.
const (
	NoneLeft Rest = iota
	SomeLeft
	AwayLeft // the next message is not in memory: Wanted was told, Supply brings it
)

// Bequeath takes up to n messages out of a session that has ended, the oldest first, and calls f for each
// that came by a shared subscription and is to go to another member of that (MQTT 5, 4.8.2): what waits, and
// what was sent with QoS 1. What was sent with QoS 2 must not [MQTT-4.8.2-5]. That a message is no longer
// this session's is told after f has returned.
func (s *Session) Bequeath(n int, sink Sink, f func(m *message.Message, share uint8)) Rest {
	o := s.out
	if o == nil {
		return NoneLeft
	}
	for ; n > 0; n-- {
		switch {
		case o.flight.list.Len() > 0:
			if e := o.flight.list.At(0); e.share() != 0 && e.qos() == 1 && e.m != nil {
				f(e.m, e.share())
			}
			s.finish(o, 0, sink)
		case o.queue.Len() == 0:
			return NoneLeft
		case o.loaded() > 0:
			e := s.dequeue(o)
			if e.share() != 0 && e.qos() > 0 {
				f(e.m, e.share())
			}
			s.removed(&e, sink)
		case o.queue.At(0).share() == 0:
			s.popAway(o, Removed, sink)
		default:
			if !o.kept.asked {
				o.kept.asked = true
				sink.Changed(Change{Kind: Wanted})
			}
			return AwayLeft
		}
	}
	if o.flight.list.Len()+o.queue.Len() > 0 {
		return SomeLeft
	}
	return NoneLeft
}
