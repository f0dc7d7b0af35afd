package broker_test

import (
	"fmt"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
)

// leave fills a member of $share/g/t: n messages, of which two are in flight.
func leave(x *fixture, member string, change connectFunc, qos uint8, n int) *brokertest.Client {
	c := x.connect(member, codec.V5, func(p *codec.Connect) {
		with(uintProp(codec.ReceiveMaximum, 2))(p)
		if change != nil {
			change(p)
		}
	})
	c.Subscribe("$share/g/t", qos)
	pub := x.connect("pub", codec.V5, nil)
	publishNumbers(pub, 0, n, qos)
	for i := range min(n, 2) {
		c.WantPublish("t", fmt.Sprint(i))
	}
	x.wantKept(int64(n))
	return c
}

// publishNumbers publishes numbers on t.
func publishNumbers(pub *brokertest.Client, from, to int, qos uint8) {
	for i := from; i < to; i++ {
		pub.Publish("t", fmt.Sprint(i), qos, uint16(i+1))
		if qos == 1 {
			pub.Want(codec.PUBACK, nil)
			continue
		}
		pub.Want(codec.PUBREC, nil)
		pub.Ack(codec.PUBREL, uint16(i+1))
		pub.Want(codec.PUBCOMP, nil)
	}
}

// wantAll takes the numbers from one to another, in their order, and acknowledges them.
func wantAll(t *testing.T, c *brokertest.Client, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		p := c.WantPublish("t", fmt.Sprint(i))
		if p.Dup {
			t.Errorf("%d has DUP", i)
		}
		c.Ack([...]codec.Type{1: codec.PUBACK, 2: codec.PUBREC}[p.QoS], p.PacketID)
	}
}

// However the session of a member ends, what it has not acknowledged of QoS 1 goes to the other member, in its
// order (MQTT 5, 4.8.2).
func TestEstateOfAMember(t *testing.T) {
	for name, tt := range map[string]struct {
		connect connectFunc
		end     func(x *fixture, c *brokertest.Client)
	}{
		"DISCONNECT": {nil, func(_ *fixture, c *brokertest.Client) { c.Send(&codec.Disconnect{}) }},
		"lost":       {nil, func(_ *fixture, c *brokertest.Client) { c.Hangup() }},
		"breach":     {nil, func(_ *fixture, c *brokertest.Client) { c.Raw(packet(0x82)) }},
		"keep alive": {keepAlive(10), func(x *fixture, _ *brokertest.Client) { x.advance(20) }},
		"expired": {keep, func(x *fixture, c *brokertest.Client) {
			c.Hangup()
			x.advance(1001)
		}},
		"expiry 0 at the end": {keep, func(_ *fixture, c *brokertest.Client) {
			c.Send(&codec.Disconnect{Properties: codec.AppendUintProperty(nil, codec.SessionExpiry, 0)})
		}},
		"clean start": {keep, func(x *fixture, _ *brokertest.Client) { x.connect("a", codec.V5, nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, nil, func(t *testing.T, x *fixture) {
				a := leave(x, "a", tt.connect, 1, 7)
				b := x.connect("b", codec.V311, nil)
				b.Subscribe("$share/g/t", 1)
				tt.end(x, a)
				wantAll(t, b, 0, 7)
				b.WantNothing()
				if m := brokertest.Settle(t, x.b); m.DroppedTotal() != 0 || m.InflightMessages+m.QueuedMessages != 0 {
					t.Errorf("dropped %v, %d in flight, %d wait", m.Dropped, m.InflightMessages, m.QueuedMessages)
				}
			})
		})
	}
}

// What was begun with QoS 2 goes to nobody else [MQTT-4.8.2-5]; what waits does.
func TestEstateOfQoS2_MQTT_4_8_2_5(t *testing.T) {
	onEach(t, nil, func(_ *testing.T, x *fixture) {
		a := leave(x, "a", nil, 2, 5)
		b := x.connect("b", codec.V5, nil)
		b.Subscribe("$share/g/t", 2)
		a.Hangup()
		for i := range 3 {
			b.WantPublish("t", fmt.Sprint(2+i))
		}
		b.WantNothing()
	})
}

