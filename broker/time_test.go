package broker_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/wsnet"
)

func keepAlive(seconds uint16) func(*codec.Connect) {
	return func(p *codec.Connect) { p.KeepAlive = seconds }
}

// Mosquitto closes when more than one and a half times the keep alive have passed, in whole seconds.
func TestKeepAlive_MQTT_3_1_2_22(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
			forever := x.connect("forever", v, keepAlive(0))
			c := x.connect("c", v, keepAlive(10))
			x.advance(15)
			c.WantNothing() // a packet: 15 seconds more
			x.advance(15)
			exchange(t, c, "a", "any packet counts", 1)
			x.advance(15)
			if m := brokertest.Settle(t, x.b); m.Connections != 2 {
				t.Fatalf("%d connections after 15 seconds", m.Connections)
			}
			x.advance(1)
			c.WantClosed() // without DISCONNECT, as Mosquitto
			x.advance(365 * 24 * 3600)
			forever.WantNothing()
			forever.Disconnect()
		}
	})
}

func TestKeepAliveOfManyClients_MQTT_3_1_2_22(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		const n = 100
		var list []*brokertest.Client
		for i := range n {
			list = append(list, x.connect(fmt.Sprint(i), codec.V311, keepAlive(uint16(10*(i+1)))))
		}
		for i, c := range list {
			x.advance(14)
			if m := brokertest.Settle(t, x.b); m.Connections != int64(n-i) {
				t.Fatalf("%d connections before the end of number %d", m.Connections, i)
			}
			x.advance(1)
			if i == 0 {
				x.advance(1)
			}
			c.WantClosed()
		}
	})
}

func TestServerKeepAlive_MQTT_3_2_2_21(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxKeepAlive = 20 }
	onEach(t, limit, func(t *testing.T, x *fixture) {
		for _, asked := range []uint16{0, 21, 65535} {
			c := brokertest.Dial(t, x.addr, codec.V5)
			ack := c.Connack("c", keepAlive(asked))
			if k, _ := ack.Properties.Uint(codec.ServerKeepAlive); k != 20 {
				t.Errorf("asked for %d, Server Keep Alive %d", asked, k)
			}
			x.advance(30)
			c.WantNothing()
			x.advance(31)
			c.WantClosed()
		}
		c := brokertest.Dial(t, x.addr, codec.V5)
		ack := c.Connack("c", keepAlive(20))
		if _, ok := ack.Properties.Uint(codec.ServerKeepAlive); ok {
			t.Error("Server Keep Alive although the client's own is allowed")
		}
	})
}

func TestConnectTimeout(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var silent []*brokertest.Client
		for i := range 10 {
			c := brokertest.Dial(t, x.addr, codec.V5)
			c.Raw([]byte{0x10, 0xFF, 0x01, 0}[:i%5]) // half a CONNECT at most
			silent = append(silent, c)
		}
		brokertest.Until(t, x.b, "accept", func(m *broker.Metrics) bool { return m.ConnectionsTotal == 10 })
		live := x.connect("live", codec.V5, nil)
		x.advance(19)
		if m := brokertest.Settle(t, x.b); m.Net.Open != 11 {
			t.Errorf("%d open sockets", m.Net.Open)
		}
		x.advance(1)
		for _, c := range silent {
			c.WantClosed()
		}
		live.WantNothing()
	})
}

func expiry(seconds uint32) func(codec.Properties) codec.Properties {
	return uintProp(codec.SessionExpiry, seconds)
}

