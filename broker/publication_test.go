package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
)

// publication publishes for the program, and expects that to work.
func (x *fixture) publication(p broker.Publication) broker.Result {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), brokertest.Timeout)
	defer cancel()
	r, err := x.b.Publish(ctx, p)
	if err != nil || !r.Accepted {
		x.t.Fatalf("%+v: %v", r, err)
	}
	return r
}

// TestPublishCountsReceivers: subscriptions on all loops, alone and in crowds, shared ones once; those of servers
// have their own test.
func TestPublishCountsReceivers(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		if r := x.publication(broker.Publication{Topic: "t/1"}); r.Receivers != 0 {
			t.Errorf("%d receivers of what nobody wants", r.Receivers)
		}
		var subs []*brokertest.Client
		for i := range 9 {
			c := x.connect(string(rune('a'+i)), codec.V5, nil)
			c.Subscribe("t/+", 1)
			subs = append(subs, c)
		}
		subs[0].Subscribe("t/1", 0)
		subs[1].Subscribe("$share/g/t/#", 0)
		subs[2].Subscribe("$share/g/t/#", 0)
		user := codec.AppendUserProperty(nil, []byte("k"), []byte("v"))
		r := x.publication(broker.Publication{
			Topic: "t/1", Payload: []byte("m"), QoS: 1, Properties: user, Expiry: 1500 * time.Millisecond,
		})
		if r.Receivers != 9+1+1 {
			t.Errorf("%d receivers", r.Receivers)
		}
		for _, c := range subs[3:] {
			p := c.WantPublish("t/1", "m") // subscribers have it before what the program does next
			if n, _ := p.Properties.Uint(codec.MessageExpiry); p.QoS != 1 || n != 2 {
				t.Errorf("QoS %d, expires in %d s", p.QoS, n)
			}
			if !strings.Contains(string(p.Properties), string(user)) {
				t.Errorf("properties % x", []byte(p.Properties))
			}
		}
	})
}

// TestPublishRefusals: each reason, told before anybody gets anything.
func TestPublishRefusals(t *testing.T) {
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MessageSizeLimit, o.RetainAvailable = 10, false
	})
	c := x.connect("c", codec.V5, nil)
	c.Subscribe("#", 2)
	alias := codec.AppendUintProperty(nil, codec.TopicAlias, 1)
	for want, p := range map[broker.PublishError]broker.Publication{
		broker.ErrPublishTopic:      {Topic: "a/+"},
		broker.ErrPublishQoS:        {Topic: "a", QoS: 3},
		broker.ErrPublishProperties: {Topic: "a", Properties: alias},
		broker.ErrPublishSize:       {Topic: "a", Payload: make([]byte, 11)},
		broker.ErrPublishRetain:     {Topic: "a", Retain: true},
	} {
		r, err := x.b.Publish(t.Context(), p)
		var got broker.PublishError
		if !errors.As(err, &got) || got != want || r.Accepted {
			t.Errorf("%s: %v %+v", want, err, r)
		}
	}
	for _, p := range []broker.Publication{
		{Topic: ""}, {Topic: strings.Repeat("x", 65536)}, {Topic: "a", Properties: codec.Properties{38, 0}},
	} {
		if _, err := x.b.Publish(t.Context(), p); err == nil {
			t.Errorf("%d bytes of topic, properties % x", len(p.Topic), []byte(p.Properties))
		}
	}
	c.WantNothing()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := x.b.Publish(gone, broker.Publication{Topic: "a"}); err != nil && (r.Accepted || !errors.Is(err, context.Canceled)) {
		t.Errorf("%+v %v", r, err)
	}
	if err := x.b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := x.b.Publish(t.Context(), broker.Publication{Topic: "a"}); !errors.Is(err, broker.ErrPublishEnd) {
		t.Error(err)
	}
	if s := broker.PublishError(99).Error(); !strings.HasSuffix(s, "unknown") {
		t.Error(s)
	}
}

// TestPublishDurably: what it has returned for survives a crash, retained and in queues of all loops; while the
// store fails it is refused, unless nothing of it would have to be kept.
func TestPublishDurably(t *testing.T) {
	for _, loops := range []int{1, 4} {
		d := newDurable(t, loops, nil)
		ids := []string{"a", "b", "c", "d"}
		for _, id := range ids {
			c := d.connect(id, codec.V5, with(expiry(1000)))
			c.Subscribe("q", 1)
			c.Disconnect()
		}
		p := broker.Publication{Topic: "q", Payload: []byte("kept"), QoS: 1, Retain: true, Durable: true}
		if r := d.publication(p); r.Receivers != len(ids) {
			t.Errorf("%d receivers", r.Receivers)
		}
		d.crash(t, loops)
		for _, id := range ids {
			c, present := d.present(id, codec.V5, with(expiry(1000)))
			if !present {
				t.Fatalf("the session of %q is gone", id)
			}
			c.WantPublish("q", "kept")
		}
		d.connect("late", codec.V5, nil).Subscribe("q", 0)
		d.failing(t)
		for _, p := range []broker.Publication{{Topic: "q", QoS: 1}, {Topic: "r", Retain: true}} {
			if _, err := d.b.Publish(t.Context(), p); !errors.Is(err, broker.ErrPublishStore) {
				t.Errorf("%+v: %v", p, err)
			}
		}
		d.publication(broker.Publication{Topic: "q"})
		d.publication(broker.Publication{Topic: "nobody's", QoS: 2})
		d.recovered(t)
	}
}

// TestPublishWaitsAsClientsDo: while a loop does not read, since the disk is behind, the program's messages wait,
// in their order, and a context ends the wait with nothing published.
func TestPublishWaitsAsClientsDo(t *testing.T) {
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops, o.Store = 1, store.NewMemory()
	})
	c := x.connect("c", codec.V311, nil)
	c.Subscribe("t", 1)
	x.b.OnLoop(0, func() { x.b.Halt(0, true) })
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { // received below
		_, err := x.b.Publish(ctx, broker.Publication{Topic: "t", Payload: []byte("given up")})
		gaveUp <- err
	}()
	brokertest.Settle(t, x.b)
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { // received below
		_, err := x.b.Publish(t.Context(), broker.Publication{Topic: "t", Payload: []byte("m")})
		done <- err
	}()
	brokertest.Settle(t, x.b)
	select {
	case err := <-done:
		t.Fatalf("it has not waited: %v", err)
	default:
	}
	x.b.OnLoop(0, func() { x.b.Halt(0, false) })
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.WantPublish("t", "m")
	c.WantNothing()
}
