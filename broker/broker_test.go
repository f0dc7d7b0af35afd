package broker_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// variants runs a test on one loop, on four, and on the portable poller.
func variants(t *testing.T, f func(t *testing.T, start func(change func(*broker.Options, *broker.ListenerOptions)) *broker.Listener)) {
	for _, v := range []struct {
		name     string
		loops    int
		portable bool
	}{{"one loop", 1, false}, {"four loops", 4, false}, {"portable", 3, true}} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			f(t, func(change func(*broker.Options, *broker.ListenerOptions)) *broker.Listener {
				_, addr := brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
					o.Loops, o.Portable = v.loops, v.portable
					if change != nil {
						change(o, l)
					}
				})
				return addr
			})
		})
	}
}

type startFunc = func(change func(*broker.Options, *broker.ListenerOptions)) *broker.Listener

func props(list ...func(codec.Properties) codec.Properties) (p codec.Properties) {
	for _, f := range list {
		p = f(p)
	}
	return p
}

func uintProp(id codec.PropertyID, v uint32) func(codec.Properties) codec.Properties {
	return func(p codec.Properties) codec.Properties { return codec.AppendUintProperty(p, id, v) }
}

func TestConnackBytes_MQTT_3_2(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	for v, want := range map[codec.Version]string{
		codec.V31: "20020000", codec.V311: "20020000", codec.V5: "200e00000b22000a27001e8480210014",
	} {
		c := brokertest.Dial(t, addr, v)
		c.Send(&codec.Connect{Version: v, CleanStart: true, ClientID: []byte("c")})
		got := make([]byte, len(want)/2)
		if _, err := readFull(c, got); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("version %d: %x %v, want %s", v, got, err, want)
		}
	}
}

func readFull(c *brokertest.Client, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		k, err := c.Conn.Read(b[n:])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func TestRefusedConnects(t *testing.T) {
	_, addr := brokertest.Start(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxKeepAlive = 100 })
	_, closed := brokertest.Start(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.AllowAnonymous = false })
	tests := []struct {
		name     string
		addr     *broker.Listener
		in, want string
	}{
		{"MQTT-3.1.2-2 level 6 is answered in the form of MQTT 5", addr, "100d00044d51545406020000000161" + "", "2003008400"},
		{"MQTT-3.1.2-2 level 3 with name MQTT", addr, "100d00044d515454030200000001 61", "20020001"},
		{"MQTT-3.1.2-1 unknown name", addr, "100d00044d515455040200000001 61", ""},
		{"MQTT-3.1.2-3 reserved flag", addr, "100d00044d515454040300000001 61", ""},
		{"MQTT-3.1.3-8 empty id without clean session", addr, "100c00044d51545404000000 0000", "20020002"},
		{"keep alive above max_keepalive, MQTT 3", addr, "100d00044d5154540402ffff0001 61", "20020002"},
		{"no anonymous clients, MQTT 3", closed, "100d00044d515454040200000001 61", "20020005"},
		{"no anonymous clients, MQTT 5", closed, "100e00044d51545405020000000001 61", "2003008700"},
		{"first packet is not CONNECT", addr, "c000", ""},
		{"reserved packet type", addr, "0000", ""},
		{"remaining length of five bytes", addr, "10ffffffff7f", ""},
		{"CONNECT of 1 MB is refused before its body", addr, "10808040", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := brokertest.Dial(t, tt.addr, codec.V311)
			raw, err := hex.DecodeString(strings.ReplaceAll(tt.in, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			c.Raw(raw)
			got := make([]byte, len(tt.want)/2)
			if _, err := readFull(c, got); err != nil || hex.EncodeToString(got) != tt.want {
				t.Fatalf("%x %v, want %s", got, err, tt.want)
			}
			c.WantClosed()
		})
	}
}

func TestConnectByteAtATime(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	c := brokertest.Dial(t, addr, codec.V5)
	p := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte("slowly")}
	for _, b := range p.Append(nil, codec.V5) {
		c.Raw([]byte{b})
	}
	c.Want(codec.CONNACK, nil)
	c.WantNothing()
}