func TestSessionExpiry_MQTT_3_1_2_23(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, with(expiry(100)))
		c.Subscribe("q", 1)
		x.advance(1000) // online sessions do not expire
		c.Hangup()
		x.advance(99)
		c, present := x.present("c", codec.V5, with(expiry(100)))
		if !present {
			t.Fatal("the session is gone after 99 of 100 seconds")
		}
		c.Hangup()
		pub := x.connect("pub", codec.V5, nil)
		exchange(t, pub, "q", "waits", 1)
		x.advance(99)
		if m := brokertest.Settle(t, x.b); m.Sessions != 2 || m.QueuedMessages != 1 {
			t.Errorf("%d sessions, %d messages", m.Sessions, m.QueuedMessages)
		}
		x.advance(1)
		m := brokertest.Settle(t, x.b)
		if m.Sessions != 1 || m.QueuedMessages != 0 || m.Subscriptions != 0 || m.SessionsExpired != 1 {
			t.Errorf("%d sessions, %d messages, %d subscriptions, %d expired",
				m.Sessions, m.QueuedMessages, m.Subscriptions, m.SessionsExpired)
		}
		if _, present = x.present("c", codec.V5, nil); present {
			t.Error("the session is there after 100 seconds")
		}
	})
}

func TestSessionExpiryForms(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.PersistentClientExpiration = 1000 * time.Second
	}
	none := func(*codec.Connect) {}
	for _, tt := range []struct {
		name       string
		v          codec.Version
		change     func(*codec.Connect)
		disconnect func(codec.Properties) codec.Properties
		seconds    int // 0: ends with the connection
	}{
		{"MQTT-3.1.2-23 no interval", codec.V5, none, nil, 0},
		{"interval", codec.V5, with(expiry(7)), nil, 7},
		{"MQTT-3.14.2.2.2 changed by DISCONNECT", codec.V5, with(expiry(7)), expiry(70), 70},
		{"ended by DISCONNECT", codec.V5, with(expiry(7)), expiry(0), 0},
		{"never, capped by persistent_client_expiration", codec.V5, with(expiry(0xFFFFFFFF)), nil, 1000},
		{"DISCONNECT with never, capped", codec.V5, with(expiry(5)), expiry(0xFFFFFFFF), 1000},
		{"MQTT 3.1.1, capped", codec.V311, func(p *codec.Connect) { p.CleanStart = false }, nil, 1000},
		{"MQTT 3.1, capped", codec.V31, func(p *codec.Connect) { p.CleanStart = false }, nil, 1000},
		{"MQTT-3.1.2-6 clean session", codec.V311, none, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, limit, func(t *testing.T, x *fixture) {
				c := x.connect("c", tt.v, tt.change)
				d := &codec.Disconnect{}
				if tt.disconnect != nil {
					d.Properties = props(tt.disconnect)
				}
				c.Send(d)
				c.WantClosed()
				if tt.seconds > 0 {
					x.advance(tt.seconds - 1)
					if m := brokertest.Settle(t, x.b); m.Sessions != 1 {
						t.Fatalf("%d sessions a second before the end", m.Sessions)
					}
					x.advance(1)
				}
				if m := brokertest.Settle(t, x.b); m.Sessions != 0 {
					t.Errorf("%d sessions at the end", m.Sessions)
				}
			})
		})
	}
}

func TestSessionThatNeverExpires_MQTT_3_1_2_11_2(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.connect("five", codec.V5, with(expiry(0xFFFFFFFF))).Hangup()
		x.connect("four", codec.V311, func(p *codec.Connect) { p.CleanStart = false }).Hangup()
		x.advance(100 * 365 * 24 * 3600)
		for id, v := range map[string]codec.Version{"five": codec.V5, "four": codec.V311} {
			if _, present := x.present(id, v, nil); !present {
				t.Errorf("%s is gone", id)
			}
		}
	})
}

// DISCONNECT must not make a session last that was to end with its connection.
func TestExpiryFromZero_MQTT_3_14_2_2(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		c.Send(&codec.Disconnect{Properties: props(expiry(10))})
		wantDisconnect(t, c, codec.ProtocolError)
		if m := brokertest.Settle(t, x.b); m.Sessions != 0 {
			t.Errorf("%d sessions", m.Sessions)
		}
	})
}