// Messages by other subscriptions, by other shares and of nobody's share stay where they belong.
func TestEstateGoesToItsShare(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var others []*brokertest.Client
		a := x.connect("a", codec.V5, with(uintProp(codec.ReceiveMaximum, 1)))
		for i := range 6 {
			a.Subscribe(fmt.Sprintf("$share/g%d/t", i), 1)
		}
		a.Subscribe("t", 1)
		pub := x.connect("pub", codec.V5, nil)
		publishNumbers(pub, 0, 3, 1)
		a.WantPublish("t", "0")
		x.wantKept(21)
		for i := range 5 { // nobody has the last share
			o := x.connect(fmt.Sprint("o", i), codec.V5, nil)
			o.Subscribe(fmt.Sprintf("$share/g%d/t", i), 1)
			others = append(others, o)
		}
		a.Hangup()
		for _, o := range others {
			wantAll(t, o, 0, 3)
			o.WantNothing()
		}
		brokertest.Until(t, x.b, "3 without a member", func(m *broker.Metrics) bool { return m.Dropped[broker.DropOffline] == 3 })
	})
}

// A long queue is dealt out in slices, in its order, and what expires meanwhile is not sent [MQTT-3.3.2-5].
func TestEstateOfManyMessages(t *testing.T) {
	const n = 5000
	change := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxQueuedMessages = 0 }
	onEach(t, change, func(t *testing.T, x *fixture) {
		a := leave(x, "a", nil, 1, n)
		b := x.connect("b", codec.V5, nil)
		b.Subscribe("$share/g/t", 1)
		pub := x.connect("pub", codec.V5, nil)
		a.Hangup()
		wantAll(t, b, 0, n)
		publishNumbers(pub, n, n+1, 1)
		wantAll(t, b, n, n+1)
	})
	onEach(t, nil, func(t *testing.T, x *fixture) {
		a := x.connect("a", codec.V5, with(uintProp(codec.ReceiveMaximum, 1), expiry(10)))
		a.Subscribe("$share/g/t", 1)
		pub := x.connect("pub", codec.V5, nil)
		publishNumbers(pub, 0, 1, 1)
		for i := range 3 {
			pub.Send(&codec.Publish{
				Topic: []byte("t"), Payload: []byte("old"), QoS: 1, PacketID: uint16(i + 1),
				Properties: codec.AppendUintProperty(nil, codec.MessageExpiry, 2),
			})
			pub.Want(codec.PUBACK, nil)
		}
		b := x.connect("b", codec.V5, nil)
		b.Subscribe("$share/g/t", 1)
		a.Hangup()
		x.advance(11)
		wantAll(t, b, 0, 1)
		b.WantNothing()
		if n := x.dropped(broker.DropExpired); n != 3 {
			t.Errorf("%d expired, want 3", n)
		}
	})
}

// A crash while an estate is dealt out loses nothing and doubles nothing of what was never sent.
func TestEstateSurvivesACrash(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for _, tt := range []struct {
			commits int
			memory  int64 // messages are on disk only, if it is not 0
		}{{2, 0}, {3, 40}, {6, 40}} {
			const n = 1100
			d := newDurable(t, loops, func(o *broker.Options, _ *broker.ListenerOptions) {
				o.MaxQueuedMessages, o.MaxQueuedMemory = 0, tt.memory
			})
			a := d.connect("a", codec.V5, keep)
			a.Subscribe("$share/g/t", 1)
			a.Hangup()
			d.wantOnline(0)
			pub := d.connect("pub", codec.V5, nil)
			publishNumbers(pub, 0, n, 1)
			d.connect("b", codec.V5, keep).Subscribe("$share/g/t", 1)
			save(t, d.b)
			d.store.mu.Lock()
			d.store.left = tt.commits
			d.store.mu.Unlock()
			c := brokertest.Dial(t, d.addr, codec.V5)
			c.Send(&codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte("a")})
			brokertest.Until(t, d.b, "crash", func(m *broker.Metrics) bool {
				d.store.mu.Lock()
				defer d.store.mu.Unlock()
				return d.store.off || m.Connections == 3 && m.QueuedMessages+m.InflightMessages == n
			})
			d.crash(t, loops)
			b, _ := d.present("b", codec.V5, keep)
			wantSome(t, d, b, n)
			d.crash(t, loops)
			wantEmpty(t, d)
		}
	})
}

