package broker_test

import (
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// connected is the clients of a version, on all listeners.
func connected(m *broker.Metrics, v codec.Version) (n int64) {
	for i := range m.Listeners {
		n += m.Listeners[i].Connected[v-codec.V31]
	}
	return n
}

// TestDisconnectsAreCounted ends connections in every way a client can provoke. Each counts once, under its
// reason, with every version: MQTT 3 has no codes that could tell it.
func TestDisconnectsAreCounted(t *testing.T) {
	change := func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxPacketSize, l.MaxQoS = 200, 1
	}
	ways := []struct {
		why broker.EndReason
		end func(x *fixture, c *brokertest.Client)
	}{
		{broker.EndByClient, func(_ *fixture, c *brokertest.Client) { c.Disconnect() }},
		{broker.EndLost, func(_ *fixture, c *brokertest.Client) { c.Hangup() }},
		{broker.EndKeepAlive, func(x *fixture, _ *brokertest.Client) { x.advance(20) }},
		{broker.EndTakenOver, func(x *fixture, c *brokertest.Client) {
			x.connect("c", c.Version, nil).Disconnect() // one more that ends by itself
		}},
		{broker.EndMalformed, func(_ *fixture, c *brokertest.Client) { c.Raw([]byte{0xC0, 1, 0}) }},
		{broker.EndProtocol, func(_ *fixture, c *brokertest.Client) {
			c.Send(&codec.Connect{Version: c.Version, ClientID: []byte("c")}) // a second one [MQTT-3.1.0-2]
		}},
		{broker.EndTooLarge, func(_ *fixture, c *brokertest.Client) { c.Publish("a", string(make([]byte, 300)), 0, 0) }},
		{broker.EndNotSupported, func(_ *fixture, c *brokertest.Client) { c.Publish("a", "", 2, 1) }},
	}
	onEach(t, change, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
			for _, w := range ways {
				before := brokertest.Settle(t, x.b)
				want := before.Disconnects
				want[w.why]++
				if w.why == broker.EndTakenOver {
					want[broker.EndByClient]++
				}
				c := x.in(t).connect("c", v, func(p *codec.Connect) { p.KeepAlive = 10 })
				if m := brokertest.Settle(t, x.b); connected(&m, v) != 1 || m.Connections != 1 {
					t.Errorf("%s: %d of version %d are connected, %d in all", w.why, connected(&m, v), v, m.Connections)
				}
				w.end(x, c)
				m := brokertest.Until(t, x.b, w.why.String(), func(m *broker.Metrics) bool { return m.Connections == 0 })
				if m.Disconnects != want || connected(&m, v) != 0 {
					t.Errorf("version %d, %s: %v, want %v; %d connected", v, w.why, m.Disconnects, want, connected(&m, v))
				}
			}
		}
		m := brokertest.Settle(t, x.b)
		var all int64
		for _, n := range m.Disconnects {
			all += n
		}
		if all != m.Connects {
			t.Errorf("%d ended of %d", all, m.Connects)
		}
	})
}