// willOf sets a will on w/ID with a delay and a session expiry.
func willOf(delay, session uint32, more ...func(codec.Properties) codec.Properties) func(*codec.Connect) {
	return func(p *codec.Connect) {
		p.HasWill = true
		p.Will = codec.Will{QoS: 1, Topic: append([]byte("w/"), p.ClientID...), Payload: []byte("gone")}
		p.Will.Properties = props(append(more, uintProp(codec.WillDelay, delay))...)
		p.Properties = props(expiry(session))
	}
}

func TestWillDelay_MQTT_3_1_3_9(t *testing.T) {
	for _, tt := range []struct {
		name           string
		delay, session uint32
		at             int
	}{
		{"after the delay", 10, 100, 10},
		{"at the end of the session if that is earlier", 100, 10, 10},
		{"both at once", 10, 10, 10},
		{"session that never ends", 10, 0xFFFFFFFF, 10},
		{"no delay", 0, 100, 0},
		{"session ends with the connection", 10, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, nil, func(t *testing.T, x *fixture) {
				sub := x.connect("sub", codec.V5, nil)
				sub.Subscribe("w/#", 1)
				x.connect("c", codec.V5, willOf(tt.delay, tt.session)).Hangup()
				if tt.at > 0 {
					x.advance(tt.at - 1)
					sub.WantNothing()
					x.advance(1)
				}
				p := receive(t, sub, "w/c", "gone", 1)
				if len(p.Properties) > 0 {
					t.Errorf("properties % x", []byte(p.Properties))
				}
				x.advance(1000)
				sub.WantNothing() // once [MQTT-3.1.2-10]
			})
		})
	}
}

func TestWillDelayAndReconnect_MQTT_3_1_3_9(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("w/#", 1)
		x.connect("c", codec.V5, willOf(10, 100)).Hangup()
		x.advance(9)
		c, _ := x.present("c", codec.V5, with(expiry(100))) // the session goes on: no will
		c.Hangup()
		x.advance(200)
		sub.WantNothing()
		x.connect("d", codec.V5, willOf(10, 100)).Hangup()
		x.advance(9)
		x.connect("d", codec.V5, nil) // clean start ends the session: the will is sent
		receive(t, sub, "w/d", "gone", 1)
		x.advance(1000)
		sub.WantNothing()
	})
}

func TestWillAndTakeover_MQTT_3_1_4_3(t *testing.T) {
	for _, tt := range []struct {
		name  string
		delay uint32
		clean bool
		want  bool
	}{
		{"resumed, no delay", 0, false, true},
		{"resumed, delayed: the session goes on", 10, false, false},
		{"clean start, no delay", 0, true, true},
		{"clean start, delayed: the session ends", 10, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, nil, func(t *testing.T, x *fixture) {
				sub := x.connect("sub", codec.V5, nil)
				sub.Subscribe("w/#", 1)
				old := x.connect("c", codec.V5, willOf(tt.delay, 100))
				c := x.connect("c", codec.V5, func(p *codec.Connect) {
					p.CleanStart = tt.clean
					p.KeepAlive = 1000
				})
				wantDisconnect(t, old, codec.SessionTakenOver)
				if tt.want {
					receive(t, sub, "w/c", "gone", 1)
				}
				x.advance(500)
				sub.WantNothing()
				c.WantNothing()
			})
		})
	}
}

// A takeover ends the first connection without its DISCONNECT, so in MQTT 3 its will is sent [MQTT-3.1.2-8].
// Mosquitto sends none.
func TestWillAndTakeover_MQTT_3_1_2_8(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V31, codec.V311} {
			for _, clean := range []bool{false, true} {
				sub := x.connect("sub", codec.V5, nil)
				sub.Subscribe("w/#", 1)
				old := x.connect("c", v, func(p *codec.Connect) {
					p.CleanStart, p.HasWill = clean, true
					p.Will = codec.Will{QoS: 1, Topic: []byte("w/c"), Payload: []byte("gone")}
				})
				x.connect("c", v, func(p *codec.Connect) { p.CleanStart = clean })
				old.WantClosed()
				receive(t, sub, "w/c", "gone", 1)
				sub.WantNothing() // once
			}
		}
	})
}

