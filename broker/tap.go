package broker

import (
	"context"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// Tap is a subscription of a part of the program that is no client: see Broker.Tap.
type Tap struct {
	b   *Broker
	id  topictree.FilterID
	tap fanout.Tap
}

// Tap has f called for every message that a filter, not a shared subscription, matches. f runs on an event
// loop, on loans that end with it, and must not block. It is in effect when Tap returns.
func (b *Broker) Tap(ctx context.Context, filter string, f func(topic, payload []byte)) (*Tap, error) {
	if err := codec.CheckTopicFilter([]byte(filter)); err != nil {
		return nil, err
	}
	t := &Tap{b: b, tap: fanout.Tap{Take: func(m *message.Message) { f(m.Topic, m.Payload) }}}
	s := b.shards[0]
	var err error
	answered := b.onLoop(ctx, s, func() {
		if t.id, err = s.b.index.Add([]byte(filter), s.index); err == nil {
			s.receivers.AddTap(t.id, &t.tap)
		}
	})
	if !answered {
		return nil, errNoAnswer
	}
	return t, err
}

// Close ends it; f may be called until the loop has heard of it.
func (t *Tap) Close() {
	s := t.b.shards[0]
	s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // once a tap
		s.receivers.DropTap(t.id, &t.tap)
	}))
}