func TestDeliveryAllVersionsAndQoS(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
			sub := brokertest.Connect(t, addr, fmt.Sprint("sub", v), v, nil)
			for q := range uint8(3) {
				sub.Subscribe(fmt.Sprintf("t/%d/+", q), q)
			}
			for _, pv := range []codec.Version{codec.V31, codec.V311, codec.V5} {
				pub := brokertest.Connect(t, addr, fmt.Sprint("pub", v, pv), pv, nil)
				for q := range uint8(3) {
					topic := fmt.Sprintf("t/%d/x", q)
					exchange(t, pub, topic, "hello", q)
					receive(t, sub, topic, "hello", q)
				}
			}
			sub.Disconnect()
		}
	})
}

// exchange publishes and completes the handshake.
func exchange(t *testing.T, c *brokertest.Client, topic, payload string, qos uint8) {
	t.Helper()
	c.Publish(topic, payload, qos, 9)
	var a codec.Ack
	switch qos {
	case 1:
		c.Want(codec.PUBACK, &a)
	case 2:
		c.Want(codec.PUBREC, &a)
		c.Ack(codec.PUBREL, 9)
		c.Want(codec.PUBCOMP, &a)
	}
	if qos > 0 && a.PacketID != 9 {
		t.Fatalf("acknowledged packet id %d", a.PacketID)
	}
}

// receive takes a message and completes the handshake.
func receive(t *testing.T, c *brokertest.Client, topic, payload string, qos uint8) codec.Publish {
	t.Helper()
	p := c.WantPublish(topic, payload)
	if p.QoS != qos {
		t.Fatalf("QoS %d, want %d", p.QoS, qos)
	}
	switch qos {
	case 1:
		c.Ack(codec.PUBACK, p.PacketID)
	case 2:
		c.Ack(codec.PUBREC, p.PacketID)
		c.Want(codec.PUBREL, nil)
		c.Ack(codec.PUBCOMP, p.PacketID)
	}
	return p
}

func TestReceiveMaximum5Burst200_MQTT_3_3_4_9(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		sub := brokertest.Connect(t, addr, "slow", codec.V5, func(p *codec.Connect) {
			p.Properties = props(uintProp(codec.ReceiveMaximum, 5))
		})
		sub.Subscribe("burst", 1)
		pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
		for i := range 200 {
			pub.Publish("burst", fmt.Sprint(i), 1, uint16(i+1))
		}
		for range 200 {
			pub.Want(codec.PUBACK, nil)
		}
		var open []uint16
		for i := range 200 {
			p := sub.WantPublish("burst", fmt.Sprint(i))
			if open = append(open, p.PacketID); len(open) == 5 {
				sub.WantNothing()
				for _, id := range open {
					sub.Ack(codec.PUBACK, id)
				}
				open = nil
			}
		}
	})
}

func TestResumeWith10000Queued(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxQueuedMessages, o.MaxInflight = 0, 0
		})
		persistent := func(p *codec.Connect) { p.CleanStart = false }
		sub := brokertest.Connect(t, addr, "s", codec.V311, persistent)
		sub.Subscribe("q", 1)
		sub.Disconnect()
		pub := brokertest.Connect(t, addr, "p", codec.V311, nil)
		const n = 10000
		for i := range n {
			pub.Publish("q", fmt.Sprint(i), 1, uint16(i+1))
			if i%100 == 99 {
				for range 100 {
					pub.Want(codec.PUBACK, nil)
				}
			}
		}
		sub = brokertest.Dial(t, addr, codec.V311)
		if ack := sub.Connack("s", persistent); !ack.SessionPresent {
			t.Fatal("no session present [MQTT-3.2.2-2]")
		}
		for i := range n {
			sub.WantPublish("q", fmt.Sprint(i)) // nothing is acknowledged: one burst
		}
	})
}