// wantSome takes n different messages, in whatever order, which a and b have between them.
func wantSome(t *testing.T, d *durable, b *brokertest.Client, n int) {
	t.Helper()
	a, present := d.present("a", codec.V5, nil)
	if present { // the crash came before its end was durable
		a.Send(&codec.Disconnect{Properties: codec.AppendUintProperty(nil, codec.SessionExpiry, 0)})
	}
	seen := map[string]bool{}
	for len(seen) < n {
		var p codec.Publish
		b.Want(codec.PUBLISH, &p)
		b.Ack(codec.PUBACK, p.PacketID)
		if seen[string(p.Payload)] && !p.Dup {
			t.Fatalf("%s came twice", p.Payload)
		}
		seen[string(p.Payload)] = true
	}
	b.WantNothing()
	save(t, d.b)
}

// wantEmpty checks that the store has no messages and no session but b's.
func wantEmpty(t *testing.T, d *durable) {
	t.Helper()
	save(t, d.b)
	for table, want := range map[store.Table]int{
		store.Messages: 0, store.Entries: 0, store.Transits: 0, store.Sessions: 1, store.Subscriptions: 1,
	} {
		n := 0
		_ = d.mem.Walk(table, func(_, _ []byte) error { n++; return nil })
		if n != want {
			t.Errorf("%d records in %s, want %d", n, table, want)
		}
	}
}

// A message goes to a member that takes one as large, and whose queue has room, while there is one.
func TestDealToWhoCanTakeIt(t *testing.T) {
	change := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxInflight, o.MaxQueuedMessages = 1, 2 }
	onEach(t, change, func(t *testing.T, x *fixture) {
		small := x.connect("small", codec.V5, with(uintProp(codec.MaximumPacketSize, 100)))
		small.Subscribe("$share/g/t", 0)
		pub := x.connect("pub", codec.V5, nil)
		large := string(make([]byte, 200))
		pub.Publish("t", large, 0, 0)
		small.WantNothing()
		brokertest.Until(t, x.b, "too large", func(m *broker.Metrics) bool { return m.Dropped[broker.DropTooLarge] == 1 })
		big := x.connect("big", codec.V5, keep)
		big.Subscribe("$share/g/t", 1)
		brokertest.Settle(t, x.b) // who deals knows it
		for range 3 {
			pub.Publish("t", large, 0, 0)
			big.WantPublish("t", large)
		}
		small.Hangup()
		big.Hangup()
		x.wantOnline(1)
		full := x.connect("full", codec.V5, keep)
		full.Subscribe("$share/g/t", 1)
		full.Hangup()
		x.wantOnline(1)
		brokertest.Settle(t, x.b)
		for i := range int64(4) { // two queues of two
			publishNumbers(pub, 0, 1, 1)
			x.wantKept(i + 1)
		}
		for i := range 2 {
			c, _ := x.present([]string{"big", "full"}[i], codec.V5, keep)
			for range 2 {
				var p codec.Publish
				c.Want(codec.PUBLISH, &p)
				c.Ack(codec.PUBACK, p.PacketID)
			}
		}
		if n := x.dropped(broker.DropQueueFull); n != 0 {
			t.Errorf("%d dropped", n)
		}
	})
}

// wantOnline waits until so many clients are connected.
func (x *fixture) wantOnline(n int64) {
	x.t.Helper()
	brokertest.Until(x.t, x.b, "connections", func(m *broker.Metrics) bool { return m.Connections == n })
}

// wantKept waits until clients have so many messages in flight and in their queues.
func (x *fixture) wantKept(n int64) {
	x.t.Helper()
	brokertest.Until(x.t, x.b, fmt.Sprint(n, " messages"), func(m *broker.Metrics) bool {
		return m.InflightMessages+m.QueuedMessages == n
	})
}
