package session

import (
	"bytes"

	"noctule/broker/message"
	"noctule/codec"
)

// inbound holds QoS 2 messages between PUBLISH and PUBREL. They are passed on at PUBREL, as Mosquitto does.
type inbound struct {
	held  map[uint16]*message.Message // nil value: known and not to be passed on
	bytes int64
}

// Receive takes a QoS 2 PUBLISH with its packet id and answers PUBREC. When it repeats the message that waits
// for PUBREL it is answered again and not taken a second time [MQTT-4.3.3-10]. With r >= 0x80 the message is
// refused and its id is free again.
//
// Another message under an id that waits for PUBREL comes from a client that has lost its state; it takes the
// place of the one that waits, as in Mosquitto.
func (s *Session) Receive(id uint16, m *message.Message, r codec.Reason, sink Sink) error {
	return s.receive(id, m, m, r, sink)
}

// ReceiveDenied is Receive for a message that goes nowhere, from a client that cannot be told so.
func (s *Session) ReceiveDenied(id uint16, m *message.Message, sink Sink) error {
	return s.receive(id, m, nil, codec.Success, sink)
}

// receive takes m, of which keep is passed on at PUBREL.
func (s *Session) receive(id uint16, m, keep *message.Message, r codec.Reason, sink Sink) error {
	if s.in != nil {
		if old, ok := s.in.held[id]; ok {
			if old == nil && keep == nil || old != nil && same(old, m) {
				sink.SendAck(codec.PUBREC, id, codec.Success)
				return nil
			}
			s.supersede(id, old, sink)
		}
	}
	if r >= 0x80 {
		sink.SendAck(codec.PUBREC, id, r)
		return nil
	}
	if s.in == nil {
		s.in = &inbound{held: make(map[uint16]*message.Message)}
	}
	l := s.limits
	if l.Unreleased > 0 && len(s.in.held) >= l.Unreleased ||
		l.UnreleasedBytes > 0 && s.in.bytes > 0 && keep != nil && s.in.bytes+keep.Held() > l.UnreleasedBytes {
		return &codec.Error{
			Reason: codec.ReceiveMaximumExceeded, Packet: codec.PUBLISH,
			Detail: "too many QoS 2 messages without PUBREL",
		}
	}
	if keep != nil {
		keep = keep.Keep()
		s.in.bytes += keep.Held()
	}
	s.in.held[id] = keep
	if s.durable {
		sink.Changed(Change{Kind: Held, ID: id, Message: keep})
	}
	sink.SendAck(codec.PUBREC, id, r)
	return nil
}

// same reports whether b may be a, sent again: what Mosquitto compares.
func same(a, b *message.Message) bool {
	return bytes.Equal(a.Topic, b.Topic) && bytes.Equal(a.Payload, b.Payload)
}

// Repeats reports whether m is the message that waits for PUBREL under a packet id: Receive changes nothing.
func (s *Session) Repeats(id uint16, m *message.Message) bool {
	return s.in != nil && s.in.held[id] != nil && same(s.in.held[id], m)
}

// supersede frees an incoming packet id whose message gives way to another.
func (s *Session) supersede(id uint16, old *message.Message, sink Sink) {
	delete(s.in.held, id)
	if old != nil {
		s.in.bytes -= old.Held()
	}
	if len(s.in.held) == 0 {
		s.in = nil
	}
	sink.Changed(Change{Kind: Superseded, ID: id, Message: old})
}

// Release takes a PUBREL: it returns the message that is to be passed on now (nil: none) and the reason for
// the PUBCOMP that the caller sends after it [MQTT-4.3.3-11].
func (s *Session) Release(id uint16, sink Sink) (m *message.Message, r codec.Reason) {
	if s.in == nil {
		return nil, codec.PacketIdentifierNotFound
	}
	m, ok := s.in.held[id]
	if !ok {
		return nil, codec.PacketIdentifierNotFound
	}
	delete(s.in.held, id)
	if s.durable {
		sink.Changed(Change{Kind: Released, ID: id, Message: m})
	}
	if m != nil {
		s.in.bytes -= m.Held()
	}
	if len(s.in.held) == 0 {
		s.in = nil
	}
	return m, codec.Success
}

// Unreleased is the number of incoming QoS 2 messages that wait for PUBREL.
func (s *Session) Unreleased() int {
	if s.in == nil {
		return 0
	}
	return len(s.in.held)
}