func TestSessionTakeover_MQTT_3_1_4_3(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			old := brokertest.Connect(t, addr, "same", v, nil)
			brokertest.Connect(t, addr, "same", v, nil).WantNothing()
			if v == codec.V5 {
				var d codec.Disconnect
				old.Want(codec.DISCONNECT, &d)
				if d.Reason != codec.SessionTakenOver {
					t.Errorf("DISCONNECT %s", d.Reason)
				}
			}
			old.WantClosed()
		}
	})
}

func TestWill(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		sub := brokertest.Connect(t, addr, "sub", codec.V5, nil)
		sub.Subscribe("will/#", 1)
		will := func(p *codec.Connect) {
			p.HasWill = true
			p.Will = codec.Will{QoS: 1, Topic: append([]byte("will/"), p.ClientID...), Payload: []byte("gone")}
		}
		brokertest.Connect(t, addr, "a", codec.V311, will).Close()
		receive(t, sub, "will/a", "gone", 1)
		brokertest.Connect(t, addr, "b", codec.V311, will).Disconnect() // [MQTT-3.1.2-10]
		c := brokertest.Connect(t, addr, "c", codec.V5, will)
		c.Send(&codec.Disconnect{Reason: codec.DisconnectWithWill}) // [MQTT-3.14.4-3]
		receive(t, sub, "will/c", "gone", 1)
		d := brokertest.Connect(t, addr, "d", codec.V5, func(p *codec.Connect) {
			will(p)
			p.Will.Properties = props(uintProp(codec.WillDelay, 60))
			p.Properties = props(uintProp(codec.SessionExpiry, 60))
		})
		d.Close()
		brokertest.Connect(t, addr, "d", codec.V5, func(p *codec.Connect) { p.CleanStart = false }) // [MQTT-3.1.3-9]
		sub.WantNothing()
	})
}

func TestRetained(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		pub := brokertest.Connect(t, addr, "pub", codec.V5, nil)
		retain := func(topic, payload string) {
			pub.Send(&codec.Publish{Retain: true, QoS: 1, PacketID: 1, Topic: []byte(topic), Payload: []byte(payload)})
			pub.Want(codec.PUBACK, nil)
		}
		retain("r/a", "1")
		retain("r/b", "2")
		retain("r/b", "") // [MQTT-3.3.1-6]
		sub := brokertest.Connect(t, addr, "sub", codec.V5, nil)
		f := func(rh uint8, rap bool) codec.Filter {
			return codec.Filter{Name: []byte("r/#"), QoS: 1, RetainHandling: rh, RetainAsPublished: rap}
		}
		sub.SubscribeWith(f(2, false), nil) // [MQTT-3.3.1-11]
		sub.WantNothing()
		sub.SubscribeWith(f(1, false), nil) // existing: [MQTT-3.3.1-10]
		sub.WantNothing()
		sub.SubscribeWith(f(0, true), props(uintProp(codec.SubscriptionIdentifier, 300)))
		p := receive(t, sub, "r/a", "1", 1)
		if id, _ := p.Properties.Uint(codec.SubscriptionIdentifier); !p.Retain || id != 300 {
			t.Errorf("retained message %+v [MQTT-3.3.1-8] [MQTT-3.3.4-3]", p)
		}
		retain("r/c", "3")
		if p := receive(t, sub, "r/c", "3", 1); !p.Retain {
			t.Error("RETAIN is 0 with Retain As Published [MQTT-3.3.1-13]")
		}
		sub.SubscribeWith(f(2, false), nil)
		retain("r/c", "4")
		if p := receive(t, sub, "r/c", "4", 1); p.Retain {
			t.Error("RETAIN is 1 without Retain As Published [MQTT-3.3.1-12]")
		}
	})
}