// The timers of the connection that lost its session do not touch the one that has it.
func TestTakeoverAndKeepAlive(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for i, v := range []codec.Version{codec.V311, codec.V5} {
			id := fmt.Sprint(i)
			old := x.connect(id, v, keepAlive(10))
			x.advance(10)
			c, _ := x.present(id, v, keepAlive(100))
			if v == codec.V5 {
				wantDisconnect(t, old, codec.SessionTakenOver)
			} else {
				old.WantClosed()
			}
			x.advance(100)
			c.WantNothing()
			short, _ := x.present(id, v, keepAlive(4))
			x.advance(6)
			short.WantNothing()
			x.advance(7)
			short.WantClosed()
		}
	})
}

func TestWillExpiryCountsFromItsPublication(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(expiry(1000)))
		sub.Subscribe("w/#", 1)
		sub.Hangup()
		x.connect("c", codec.V5, willOf(50, 100, uintProp(codec.MessageExpiry, 20))).Hangup()
		x.advance(50)
		x.advance(15)
		sub, _ = x.present("sub", codec.V5, with(expiry(1000)))
		p := receive(t, sub, "w/c", "gone", 1)
		if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 5 {
			t.Errorf("Message Expiry Interval %d", left)
		}
	})
}

// sendExpiring publishes with a Message Expiry Interval and waits for the acknowledgement.
func sendExpiring(c *brokertest.Client, topic, payload string, seconds uint32, retain bool) {
	c.Send(&codec.Publish{
		QoS: 1, PacketID: 1, Retain: retain, Topic: []byte(topic), Payload: []byte(payload),
		Properties: props(uintProp(codec.MessageExpiry, seconds)),
	})
	c.Want(codec.PUBACK, nil)
}

func TestMessageExpiryInTheQueue_MQTT_3_3_2_5(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(expiry(1000)))
		sub.Subscribe("m", 1)
		sub.Hangup()
		old := x.connect("old", codec.V311, func(p *codec.Connect) { p.CleanStart = false })
		old.Subscribe("m", 1)
		old.Hangup()
		pub := x.connect("pub", codec.V5, nil)
		sendExpiring(pub, "m", "short", 10, false)
		sendExpiring(pub, "m", "long", 100, false)
		exchange(t, pub, "m", "always", 1)
		x.advance(10)
		sub, _ = x.present("sub", codec.V5, with(expiry(1000)))
		p := receive(t, sub, "m", "long", 1)
		if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 90 { // [MQTT-3.3.2-6]
			t.Errorf("Message Expiry Interval %d", left)
		}
		p = receive(t, sub, "m", "always", 1)
		if _, ok := p.Properties.Uint(codec.MessageExpiry); ok {
			t.Error("Message Expiry Interval where the publisher set none")
		}
		sub.WantNothing()
		x.advance(89)
		old, _ = x.present("old", codec.V311, nil)
		receive(t, old, "m", "long", 1)
		receive(t, old, "m", "always", 1)
		old.WantNothing()
		if n := x.dropped(broker.DropExpired); n != 2 {
			t.Errorf("%d dropped as expired", n)
		}
	})
}

// TestMessageExpiryIsNeverMore_MQTT_3_3_2_6 has each turn of a loop begin before the one that sent the message.
func TestMessageExpiryIsNeverMore_MQTT_3_3_2_6(t *testing.T) {
	var now atomic.Int64
	now.Store(1_800_000_000_000)
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Clock = &wsnet.Clock{Now: func() int64 { return now.Add(-1) }, Ticks: make(chan time.Time)}
	}, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		var subs []*brokertest.Client
		for i := range 8 { // on all loops
			c := x.connect(fmt.Sprint("sub", i), codec.V5, nil)
			c.Subscribe("a", 1)
			subs = append(subs, c)
		}
		for qos := range uint8(2) {
			pub.Send(&codec.Publish{
				Topic: []byte("a"), Payload: []byte("m"), QoS: qos, PacketID: uint16(qos), Retain: qos == 1,
				Properties: props(uintProp(codec.MessageExpiry, 20)),
			})
			for i, c := range subs {
				p := c.WantPublish("a", "m")
				if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 20 {
					t.Errorf("QoS %d, client %d: %d s", qos, i, left)
				}
			}
		}
		late := x.connect("late", codec.V5, nil)
		late.Subscribe("a", 0)
		p := late.WantPublish("a", "m")
		if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 20 {
			t.Errorf("retained: %d s", left)
		}
	})
}

