package route

import (
	"bytes"
	"slices"
	"time"

	"noctule/broker/message"
	"noctule/codec"
)

// Forwarded is a message that was published on this node. It is a loan that ends with the call.
type Forwarded struct {
	Topic, Payload []byte
	Properties     codec.Properties // that go to receivers as they are
	QoS            uint8
	Retain         bool
	Expiry         time.Duration // what remains of its Message Expiry Interval; 0: it has none
}

// Relay is who hears of what is published, to take it to other nodes: whether somebody gets it there.
type Relay struct {
	F func(m *Forwarded) (elsewhere bool)
}

// Relays are those of one loop, which they belong to. The zero value is nobody.
type Relays struct{ list []*Relay } // never changed in place: one may go while all are told

// None reports that there is nobody, which is all that a message mostly costs.
func (x *Relays) None() bool { return x.list == nil }

// Add adds one.
func (x *Relays) Add(r *Relay) { x.list = append(slices.Clip(x.list), r) }

// Drop takes one out.
func (x *Relays) Drop(r *Relay) {
	x.list = slices.DeleteFunc(slices.Clone(x.list), func(o *Relay) bool { return o == r })
	if len(x.list) == 0 {
		x.list = nil
	}
}

// Tell gives m to all; true if somebody elsewhere gets it. What the broker says of itself stays here. now is
// the loop's.
func (x *Relays) Tell(m *message.Message, now int64) (elsewhere bool) {
	if bytes.HasPrefix(m.Topic, []byte("$SYS/")) {
		return false
	}
	f := Forwarded{
		Topic: m.Topic, Payload: m.Payload, Properties: m.Properties, QoS: m.QoS, Retain: m.Retain,
	}
	if m.Expiry != 0 {
		f.Expiry = time.Duration(m.Left(now)) * time.Second
	}
	for _, r := range x.list {
		elsewhere = r.F(&f) || elsewhere
	}
	return elsewhere
}