// TestRefusalsAreCounted has CONNECT refused in every way a client can provoke, and what comes in its place.
func TestRefusalsAreCounted(t *testing.T) {
	change := func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxKeepAlive, o.GlobalMaxClients, o.MessageSizeLimit = 100, 1, 50
		l.MaxQoS, l.AllowZeroLengthClientID = 1, false
	}
	as := func(v codec.Version, change func(*codec.Connect)) func(*brokertest.Client) {
		return func(c *brokertest.Client) {
			p := codec.Connect{Version: v, CleanStart: true, ClientID: []byte("c"), KeepAlive: 10}
			change(&p)
			c.Raw(p.Append(nil, v))
		}
	}
	raw := func(b string) func(*brokertest.Client) {
		return func(c *brokertest.Client) { c.Raw([]byte(b)) }
	}
	will := func(qos uint8, payload int) func(*codec.Connect) {
		return func(p *codec.Connect) {
			p.HasWill, p.Will = true, codec.Will{QoS: qos, Topic: []byte("w"), Payload: make([]byte, payload)}
		}
	}
	nobody := func(p *codec.Connect) { p.ClientID = nil }
	second := func(p *codec.Connect) { p.ClientID = []byte("second") }
	ways := []struct {
		why  broker.RefusalReason
		send func(*brokertest.Client)
	}{
		{broker.RefusedVersion, raw("\x10\x0c\x00\x04MQTT\x07\x02\x00\x0a\x00\x00")},
		{broker.RefusedClientID, as(codec.V5, nobody)},
		{broker.RefusedClientID, as(codec.V311, nobody)},
		{broker.RefusedClientID, as(codec.V31, nobody)},
		{broker.RefusedKeepAlive, as(codec.V311, func(p *codec.Connect) { p.KeepAlive = 101 })},
		{broker.RefusedMalformed, raw("\x10\x02\x00\x04")},
		{broker.RefusedProtocol, raw("\x10\x0c\x00\x04MQTX\x04\x02\x00\x0a\x00\x00")},
		{broker.RefusedNotConnect, raw("\xc0\x00")},
		{broker.RefusedNotConnect, raw("GET / HTTP/1.1\r\n\r\n")},
		{broker.RefusedNotConnect, raw("\x16\x03\x01\x00\x05hello")},
		{broker.RefusedTooLarge, as(codec.V5, will(0, 51))},
		{broker.RefusedNotSupported, as(codec.V5, will(2, 1))},
		{broker.RefusedNotSupported, as(codec.V311, will(2, 1))},
		{broker.RefusedBusy, as(codec.V5, second)},
		{broker.RefusedBusy, as(codec.V311, second)},
		{broker.RefusedTimeout, nil},
	}
	onEach(t, change, func(t *testing.T, x *fixture) {
		x.in(t).connect("first", codec.V5, nil)
		for i, w := range ways {
			want := brokertest.Settle(t, x.b).ConnectsRefused
			want[w.why]++
			c := brokertest.Dial(t, x.addr, codec.V5)
			if w.send != nil {
				w.send(c)
			} else {
				brokertest.Until(t, x.b, "the connection", func(m *broker.Metrics) bool { return m.Net.Open == 2 })
				x.in(t).advance(60)
			}
			c.Hangup()
			m := brokertest.Until(t, x.b, w.why.String(), func(m *broker.Metrics) bool { return m.Net.Open == 1 })
			if m.ConnectsRefused != want {
				t.Errorf("%d, %s: %v, want %v", i, w.why, m.ConnectsRefused, want)
			}
		}
	})
}

// TestRefusedByRights: whoever must not come in.
func TestRefusedByRights(t *testing.T) {
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.AllowAnonymous = false },
		func(t *testing.T, x *fixture) {
			for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
				c := brokertest.Dial(t, x.addr, v)
				c.Connack("c", nil)
				c.WantClosed()
			}
			m := brokertest.Settle(t, x.b)
			if want := [broker.RefusalReasons]int64{broker.RefusedNotAuthorized: 3}; m.ConnectsRefused != want {
				t.Errorf("%v", m.ConnectsRefused)
			}
		})
}

// TestStoreEndsAndReadiness: while persistent state cannot be written the broker lives, is not ready and says
// why; what ends or is refused for that is counted as that.
func TestStoreEndsAndReadiness(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		if err := d.b.Ready(); err != nil {
			t.Errorf("at the start: %v", err)
		}
		kept := d.connect("kept", codec.V5, keep)
		kept.Subscribe("a", 1)
		d.failing(t)
		const why = "persistent state cannot be written: store: no space left on device"
		if err := d.b.Ready(); err == nil || err.Error() != why {
			t.Errorf("while the store fails: %v", err)
		}
		if err := d.b.Alive(); err != nil {
			t.Errorf("while the store fails: %v", err)
		}
		pub := d.connect("pub", codec.V311, nil)
		pub.Publish("a", "refused", 1, 1)
		pub.WantClosed()
		fresh := brokertest.Dial(t, d.addr, codec.V5)
		if ack := fresh.Connack("fresh", keep); ack.Reason != codec.ServerUnavailable {
			t.Errorf("CONNACK %s", ack.Reason)
		}
		m := brokertest.Settle(t, d.b)
		if m.Disconnects[broker.EndStore] != 1 || m.ConnectsRefused[broker.RefusedUnavailable] != 1 {
			t.Errorf("%v %v", m.Disconnects, m.ConnectsRefused)
		}
		d.recovered(t)
		if err := d.b.Ready(); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