func TestMessageExpiryBehindTheWindow_MQTT_3_3_2_5(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(uintProp(codec.ReceiveMaximum, 1)))
		sub.Subscribe("m", 1)
		pub := x.connect("pub", codec.V5, nil)
		for _, s := range []string{"sent", "expires", "expires too", "stays"} {
			seconds := uint32(10)
			if s == "stays" {
				seconds = 11
			}
			sendExpiring(pub, "m", s, seconds, false)
		}
		first := sub.WantPublish("m", "sent")
		x.advance(10)
		sub.Ack(codec.PUBACK, first.PacketID)
		p := receive(t, sub, "m", "stays", 1)
		if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 1 {
			t.Errorf("Message Expiry Interval %d", left)
		}
		if n := x.dropped(broker.DropExpired); n != 2 {
			t.Errorf("%d dropped as expired", n)
		}
	})
}

// A QoS 2 message is passed on at PUBREL; it may have expired by then.
func TestMessageExpiryBeforePubrel_MQTT_3_3_2_5(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("m", 2)
		pub := x.connect("pub", codec.V5, nil)
		for id, seconds := range []uint32{1: 10, 2: 11} {
			if seconds == 0 {
				continue
			}
			pub.Send(&codec.Publish{
				QoS: 2, PacketID: uint16(id), Topic: []byte("m"), Payload: fmt.Append(nil, seconds),
				Properties: props(uintProp(codec.MessageExpiry, seconds)),
			})
			pub.Want(codec.PUBREC, nil)
		}
		x.advance(10)
		for id := range uint16(2) {
			pub.Ack(codec.PUBREL, id+1)
			pub.Want(codec.PUBCOMP, nil)
		}
		receive(t, sub, "m", "11", 2)
		sub.WantNothing()
	})
}

func TestRetainedMessageExpires_MQTT_3_3_1(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		sendExpiring(pub, "r/short", "s", 10, true)
		sendExpiring(pub, "r/long", "l", 100, true)
		x.advance(9)
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("r/short", 1)
		p := receive(t, sub, "r/short", "s", 1)
		if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 1 || !p.Retain {
			t.Errorf("Message Expiry Interval %d, RETAIN %v", left, p.Retain)
		}
		x.advance(1)
		sub.Subscribe("r/#", 1)
		receive(t, sub, "r/long", "l", 1)
		sub.WantNothing()
		x.advance(1) // the sweeper has seen them all by now
		if m := brokertest.Settle(t, x.b); m.Retained != 1 {
			t.Errorf("%d retained messages", m.Retained)
		}
	})
}

func TestSysTreeFollowsTheClock(t *testing.T) {
	every := func(o *broker.Options, _ *broker.ListenerOptions) { o.SysInterval = 10 * time.Second }
	onEach(t, every, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V311, nil)
		brokertest.Until(t, x.b, "the first update", func(m *broker.Metrics) bool { return m.Retained > 20 })
		sub.Subscribe("$SYS/broker/clients/connected", 0)
		h, _, err := sub.Next() // the first update may have come before or after the connection
		if err != nil || h.Type != codec.PUBLISH {
			t.Fatalf("%v %v", h.Type, err)
		}
		x.connect("other", codec.V311, nil)
		x.advance(9)
		sub.WantNothing()
		x.advance(1)
		sub.WantPublish("$SYS/broker/clients/connected", "2")
	})
}