func TestManyRetainedAllArrive(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil) // window 20, queue 1000
		pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
		const n = 5000
		for i := range n {
			pub.Send(&codec.Publish{Retain: true, QoS: 1, PacketID: 1, Topic: fmt.Appendf(nil, "r/%d", i), Payload: []byte("x")})
			pub.Want(codec.PUBACK, nil)
		}
		sub := brokertest.Connect(t, addr, "sub", codec.V311, nil)
		sub.Subscribe("r/#", 1)
		seen := map[string]bool{}
		for range n {
			var p codec.Publish
			sub.Want(codec.PUBLISH, &p)
			seen[string(p.Topic)] = true
			sub.Ack(codec.PUBACK, p.PacketID)
		}
		if len(seen) != n {
			t.Errorf("%d of %d topics", len(seen), n)
		}
		sub.WantNothing()
	})
}

func TestOverlappingSubscriptionsAndIdentifiers(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	sub := brokertest.Connect(t, addr, "sub", codec.V5, nil)
	sub.SubscribeWith(codec.Filter{Name: []byte("a/+"), QoS: 1}, props(uintProp(codec.SubscriptionIdentifier, 1)))
	sub.SubscribeWith(codec.Filter{Name: []byte("a/b"), QoS: 0}, props(uintProp(codec.SubscriptionIdentifier, 2)))
	brokertest.Connect(t, addr, "pub", codec.V311, nil).Publish("a/b", "x", 1, 1)
	ids := map[uint32]uint8{}
	for range 2 {
		p := sub.WantPublish("a/b", "x")
		id, _ := p.Properties.Uint(codec.SubscriptionIdentifier)
		ids[id] = p.QoS
	}
	if ids[1] != 1 || ids[2] != 0 || len(ids) != 2 {
		t.Errorf("identifiers and QoS %v", ids)
	}
	sub.WantNothing()
}

func TestAllowDuplicateMessagesFalse_MQTT_3_3_5_1(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(func(o *broker.Options, _ *broker.ListenerOptions) { o.AllowDuplicates = false })
		sub := brokertest.Connect(t, addr, "sub", codec.V311, nil)
		for i, f := range []string{"a/#", "a/+", "a/b"} {
			sub.Subscribe(f, uint8(i%3))
		}
		pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
		exchange(t, pub, "a/b", "once", 2)
		receive(t, sub, "a/b", "once", 2)
		sub.WantNothing()
	})
}

func TestNoLocal_MQTT_3_8_3_3(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	c := brokertest.Connect(t, addr, "c", codec.V5, nil)
	c.SubscribeWith(codec.Filter{Name: []byte("n"), NoLocal: true}, nil)
	c.Publish("n", "mine", 0, 0)
	c.WantNothing()
	brokertest.Connect(t, addr, "d", codec.V5, nil).Publish("n", "yours", 0, 0)
	c.WantPublish("n", "yours")
}

// TestBridgeOfMQTT3: a broker that connects with the bit of Mosquitto's bridges cannot ask for No Local and
// Retain As Published; it has them with every subscription.
func TestBridgeOfMQTT3(t *testing.T) {
	h := &lines{}
	_, addr := brokertest.Start(t, onSockets(func(o *broker.Options, _ *broker.ListenerOptions) { o.Log = slog.New(h) }))
	for i, v := range []codec.Version{codec.V31, codec.V311} {
		id, topic := fmt.Sprint("bridge", i), fmt.Sprint("n", i)
		persistent := func(p *codec.Connect) { p.CleanStart, p.Bridge = false, true }
		c := brokertest.Connect(t, addr, id, v, persistent)
		c.Subscribe(topic, 1)
		c.Subscribe("$share/g/s", 0)
		for range 2 {
			c.Publish(topic, "mine", 0, 0)
			c.WantNothing()
			other := brokertest.Connect(t, addr, "other", codec.V311, nil)
			other.Send(&codec.Publish{Topic: []byte(topic), Payload: []byte("kept"), Retain: true})
			if p := c.WantPublish(topic, "kept"); !p.Retain {
				t.Error("RETAIN is gone")
			}
			c.Disconnect()
			c = brokertest.Connect(t, addr, id, v, persistent) // its subscriptions are what they were
		}
		c.Disconnect()
		if !h.has(fmt.Sprintf(" as %s (p%d, c0, k0).", id, v)) || !h.has("New bridge connected from 127.0.0.1:") {
			t.Errorf("%q", h.text)
		}
		brokertest.Connect(t, addr, id, v, nil) // ends the session
	}
}

