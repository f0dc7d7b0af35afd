package broker

import (
	"bytes"
	"context"
	"errors"

	"noctule/broker/auth"
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
	if !b.onLoop(ctx, s, func() { err = s.tap(t, filter) }) {
		return nil, errNoAnswer
	}
	return t, err
}

func (s *shard) tap(t *Tap, filter string) error {
	s.loop.MustBeHere()
	id, err := s.b.index.Add([]byte(filter), s.index)
	if err != nil {
		return err
	}
	t.id = id
	s.receivers.AddTap(id, &t.tap)
	return nil
}

// errNoAnswer says that a loop was not heard of in time, or has ended.
var errNoAnswer = errors.New("broker: no answer from the loop")

// Close ends it; f may be called until the loop has heard of it.
func (t *Tap) Close() {
	s := t.b.shards[0]
	s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // once a tap
		s.receivers.DropTap(t.id, &t.tap)
	}))
}

// Control is a PUBLISH to a topic below $CONTROL/ that a part of the program has taken over. It may be kept.
type Control struct {
	ClientID, Username string
	// Allowed says that an access rule lets the client publish there; without any rules nothing does.
	Allowed       bool
	Topic         string
	Payload       []byte
	ResponseTopic string // MQTT 5; "" none
	MayAnswer     bool   // the client itself may publish on ResponseTopic
	Correlation   []byte // MQTT 5 Correlation Data; nil none
}

// ControlFunc takes a Control over; it runs on an event loop and must not block. The reason is the
// publisher's acknowledgement.
type ControlFunc func(c *Control) codec.Reason

// control gives a PUBLISH to who has taken its topic over; false when nobody has.
func (c *client) control(m *message.Message) (codec.Reason, bool) {
	f := c.shard.opts.Controls[string(m.Topic)]
	if f == nil {
		return codec.Success, false
	}
	x := &Control{ClientID: c.id, Topic: string(m.Topic), Payload: bytes.Clone(m.Payload)}
	if c.rare != nil {
		x.Username = c.rare.username
	}
	if r := c.rights(); r != nil && r.Permissions != nil {
		x.Allowed = c.may(auth.Write, m.Topic)
	}
	for id, v := range m.Properties.All() {
		switch id {
		case codec.ResponseTopic:
			x.ResponseTopic = string(v.Bytes)
			x.MayAnswer = !reservedTopic(v.Bytes) && c.may(auth.Write, v.Bytes) &&
				c.guarded(&message.Message{Topic: v.Bytes}) == codec.Success
		case codec.CorrelationData:
			x.Correlation = bytes.Clone(v.Bytes)
		}
	}
	return f(x), true
}
