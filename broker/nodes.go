package broker

import (
	"bytes"
	"context"
	"slices"
	"time"

	"noctule/broker/message"
	"noctule/codec"
)

// The doors of what joins several brokers: which filters have subscribers here, and what is published here.
// With nobody at them a subscription costs a comparison at its filter's first and last subscriber, and a
// message one.

// Interest has f called when a filter gets its first subscriber on this node, and when it loses its last, and
// before it returns for all that have some. Shared subscriptions are told as $share/NAME/FILTER, each by
// itself; what servers subscribe sessions to, and Taps, count too. For one filter the calls come in order,
// and the last one is what holds; one may come twice. f runs on the goroutine of the change, a loop's mostly,
// under a lock of the index: it must not block, and must call nothing of the broker. stop ends it. Any
// goroutine but a loop's.
func (b *Broker) Interest(f func(filter string, wanted bool)) (stop func()) { return b.index.Watch(f) }

// Forwarded is a message that was published on this node. It is a loan that ends with the call.
type Forwarded struct {
	Topic, Payload []byte
	Properties     codec.Properties // that go to receivers as they are
	QoS            uint8
	Retain         bool
	Expiry         time.Duration // what remains of its Message Expiry Interval; 0: it has none
}

// forwarder is who has asked by Forward.
type forwarder struct {
	f func(m *Forwarded) (elsewhere bool)
}

// Forward has f called for every message that a client, a will or the program publishes here, when it has
// been matched and passed on on this node, whether anybody gets it here or not. Not forwarded are the
// broker's own below $SYS, what Controls take over, and publications that are Local. f returns whether
// somebody elsewhere gets it, for the acknowledgement of MQTT 5 that there is nobody; acknowledgements do not
// wait for more. It runs on an event loop, several at once, and must not block. It is in effect when Forward
// returns. stop ends it; f may be called until the loops have heard of that. Any goroutine but a loop's.
func (b *Broker) Forward(ctx context.Context, f func(m *Forwarded) bool) (stop func(), err error) {
	w := &forwarder{f}
	stop = func() {
		for _, s := range b.shards {
			s.post(func() { // once a Forward
				rest := slices.Clone(s.relays)
				s.relays = slices.DeleteFunc(rest, func(o *forwarder) bool { return o == w })
				if len(s.relays) == 0 {
					s.relays = nil
				}
			})
		}
	}
	for _, s := range b.shards {
		if !b.onLoop(ctx, s, func() { s.relays = append(slices.Clip(s.relays), w) }) {
			stop()
			return nil, unanswered(ctx)
		}
	}
	return stop, nil
}

// forwardOn gives m to all who have asked; true if somebody elsewhere gets it.
func (s *shard) forwardOn(m *message.Message) (elsewhere bool) {
	if bytes.HasPrefix(m.Topic, []byte("$SYS/")) {
		return false
	}
	x := Forwarded{
		Topic: m.Topic, Payload: m.Payload, Properties: m.Properties, QoS: m.QoS, Retain: m.Retain,
	}
	if m.Expiry != 0 {
		x.Expiry = time.Duration(m.Left(s.loop.Now())) * time.Second
	}
	for _, w := range s.relays {
		elsewhere = w.f(&x) || elsewhere
	}
	return elsewhere
}
