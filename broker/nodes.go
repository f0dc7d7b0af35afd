package broker

import (
	"context"

	"noctule/broker/route"
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
type Forwarded = route.Forwarded

// Forward has f called for every message that a client, a will or the program publishes here, when it has
// been matched and passed on on this node, whether anybody gets it here or not. Not forwarded are the
// broker's own below $SYS, what Controls take over, and publications that are Local. f returns whether
// somebody elsewhere gets it, for the acknowledgement of MQTT 5 that there is nobody; acknowledgements do not
// wait for more. It runs on an event loop, several at once, and must not block. It is in effect when Forward
// returns. stop ends it; f may be called until the loops have heard of that. Any goroutine but a loop's.
func (b *Broker) Forward(ctx context.Context, f func(m *Forwarded) bool) (stop func(), err error) {
	w := &route.Relay{F: f}
	stop = func() {
		for _, s := range b.shards {
			s.post(func() { s.relays.Drop(w) }) // once a Forward
		}
	}
	for _, s := range b.shards {
		if !b.onLoop(ctx, s, func() { s.relays.Add(w) }) {
			stop()
			return nil, unanswered(ctx)
		}
	}
	return stop, nil
}