func TestOwnMessageBeforeAck(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	c := brokertest.Connect(t, addr, "c", codec.V311, nil)
	c.Subscribe("own", 0)
	c.Publish("own", "x", 1, 5)
	c.WantPublish("own", "x")
	c.Want(codec.PUBACK, nil)
}

func TestNoMatchingSubscribers(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	c := brokertest.Connect(t, addr, "c", codec.V5, nil)
	c.Publish("nobody", "x", 1, 5)
	var a codec.Ack
	c.Want(codec.PUBACK, &a)
	if a.Reason != codec.NoMatchingSubscribers {
		t.Errorf("PUBACK %s", a.Reason)
	}
}

func TestSharedSubscription(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var subs []*brokertest.Client
		for i := range 3 {
			c := x.connect(fmt.Sprint("s", i), codec.V5, func(p *codec.Connect) {
				if i == 0 {
					p.Properties = props(uintProp(codec.ReceiveMaximum, 1))
				}
			})
			c.Subscribe("$share/g/s/+", 1)
			subs = append(subs, c)
		}
		pub := x.connect("pub", codec.V311, nil)
		for i := range 31 {
			exchange(t, pub, "s/x", fmt.Sprint(i), 1)
			for range 2 { // from the publisher's loop to the dealer's, from there to the member's
				brokertest.Settle(t, x.b)
			}
		}
		// The first acknowledges nothing: it holds one message and the others share the rest.
		count := 0
		for i, c := range subs {
			for k := 0; ; k++ {
				c.Raw(codec.AppendPingreq(nil))
				done := false
				for !done {
					h, body, err := c.Next()
					if err != nil {
						t.Fatal(err)
					}
					if done = h.Type == codec.PINGRESP; !done {
						var p codec.Publish
						if err := p.Parse(h.Flags, body, codec.V5); err != nil {
							t.Fatal(err)
						}
						count++
						if i > 0 {
							c.Ack(codec.PUBACK, p.PacketID)
						}
						if i == 0 && k > 0 {
							t.Error("the full member got a second message")
						}
					}
				}
				if k > 20 {
					break
				}
			}
		}
		if count != 31 {
			t.Errorf("%d of 31 messages arrived", count)
		}
	})
}

func TestTopicAliases(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	sub := brokertest.Connect(t, addr, "sub", codec.V5, func(p *codec.Connect) {
		p.Properties = props(uintProp(codec.TopicAliasMaximum, 1))
	})
	sub.Subscribe("#", 0)
	pub := brokertest.Connect(t, addr, "pub", codec.V5, nil)
	alias := props(uintProp(codec.TopicAlias, 3))
	pub.Send(&codec.Publish{Topic: []byte("long/topic"), Properties: alias, Payload: []byte("1")})
	pub.Send(&codec.Publish{Properties: alias, Payload: []byte("2")})
	pub.Send(&codec.Publish{Topic: []byte("other"), Payload: []byte("3")})
	first := sub.WantPublish("long/topic", "1")
	if a, _ := first.Properties.Uint(codec.TopicAlias); a != 1 {
		t.Errorf("first message has alias %d", a)
	}
	sub.WantPublish("", "2")
	if third := sub.WantPublish("other", "3"); len(third.Properties) > 0 {
		t.Errorf("properties % x", []byte(third.Properties))
	}
	pub.Send(&codec.Publish{Topic: []byte("x"), Properties: props(uintProp(codec.TopicAlias, 11))})
	var d codec.Disconnect
	pub.Want(codec.DISCONNECT, &d)
	if d.Reason != codec.TopicAliasInvalid {
		t.Errorf("DISCONNECT %s [MQTT-3.3.2-9]", d.Reason)
	}
}

