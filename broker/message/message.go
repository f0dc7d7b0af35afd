// Package message holds application messages on their way through the broker, and the PUBLISH packets made
// of them.
//
// A Message is immutable once it has been published. It starts as a loan, its fields alias the read buffer,
// and is copied to the heap at most once (Keep), when something must outlive the turn: a queue, a window,
// the retained index, another loop. A Heads encodes each wire shape at most once.
package message

import (
	"math"
	"unsafe"

	"noctule/codec"
)

// ShareFrom is the payload size, in bytes, from which receivers share one copy.
const ShareFrom = 1024

// Message is one published application message.
type Message struct {
	// Topic is the Topic Name, without alias and mount point.
	Topic []byte
	// Payload is the Application Message.
	Payload []byte
	// Properties are those that are forwarded unaltered, in the publisher's order [MQTT-3.3.2-4]
	// [MQTT-3.3.2-15] [MQTT-3.3.2-17] [MQTT-3.3.2-20]: without Topic Alias, Message Expiry Interval and
	// Subscription Identifier.
	Properties codec.Properties
	// Expiry is when the message is dropped, in milliseconds by the broker's clock; 0 means never.
	Expiry int64
	// Publisher is the number of the session that sent it, for No Local; 0 is the broker itself.
	Publisher uint64
	// Interval is the Message Expiry Interval that Expiry was made of, seconds; 0 means that it is not known.
	Interval uint32
	// QoS is that of the publication, 0 to 2.
	QoS uint8
	// Retain is the RETAIN flag of the publication.
	Retain bool

	// Number is the place of the message among those that the broker has retained, from 1; 0 if it was not
	// retained. It is set before another loop can see the message.
	Number uint64
	// Stored is what a durable store knows of the message. It is set on the heap copy, by the loop that has
	// the message first, before another can see it; nil without a store.
	Stored *Stored
	// Source is who published it, where that is asked later; mostly nil. It is never changed.
	Source *Source

	kept *Message // the heap copy of a loan; points to itself in a kept message
}

// Source is the publisher of a message.
type Source struct {
	ClientID, Username string
	Named              bool   // it has a username, maybe an empty one
	Listener           string // where it came in, by a name that outlives restarts; "" if unknown
}

// Keep returns a message that may outlive the loan. The copy is made once; a kept message returns itself.
func (m *Message) Keep() *Message {
	if m.kept != nil {
		return m.kept
	}
	k := &Message{
		Expiry: m.Expiry, Interval: m.Interval, Publisher: m.Publisher, QoS: m.QoS, Retain: m.Retain,
		Source: m.Source,
	}
	buf := make([]byte, 0, len(m.Topic)+len(m.Properties)+len(m.Payload))
	buf = append(buf, m.Topic...)
	buf = append(buf, m.Properties...)
	buf = append(buf, m.Payload...)
	t, p := len(m.Topic), len(m.Topic)+len(m.Properties)
	k.Topic, k.Payload = buf[:t:t], buf[p:]
	if p > t {
		k.Properties = codec.Properties(buf[t:p:p])
	}
	k.kept = k
	m.kept = k
	return k
}

// Kept reports whether the heap copy exists already.
func (m *Message) Kept() bool { return m.kept != nil }

// Size is the number of bytes counted against queue limits.
func (m *Message) Size() int64 { return int64(len(m.Payload)) }

// Held is the number of bytes that a kept message takes, for limits of the broker's own.
func (m *Message) Held() int64 {
	return int64(unsafe.Sizeof(*m)) + int64(len(m.Topic)+len(m.Properties)+len(m.Payload))
}

// Expire sets the time at which m expires: an interval, in seconds, from now, in Unix milliseconds.
func (m *Message) Expire(now int64, interval uint32) {
	m.Expiry, m.Interval = now+1000*int64(interval), interval
}

// Left is what remains of the Message Expiry Interval, in seconds [MQTT-3.3.2-6]: part of one counts as one,
// and it is never more than the publisher has given, though the clock may say so, since each loop has the
// time of its turn.
func (m *Message) Left(now int64) uint32 {
	left := max((m.Expiry-now+999)/1000, 0)
	if m.Interval != 0 {
		left = min(left, int64(m.Interval))
	}
	return uint32(min(left, math.MaxUint32))
}

// Expired reports whether the Message Expiry Interval has passed at now, in Unix milliseconds
// [MQTT-3.3.2-5].
func (m *Message) Expired(now int64) bool { return m.Expiry != 0 && now >= m.Expiry }

// New returns a kept message from the broker itself. It takes ownership of topic and payload.
func New(topic, payload []byte, qos uint8, retain bool) *Message {
	m := &Message{Topic: topic, Payload: payload, QoS: qos, Retain: retain}
	m.kept = m
	return m
}

// Clone returns a kept message with the same content and nothing in a store. m is kept.
func (m *Message) Clone() *Message {
	k := &Message{
		Topic: m.Topic, Payload: m.Payload, Properties: m.Properties,
		Expiry: m.Expiry, Interval: m.Interval, Publisher: m.Publisher, QoS: m.QoS, Retain: m.Retain,
	}
	k.kept = k
	return k
}
