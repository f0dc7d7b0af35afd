package session

import (
	"noctule/broker/message"
	"noctule/codec"
)

// inbound holds QoS 2 messages between PUBLISH and PUBREL. They are passed on at PUBREL, as Mosquitto does.
type inbound struct {
	held  map[uint16]*message.Message // nil value: known and not to be passed on
	bytes int64
}

// Receive takes a QoS 2 PUBLISH with its packet id and answers PUBREC. A repeated id is answered again and
// its message is not taken a second time [MQTT-4.3.3-10]. With r >= 0x80 the message is refused and its id
// is free again.
func (s *Session) Receive(id uint16, m *message.Message, r codec.Reason, sink Sink) error {
	if s.in != nil {
		if _, ok := s.in.held[id]; ok {
			sink.SendAck(codec.PUBREC, id, codec.Success)
			return nil
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
		l.UnreleasedBytes > 0 && s.in.bytes > 0 && m != nil && s.in.bytes+m.Held() > l.UnreleasedBytes {
		return &codec.Error{
			Reason: codec.ReceiveMaximumExceeded, Packet: codec.PUBLISH,
			Detail: "too many QoS 2 messages without PUBREL",
		}
	}
	if m != nil {
		m = m.Keep()
		s.in.bytes += m.Held()
	}
	s.in.held[id] = m
	if s.durable {
		sink.Changed(Change{Kind: Held, ID: id, Message: m})
	}
	sink.SendAck(codec.PUBREC, id, r)
	return nil
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
