// Package publication is a message of the program's own: what the program says of it, what it is held against
// before any loop is asked, and what becomes of it.
package publication

import (
	"time"

	"noctule/broker/message"
	"noctule/codec"
)

// Publication is a message of the program's own. What it refers to must not change any more.
type Publication struct {
	Topic   string
	Payload []byte
	QoS     uint8
	Retain  bool
	// Expiry is the Message Expiry Interval, in seconds on the wire, parts of one counted as one; 0 means
	// none.
	Expiry time.Duration
	// Properties are those of MQTT 5 that go to receivers as they are: Payload Format Indicator, Content
	// Type, Response Topic, Correlation Data, User Properties.
	Properties codec.Properties
	// Durable has Publish wait until what the broker keeps of the message is on disk: for sessions that
	// outlive their connection, and as retained. With a store that syncs in intervals, or none, it does not
	// wait.
	Durable bool
	// Local keeps it from those who forward to other nodes: it has come from one.
	Local bool
}

// Result is what became of a Publication.
type Result struct {
	// Accepted says that it is on its way to all who get it. It is so, too, where an error is only that the
	// context has ended while Publish waited for more.
	Accepted bool
	// Receivers is how many subscriptions match: a client with two that do counts twice, a shared
	// subscription once. Whether a client has room for it, or may read it, is not known here.
	Receivers int
}

// Error is why a Publication is refused: nobody gets it, and it is not kept. It is an error.
type Error uint8

// The reasons.
const (
	ErrTopic      Error = iota + 1 // not a Topic Name
	ErrQoS                         // above 2
	ErrProperties                  // not of a PUBLISH, or the broker's to set
	ErrSize                        // larger than MessageSizeLimit
	ErrRetain                      // retained messages are not available
	ErrMemory                      // memory_limit: it would have to be kept
	ErrStore                       // it would have to be on disk, which cannot be written
	ErrEnd                         // the broker shuts down
)

// Error implements error.
func (r Error) Error() string { return "broker: publication refused: " + r.String() }

// String names the reason in a few words.
func (r Error) String() string {
	names := [...]string{
		"", "not a topic name", "not a QoS", "not properties of a message", "too large",
		"retained messages are not available", "memory is short",
		"persistent state cannot be written", "the broker shuts down",
	}
	if int(r) >= len(names) {
		return "unknown"
	}
	return names[r]
}

// Check holds a publication against what no loop needs to be asked about: why it is refused, 0 if it is not.
func (p *Publication) Check() Error {
	switch {
	case codec.CheckTopicName([]byte(p.Topic)) != nil:
		return ErrTopic
	case p.QoS > 2:
		return ErrQoS
	case !forwardable(p.Properties):
		return ErrProperties
	case len(p.Topic)+len(p.Properties)+len(p.Payload) > codec.MaxRemaining-headMax:
		return ErrSize
	}
	return 0
}

// headMax is what a PUBLISH may have in front of topic, properties and payload, in bytes: lengths, packet id,
// expiry, alias and a Subscription Identifier.
const headMax = 32

// Message is the message.
func (p *Publication) Message() *message.Message {
	m := message.New([]byte(p.Topic), p.Payload, p.QoS, p.Retain)
	m.Properties = p.Properties
	return m
}

// forwardable says that properties are well formed and go to receivers as they are.
func forwardable(p codec.Properties) bool {
	if len(p) == 0 {
		return true
	}
	whole := codec.Publish{Topic: []byte("t"), Properties: p}
	raw := whole.Append(nil, codec.V5)
	h, err := codec.ParseHeader(raw)
	if err != nil || new(codec.Publish).Parse(h.Flags, raw[h.Size:], codec.V5) != nil {
		return false
	}
	for id := range p.All() {
		if !id.Forwarded() {
			return false
		}
	}
	return true
}