func TestLimitsEndTheConnection(t *testing.T) {
	_, addr := brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxPacketSize, o.RetainAvailable, l.MaxQoS = 1000, false, 1
	})
	tests := []struct {
		name   string
		send   func(c *brokertest.Client)
		reason codec.Reason
	}{
		{"MQTT-3.2.2-15 packet too large", func(c *brokertest.Client) {
			c.Raw([]byte{0x30, 0xFF, 0x7F})
		}, codec.PacketTooLarge},
		{"MQTT-3.2.2-11 QoS above the maximum", func(c *brokertest.Client) { c.Publish("a", "b", 2, 1) }, codec.QoSNotSupported},
		{"MQTT-3.2.2-14 retain", func(c *brokertest.Client) {
			c.Send(&codec.Publish{Retain: true, Topic: []byte("a"), Payload: []byte("b")})
		}, codec.RetainNotSupported},
		{"MQTT-3.3.1-4 QoS 3", func(c *brokertest.Client) { c.Raw([]byte{0x36, 5, 0, 1, 'a', 0, 1}) }, codec.MalformedPacket},
		{"MQTT-3.1.0-2 second CONNECT", func(c *brokertest.Client) {
			c.Send(&codec.Connect{Version: codec.V5, ClientID: []byte("x")})
		}, codec.ProtocolError},
		{"MQTT-1.5.4-1 invalid UTF-8", func(c *brokertest.Client) { c.Publish("a\xff", "b", 0, 0) }, codec.MalformedPacket},
		{"MQTT-3.3.2-2 wildcard in a topic", func(c *brokertest.Client) { c.Publish("a/+", "b", 0, 0) }, codec.MalformedPacket},
		{"MQTT-3.3.4-6 subscription identifier", func(c *brokertest.Client) {
			c.Send(&codec.Publish{Topic: []byte("a"), Properties: props(uintProp(codec.SubscriptionIdentifier, 1))})
		}, codec.ProtocolError},
		{"MQTT-3.8.3-4 no local on a share", func(c *brokertest.Client) {
			c.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("$share/g/a"), NoLocal: true}}})
		}, codec.ProtocolError},
		{"MQTT-4.7.1-1 bad filter", func(c *brokertest.Client) {
			c.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("a#")}}})
		}, codec.MalformedPacket},
		{"AUTH", func(c *brokertest.Client) { c.Send(&codec.Auth{Reason: codec.ReAuthenticate}) }, codec.ProtocolError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			five := brokertest.Connect(t, addr, "five", codec.V5, nil)
			tt.send(five)
			var d codec.Disconnect
			five.Want(codec.DISCONNECT, &d)
			if d.Reason != tt.reason {
				t.Errorf("DISCONNECT 0x%02x %s, want %s", byte(d.Reason), d.Reason, tt.reason)
			}
			five.WantClosed()
		})
	}
	three := brokertest.Connect(t, addr, "three", codec.V311, nil)
	three.Publish("a", "b", 2, 1)
	three.WantClosed()
}

func TestClientMaximumPacketSize_MQTT_3_1_2_24(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	sub := brokertest.Connect(t, addr, "sub", codec.V5, func(p *codec.Connect) {
		p.Properties = props(uintProp(codec.MaximumPacketSize, 100))
	})
	sub.Subscribe("m", 1)
	pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
	exchange(t, pub, "m", strings.Repeat("x", 200), 1)
	exchange(t, pub, "m", "small", 1)
	receive(t, sub, "m", "small", 1)
}

func TestReservedTopics(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	c := brokertest.Connect(t, addr, "c", codec.V5, nil)
	for _, topic := range []string{"$SYS/broker/version", "$share/g/a"} {
		c.Publish(topic, "x", 1, 1)
		var a codec.Ack
		c.Want(codec.PUBACK, &a)
		if a.Reason != codec.NotAuthorized {
			t.Errorf("%s: PUBACK %s", topic, a.Reason)
		}
	}
}

