package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// shortage is a fixture whose memory is short from now on when the function has been called.
func shortage(t *testing.T, change changeFunc, f func(t *testing.T, x *fixture, short func())) {
	var used atomic.Int64
	limit := func(o *broker.Options, l *broker.ListenerOptions) {
		used.Store(0)
		o.MemoryLimit, o.MemoryUsed = 1000, used.Load
		if change != nil {
			change(o, l)
		}
	}
	oneByOne(t, limit, func(t *testing.T, x *fixture) {
		f(t, x, func() {
			used.Store(900)
			x.advance(1)
		})
	})
}

// While memory is short a session gets no further subscription, by itself or by others; those that it has
// may be changed and ended.
func TestNoSubscriptionsWhileMemoryIsShort(t *testing.T) {
	shortage(t, nil, func(t *testing.T, x *fixture, short func()) {
		five, old := x.connect("five", codec.V5, nil), x.connect("old", codec.V311, nil)
		other := x.connect("other", codec.V311, nil)
		other.Subscribe("b", 0)
		for _, c := range []*brokertest.Client{five, old} {
			for _, f := range []string{"a", "a/+", "$share/g/a"} {
				c.Subscribe(f, 0)
			}
		}
		x.wantAnswer(x.ask(behalf.Request{ClientID: "five", Topics: topics("granted")}), "0 granted=new")
		short()
		for _, f := range []string{"b", "b/+", "$share/g/b", "$share/h/a", strings.Repeat("/", 200)} {
			if r := five.Subscribe(f, 0); r != codec.QuotaExceeded {
				t.Errorf("MQTT 5, %s: %#x [MQTT-3.9.3-1]", f, byte(r))
			}
			if r := old.Subscribe(f, 0); r != codec.UnspecifiedError {
				t.Errorf("MQTT 3.1.1, %s: %#x", f, byte(r))
			}
		}
		for _, c := range []*brokertest.Client{five, old} {
			for _, f := range []string{"a", "a/+", "$share/g/a"} {
				if r := c.Subscribe(f, 1); r != 1 {
					t.Errorf("%s again: %#x [MQTT-3.8.4-3]", f, byte(r))
				}
			}
		}
		x.wantAnswer(x.ask(behalf.Request{ClientID: "five", Topics: topics("more", "granted")}),
			"0 granted=existing more=absent/151")
		old.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("a")}})
		old.Want(codec.UNSUBACK, nil)
		five.Publish("a/b", "goes on", 0, 0)
		old.WantPublish("a/b", "goes on")
		if m := brokertest.Settle(t, x.b); m.SubscriptionsRefused != 10 {
			t.Errorf("%d filters refused", m.SubscriptionsRefused)
		}
	})
}

// What sessions and connections that are there already hold does not grow either: wills, topics of aliases,
// and output that is not read.
func TestSessionsDoNotGrowWhileMemoryIsShort(t *testing.T) {
	aliases := func(_ *broker.Options, l *broker.ListenerOptions) { l.MaxTopicAlias, l.MaxTopicAliasBroker = 9, 9 }
	shortage(t, aliases, func(t *testing.T, x *fixture, short func()) {
		will := func(n int) connectFunc {
			return func(p *codec.Connect) {
				p.HasWill, p.CleanStart = true, false
				p.Will = codec.Will{Topic: []byte("w"), Payload: bytes.Repeat([]byte{'x'}, n)}
				p.Properties = props(expiry(1000), uintProp(codec.TopicAliasMaximum, 5))
			}
		}
		x.connect("none", codec.V5, func(p *codec.Connect) { p.Properties = props(expiry(1000)) }).Disconnect()
		x.connect("large", codec.V5, will(10000))
		pub := x.connect("pub", codec.V5, nil)
		long := strings.Repeat("l", 300)
		publish := func(topic string, alias uint32) {
			pub.Send(&codec.Publish{Topic: []byte(topic), Properties: props(uintProp(codec.TopicAlias, alias))})
		}
		publish(long, 1)
		pub.Raw(codec.AppendPingreq(nil))
		pub.Want(codec.PINGRESP, nil)
		short()
		if ack := brokertest.Dial(t, x.addr, codec.V5).Connack("none", will(10000)); ack.Reason != codec.QuotaExceeded {
			t.Errorf("a large will: CONNACK %s", ack.Reason)
		}
		for id, n := range map[string]int{"none": 200, "large": 10000} { // a small one, and one that was there
			c := brokertest.Dial(t, x.addr, codec.V5)
			if ack := c.Connack(id, will(n)); ack.Reason != codec.Success || !ack.SessionPresent {
				t.Errorf("%s: CONNACK %s", id, ack.Reason)
			}
		}
		publish(long[:250], 2)
		publish(long[1:], 1) // no longer than the one before
		pub.Send(&codec.Publish{Properties: props(uintProp(codec.TopicAlias, 2))})
		pub.Raw(codec.AppendPingreq(nil))
		pub.Want(codec.PINGRESP, nil)
		publish(long, 3)
		var end codec.Disconnect
		pub.Want(codec.DISCONNECT, &end)
		if end.Reason != codec.QuotaExceeded {
			t.Errorf("a long topic for an alias: %s", end.Reason)
		}
	})
}

// The broker gives no topic an alias, and a client that does not read loses QoS 0 messages earlier.
func TestOutputWhileMemoryIsShort(t *testing.T) {
	for _, isShort := range []bool{false, true} {
		t.Run(fmt.Sprint(isShort), func(t *testing.T) {
			const limit = 64 << 20 // a quarter of it may be input, a sixteenth output
			var used atomic.Int64
			x := newFixture(t, onSockets(func(o *broker.Options, _ *broker.ListenerOptions) {
				o.MemoryLimit, o.MemoryUsed, o.MaxBufferedBytes = limit, used.Load, 16<<20
			}))
			sub := x.connect("sub", codec.V5, func(p *codec.Connect) {
				p.Properties = props(uintProp(codec.TopicAliasMaximum, 5))
			})
			sub.Subscribe("s", 0)
			slow, pub := x.connect("slow", codec.V311, nil), x.connect("pub", codec.V311, nil)
			slow.Subscribe("large", 0)
			if isShort {
				used.Store(limit * 9 / 10)
				x.advance(1)
			}
			pub.Publish("s", "x", 0, 0)
			p := sub.WantPublish("s", "x")
			if _, aliased := p.Properties.Uint(codec.TopicAlias); aliased == isShort {
				t.Errorf("memory short %v: alias %v", isShort, aliased)
			}
			deaf(t, slow)
			n := 0
			for payload := strings.Repeat("x", 256<<10); x.dropped(broker.DropSlowReceiver) == 0 && n < 200; n++ {
				pub.Publish("large", payload, 0, 0)
				pub.Raw(codec.AppendPingreq(nil))
				pub.Want(codec.PINGRESP, nil)
			}
			if mib := n / 4; isShort != (mib < 16) || mib > 40 {
				t.Errorf("memory short %v: %d MiB are kept for a client that does not read", isShort, mib)
			}
		})
	}
}
