package message

import (
	"encoding/binary"

	"noctule/codec"
)

// Delivery is what differs between the receivers of one message.
type Delivery struct {
	// PacketID is used when QoS > 0.
	PacketID uint16
	// QoS is the granted one, 0 to 2.
	QoS uint8
	// Dup and Retain are the flags of the outgoing packet.
	Dup, Retain bool
	// SubscriptionID is that of the matching subscription; 0 means none (MQTT 5).
	SubscriptionID uint32
	// Alias is the outgoing Topic Alias; 0 means none (MQTT 5). With AliasOnly the topic is left out.
	Alias     uint16
	AliasOnly bool
}

// Heads encodes the PUBLISH packets of one message up to the payload, each wire shape at most once: MQTT 3
// or 5, with or without packet id. Flags and packet id are patched by whoever copies. Owned by one loop;
// reused for each message.
type Heads struct {
	m    *Message
	now  int64
	buf  []byte
	head [4]span
	own  []byte // the head that was made for one receiver
}

type span struct{ from, to int }

// Reset points h at m; now is in Unix milliseconds, for the remaining Message Expiry Interval
// [MQTT-3.3.2-6].
func (h *Heads) Reset(m *Message, now int64) {
	h.m, h.now = m, now
	h.buf = h.buf[:0]
	h.head = [4]span{}
}

// Release forgets the message: its loan ends.
func (h *Heads) Release() { h.m = nil }

// Message is the one that Reset was given.
func (h *Heads) Message() *Message { return h.m }

// Head returns everything before the payload for a receiver that needs d, and the position of the packet id
// in it (0: none). The bytes are the caller's until the next call; flags and packet id are not yet set:
// call Patch on the copy.
func (h *Heads) Head(v codec.Version, d *Delivery) (head []byte, pid int) {
	if v == codec.V5 && (d.SubscriptionID != 0 || d.Alias != 0) {
		h.own = h.encode(h.own[:0], v, d)
		return h.own, pidAt(h.own, d.QoS)
	}
	shape := 0
	if v == codec.V5 {
		shape |= 2
	}
	if d.QoS > 0 {
		shape |= 1
	}
	s := h.head[shape]
	if s.to == 0 {
		s.from = len(h.buf)
		h.buf = h.encode(h.buf, v, d)
		s.to = len(h.buf)
		h.head[shape] = s
	}
	head = h.buf[s.from:s.to:s.to]
	return head, pidAt(head, d.QoS)
}

// pidAt is the offset of the packet id: behind the fixed header and the topic.
func pidAt(head []byte, qos uint8) int {
	if qos == 0 {
		return 0
	}
	at := 1
	for head[at]&0x80 != 0 {
		at++
	}
	at++
	return at + 2 + int(binary.BigEndian.Uint16(head[at:]))
}

// Patch sets the flags and the packet id in a copy of a head.
func Patch(head []byte, pid int, d *Delivery) {
	flags := byte(codec.PUBLISH)<<4 | d.QoS<<1
	if d.Dup && d.QoS > 0 {
		flags |= 8
	}
	if d.Retain {
		flags |= 1
	}
	head[0] = flags
	if pid > 0 {
		binary.BigEndian.PutUint16(head[pid:], d.PacketID)
	}
}

func (h *Heads) encode(b []byte, v codec.Version, d *Delivery) []byte {
	m := h.m
	topic := m.Topic
	if d.AliasOnly {
		topic = nil
	}
	n := 2 + len(topic) + len(m.Payload)
	if d.QoS > 0 {
		n += 2
	}
	props := 0
	if v == codec.V5 {
		props = h.propertiesLen(d)
		n += codec.UvarintLen(props) + props
	}
	b = codec.AppendHeader(b, codec.PUBLISH, 0, n)
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if d.QoS > 0 {
		b = append(b, 0, 0)
	}
	if v == codec.V5 {
		b = appendUvarint(b, props)
		b = h.appendProperties(b, d)
	}
	return b
}

// propertiesLen and appendProperties: the publisher's own, then expiry, alias, subscription identifier.
func (h *Heads) propertiesLen(d *Delivery) int {
	n := len(h.m.Properties)
	if h.m.Expiry != 0 {
		n += 5
	}
	if d.Alias != 0 {
		n += 3
	}
	if d.SubscriptionID != 0 {
		n += 1 + codec.UvarintLen(int(d.SubscriptionID))
	}
	return n
}

func (h *Heads) appendProperties(b []byte, d *Delivery) []byte {
	b = append(b, h.m.Properties...)
	if h.m.Expiry != 0 {
		b = append(b, byte(codec.MessageExpiry))
		b = binary.BigEndian.AppendUint32(b, h.m.Left(h.now))
	}
	if d.Alias != 0 {
		b = append(b, byte(codec.TopicAlias))
		b = binary.BigEndian.AppendUint16(b, d.Alias)
	}
	if d.SubscriptionID != 0 {
		b = append(b, byte(codec.SubscriptionIdentifier))
		b = appendUvarint(b, int(d.SubscriptionID))
	}
	return b
}

func appendUvarint(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// Holds reports whether h was made for m, or for the loan that m was kept from.
func (h *Heads) Holds(m *Message) bool {
	return h.m != nil && (h.m == m || m.kept != nil && h.m.kept == m.kept)
}