func TestLargePayloads(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxPacketSize = 0 })
		var subs []*brokertest.Client
		for i := range 3 {
			c := brokertest.Connect(t, addr, fmt.Sprint("s", i), codec.V311, nil)
			c.Subscribe("big", uint8(i))
			subs = append(subs, c)
		}
		pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
		for _, n := range []int{1000, 1024, 70000, 1 << 20, 8 << 20} {
			payload := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
			exchange(t, pub, "big", string(payload), 2)
			for i, c := range subs {
				var p codec.Publish
				c.Want(codec.PUBLISH, &p)
				if !bytes.Equal(p.Payload, payload) || int(p.QoS) != i {
					t.Fatalf("%d bytes, QoS %d: payload of %d bytes differs", n, p.QoS, len(p.Payload))
				}
				if i == 1 {
					c.Ack(codec.PUBACK, p.PacketID)
				}
				if i == 2 {
					c.Ack(codec.PUBREC, p.PacketID)
					c.Want(codec.PUBREL, nil)
					c.Ack(codec.PUBCOMP, p.PacketID)
				}
			}
		}
	})
}

func TestPropertiesAreForwardedInOrder_MQTT_3_3_2(t *testing.T) {
	_, addr := brokertest.Start(t, nil)
	sub := brokertest.Connect(t, addr, "sub", codec.V5, nil)
	sub.Subscribe("p", 0)
	pub := brokertest.Connect(t, addr, "pub", codec.V5, nil)
	var in, want codec.Properties
	in = codec.AppendUserProperty(in, []byte("k"), []byte("1"))
	in = codec.AppendBytesProperty(in, codec.ResponseTopic, []byte("answer"))
	want = append(want, in...)
	in = codec.AppendUintProperty(in, codec.MessageExpiry, 100)
	tail := codec.AppendBytesProperty(nil, codec.CorrelationData, []byte{0, 1})
	tail = codec.AppendUserProperty(tail, []byte("k"), []byte("2"))
	in = append(in, tail...)
	want = codec.AppendUintProperty(append(want, tail...), codec.MessageExpiry, 100)
	pub.Send(&codec.Publish{Topic: []byte("p"), Properties: in, Payload: []byte("x")})
	if p := sub.WantPublish("p", "x"); !bytes.Equal(p.Properties, want) {
		t.Errorf("properties % x\nwant % x", []byte(p.Properties), []byte(want))
	}
}

func TestUnsubscribe(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		c := brokertest.Connect(t, addr, "c", codec.V5, nil)
		for _, f := range []string{"a", "b/+", "$share/g/c"} {
			c.Subscribe(f, 0)
		}
		c.Send(&codec.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("b/+"), []byte("$share/g/c"), []byte("nope")}})
		var a codec.Unsuback
		c.Want(codec.UNSUBACK, &a)
		if fmt.Sprint(string(a.Codes)) != fmt.Sprint(string([]codec.Reason{0, 0, codec.NoSubscriptionExisted})) {
			t.Errorf("codes %v", a.Codes)
		}
		for _, topic := range []string{"b/x", "c", "a"} {
			c.Publish(topic, "x", 0, 0)
		}
		c.WantPublish("a", "x")
		c.WantNothing()
	})
}

func TestManySubscribersOfOneTopic(t *testing.T) {
	variants(t, func(t *testing.T, start startFunc) {
		addr := start(nil)
		const n = 300
		var subs []*brokertest.Client
		for i := range n {
			c := brokertest.Connect(t, addr, fmt.Sprint("s", i), codec.V311, nil)
			c.Subscribe("all", 0)
			subs = append(subs, c)
		}
		for i := 0; i < n; i += 3 {
			subs[i].Disconnect()
		}
		brokertest.Connect(t, addr, "pub", codec.V311, nil).Publish("all", "x", 0, 0)
		for i, c := range subs {
			if i%3 != 0 {
				c.WantPublish("all", "x")
			}
		}
	})
}
