package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

func maxPacket(n uint32) func(codec.Properties) codec.Properties {
	return uintProp(codec.MaximumPacketSize, n)
}

// publishOf returns a PUBLISH of exactly n bytes on the wire.
func publishOf(n int, v codec.Version) *codec.Publish {
	p := &codec.Publish{Topic: []byte("t"), Payload: make([]byte, n)}
	p.Payload = p.Payload[:2*n-p.Len(v)]
	for p.Len(v) < n {
		p.Payload = append(p.Payload, 0)
	}
	return p
}

func TestMaximumPacketSizeIn_MQTT_3_2_2_15(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxPacketSize = 1000 }
	onEach(t, limit, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			c := x.connect("c", v, nil)
			fits := publishOf(1000, v)
			if n := fits.Len(v); n != 1000 {
				t.Fatalf("packet of %d bytes", n)
			}
			c.Send(fits)
			c.WantNothing()
			over := publishOf(1001, v).Append(nil, v)
			c.Raw(over[:3]) // its body is not waited for
			if v == codec.V5 {
				wantDisconnect(t, c, codec.PacketTooLarge)
			} else {
				c.WantClosed()
			}
		}
	})
}

func TestMaximumPacketSizeOut_MQTT_3_1_2_24(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		const limit = 100
		sub := x.connect("sub", codec.V5, with(maxPacket(limit), expiry(100)))
		sub.SubscribeWith(codec.Filter{Name: []byte("t"), QoS: 1}, nil)
		pub := x.connect("pub", codec.V5, nil)
		pub.Send(publishOf(limit, codec.V5))
		var p codec.Publish
		sub.Want(codec.PUBLISH, &p)
		pub.Send(publishOf(limit+1, codec.V5))
		exchange(t, pub, "t", "next", 1) // as if the large one had been delivered [MQTT-3.1.2-25]
		receive(t, sub, "t", "next", 1)
		if n := x.dropped(broker.DropTooLarge); n != 1 {
			t.Errorf("%d dropped", n)
		}
		// Queued ones that are too large for the next connection go, the others keep their order.
		sub.Disconnect()
		for i := range 30 {
			exchange(t, pub, "t", strings.Repeat("x", 1+100*(i%2))+fmt.Sprint(i), 1)
		}
		sub, _ = x.present("sub", codec.V5, with(maxPacket(limit), expiry(100)))
		for i := 0; i < 30; i += 2 {
			receive(t, sub, "t", fmt.Sprint("x", i), 1)
		}
		sub.WantNothing()
		if n := x.dropped(broker.DropTooLarge); n != 16 {
			t.Errorf("%d dropped", n)
		}
	})
}

func TestMaximumPacketSizeAndRetained_MQTT_3_1_2_24(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		for i := range 60 {
			retain(pub, fmt.Sprintf("r/%02d", i), strings.Repeat("x", 1+100*(i%2)))
		}
		sub := x.connect("sub", codec.V5, with(maxPacket(100)))
		sub.Subscribe("r/+", 1)
		for range 30 {
			var p codec.Publish
			sub.Want(codec.PUBLISH, &p)
			if len(p.Payload) != 1 {
				t.Fatalf("payload of %d bytes", len(p.Payload))
			}
			sub.Ack(codec.PUBACK, p.PacketID)
		}
		sub.WantNothing()
	})
}

// Answers that the client does not accept end the connection: it would wait for them.
func TestAnswersLargerThanMaximumPacketSize_MQTT_3_1_2_24(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, n := range []uint32{1, 4, 15} {
			c := brokertest.Dial(t, x.addr, codec.V5)
			c.Send(&codec.Connect{Version: codec.V5, ClientID: []byte("c"), Properties: props(maxPacket(n))})
			switch {
			case n >= 3: // DISCONNECT fits
				wantDisconnect(t, c, codec.PacketTooLarge)
			default:
				c.WantClosed()
			}
		}
		c := brokertest.Dial(t, x.addr, codec.V5) // nothing behind a CONNECT that failed is read
		p := codec.Connect{Version: codec.V5, ClientID: []byte("c"), Properties: props(maxPacket(1))}
		c.Raw(p.Append(p.Append(nil, codec.V5), codec.V5))
		c.WantClosed()
		c = x.connect("c", codec.V5, with(maxPacket(16)))
		c.Subscribe("a", 1) // SUBACK of 6 bytes
		filters := make([]codec.Filter, 12)
		names := make([][]byte, 12)
		for i := range filters {
			names[i] = fmt.Append(nil, i)
			filters[i].Name = names[i]
		}
		c.Send(&codec.Subscribe{PacketID: 1, Filters: filters})
		wantDisconnect(t, c, codec.PacketTooLarge)
		c = x.connect("c", codec.V5, with(maxPacket(16)))
		c.Send(&codec.Unsubscribe{PacketID: 1, Filters: names})
		wantDisconnect(t, c, codec.PacketTooLarge)
		if m := brokertest.Settle(t, x.b); m.Sessions != 0 {
			t.Errorf("%d sessions", m.Sessions)
		}
	})
}

func TestReceiveMaximumOut_MQTT_3_3_4_9(t *testing.T) {
	for _, tt := range []struct {
		asked  uint32 // 0: no property
		window int
	}{{0, 20}, {1, 1}, {19, 19}, {21, 20}, {65535, 20}} {
		t.Run(fmt.Sprint(tt.asked), func(t *testing.T) {
			onEach(t, nil, func(t *testing.T, x *fixture) {
				for _, qos := range []uint8{1, 2} {
					sub := x.connect("sub", codec.V5, func(p *codec.Connect) {
						if tt.asked > 0 {
							p.Properties = props(uintProp(codec.ReceiveMaximum, tt.asked))
						}
					})
					sub.Subscribe("t", qos)
					sub.Subscribe("zero", 0)
					pub := x.connect("pub", codec.V311, nil)
					for i := range 60 {
						exchange(t, pub, "t", fmt.Sprint(i), qos)
					}
					exchange(t, pub, "zero", "QoS 0 is not held back", qos) // [MQTT-3.3.4-8]
					sent := make([]codec.Publish, 0, tt.window)
					for i := range tt.window {
						sent = append(sent, sub.WantPublish("t", fmt.Sprint(i)))
					}
					sub.WantPublish("zero", "QoS 0 is not held back")
					sub.WantNothing()
					for i := range 60 {
						p := sent[0]
						sent = sent[1:]
						if qos == 1 {
							sub.Ack(codec.PUBACK, p.PacketID)
						} else {
							sub.Ack(codec.PUBREC, p.PacketID)
							sub.Want(codec.PUBREL, nil)
							sub.WantNothing() // PUBREC frees nothing
							sub.Ack(codec.PUBCOMP, p.PacketID)
						}
						if next := i + tt.window; next < 60 {
							sent = append(sent, sub.WantPublish("t", fmt.Sprint(next)))
						}
					}
					sub.WantNothing()
					sub.Disconnect()
				}
			})
		})
	}
}

// An error in PUBREC ends the delivery and gives the place in the window back [MQTT-4.3.3-4].
func TestPubrecWithAnErrorFreesTheWindow(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(uintProp(codec.ReceiveMaximum, 1)))
		sub.Subscribe("t", 2)
		pub := x.connect("pub", codec.V311, nil)
		for i := range 3 {
			exchange(t, pub, "t", fmt.Sprint(i), 2)
		}
		for i := range 3 {
			p := sub.WantPublish("t", fmt.Sprint(i))
			sub.Send(&codec.Ack{Type: codec.PUBREC, PacketID: p.PacketID, Reason: codec.QuotaExceeded})
		}
		sub.WantNothing()
	})
}

// As Mosquitto since 2.1.1, more QoS 2 messages in flight than CONNACK allows are accepted; what they hold in
// memory, topic and properties included, has a limit of its own.
func TestReceiveMaximumIn_MQTT_3_3_4_7(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		for id := range uint16(100) {
			c.Publish("t", "x", 2, id+1)
			c.Want(codec.PUBREC, nil)
		}
		for id := range uint16(100) {
			c.Ack(codec.PUBREL, id+1)
			c.Want(codec.PUBCOMP, nil)
		}
		for name, p := range map[string]codec.Publish{
			"payload": {Topic: []byte("t"), Payload: make([]byte, 1<<20)},
			"properties": {Topic: []byte("t"), Properties: bytes.Repeat(
				codec.AppendUserProperty(nil, nil, bytes.Repeat([]byte("v"), 65531)), 16)},
			"topic": {Topic: bytes.Repeat([]byte("t"), 65535)},
		} {
			c := x.connect(name, codec.V5, nil)
			p.QoS = 2
			n := 0
			for id := uint16(1); ; id++ {
				p.PacketID = id
				c.Send(&p)
				h, body, err := c.Next()
				if err != nil || id > 2000 {
					t.Fatalf("%s: %v after %d messages", name, err, id)
				}
				if h.Type == codec.DISCONNECT {
					if body[0] != byte(codec.ReceiveMaximumExceeded) {
						t.Errorf("%s: reason 0x%02x", name, body[0])
					}
					break
				}
				n += p.Len(codec.V5)
			}
			c.WantClosed()
			if n < 60<<20 || n > 65<<20 {
				t.Errorf("%s: closed after %d bytes", name, n)
			}
		}
	})
}

func topicAlias(a uint32) func(codec.Properties) codec.Properties {
	return uintProp(codec.TopicAlias, a)
}

func TestIncomingTopicAlias_MQTT_3_3_2(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("#", 0)
		send := func(c *brokertest.Client, topic string, alias uint32, payload string) {
			p := codec.Publish{Topic: []byte(topic), Payload: []byte(payload)}
			p.Properties = props(topicAlias(alias))
			c.Send(&p)
		}
		c := x.connect("c", codec.V5, with(expiry(100)))
		for a := range uint32(10) {
			send(c, fmt.Sprint("t", a), a+1, "set")
			sub.WantPublish(fmt.Sprint("t", a), "set")
		}
		for a := range uint32(10) {
			send(c, "", a+1, "used")
			sub.WantPublish(fmt.Sprint("t", a), "used")
		}
		send(c, "else", 1, "changed") // [MQTT-3.3.2-12]
		sub.WantPublish("else", "changed")
		send(c, "", 1, "follows")
		if p := sub.WantPublish("else", "follows"); len(p.Properties) > 0 {
			t.Errorf("properties % x: an alias is a connection's own", []byte(p.Properties))
		}
		send(x.connect("d", codec.V5, nil), "other", 1, "of another client")
		sub.WantPublish("other", "of another client")
		send(c, "", 1, "not touched")
		sub.WantPublish("else", "not touched")
		c.Hangup()
		c, _ = x.present("c", codec.V5, nil)
		send(c, "", 1, "aliases do not outlive the connection") // [MQTT-3.3.2-7]
		wantDisconnect(t, c, codec.ProtocolError)
		sub.WantNothing()
	})
}

func TestInvalidTopicAlias(t *testing.T) {
	limit := func(_ *broker.Options, l *broker.ListenerOptions) { l.MaxTopicAlias = 5 }
	off := func(_ *broker.Options, l *broker.ListenerOptions) { l.MaxTopicAlias = 0 }
	for _, tt := range []struct {
		name   string
		change changeFunc
		topic  string
		alias  uint32
		want   codec.Reason
	}{
		{"MQTT-3.3.2-8 alias 0", limit, "t", 0, codec.TopicAliasInvalid},
		{"MQTT-3.3.2-9 above the maximum", limit, "t", 6, codec.TopicAliasInvalid},
		{"MQTT-3.3.2-9 far above", limit, "t", 65535, codec.TopicAliasInvalid},
		{"MQTT-3.3.2-9 none allowed", off, "t", 1, codec.TopicAliasInvalid},
		{"MQTT-3.3.2-9 above the maximum, no topic", limit, "", 6, codec.TopicAliasInvalid},
		{"3.3.2.3.4 unknown", limit, "", 5, codec.ProtocolError},
		{"MQTT-3.3.2-2 wildcard", limit, "a/#", 1, codec.MalformedPacket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, tt.change, func(t *testing.T, x *fixture) {
				for qos := range uint8(3) {
					c := x.connect("c", codec.V5, nil)
					p := codec.Publish{Topic: []byte(tt.topic), QoS: qos}
					p.Properties = props(topicAlias(tt.alias))
					if qos > 0 {
						p.PacketID = 1
					}
					c.Send(&p)
					wantDisconnect(t, c, tt.want)
				}
			})
		})
	}
}

func TestOutgoingTopicAlias_MQTT_3_1_2_26(t *testing.T) {
	for _, tt := range []struct {
		client uint32
		broker uint16
		want   int
	}{{0, 10, 0}, {3, 10, 3}, {65535, 10, 10}, {10, 0, 0}, {10, 4, 4}} {
		t.Run(fmt.Sprint(tt.client, " and ", tt.broker), func(t *testing.T) {
			limit := func(_ *broker.Options, l *broker.ListenerOptions) { l.MaxTopicAliasBroker = tt.broker }
			onEach(t, limit, func(t *testing.T, x *fixture) {
				pub := x.connect("pub", codec.V311, nil)
				offer := with(uintProp(codec.TopicAliasMaximum, tt.client), expiry(100))
				sub := x.connect("sub", codec.V5, offer)
				sub.Subscribe("#", 1)
				for range 2 { // connections
					known := map[uint32]string{}
					for round := range 2 {
						for i := range 12 {
							name := fmt.Sprint("topic/", i)
							exchange(t, pub, name, "x", 1)
							var p codec.Publish
							sub.Want(codec.PUBLISH, &p)
							sub.Ack(codec.PUBACK, p.PacketID)
							a, ok := p.Properties.Uint(codec.TopicAlias)
							if ok != (i < tt.want) || a > uint32(tt.want) {
								t.Fatalf("round %d, %s: alias %d %v", round, name, a, ok)
							}
							topic := string(p.Topic)
							if ok && topic != "" {
								known[a] = topic
							} else if ok {
								topic = known[a]
							}
							if topic != name || ok && (round == 0) != (len(p.Topic) > 0) {
								t.Fatalf("round %d, %s: topic %q, alias %d", round, name, p.Topic, a)
							}
						}
					}
					sub.Hangup()
					sub, _ = x.present("sub", codec.V5, offer)
				}
			})
		})
	}
}

// A first message that the client does not accept must not use up its alias unseen.
func TestTopicAliasOfAMessageThatIsTooLarge(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(uintProp(codec.TopicAliasMaximum, 1), maxPacket(100)))
		sub.Subscribe("#", 0)
		pub := x.connect("pub", codec.V311, nil)
		pub.Publish("a", strings.Repeat("x", 200), 0, 0)
		pub.Publish("b", "1", 0, 0)
		pub.Publish("a", "2", 0, 0)
		pub.Publish("b", "3", 0, 0)
		if p := sub.WantPublish("b", "1"); len(p.Properties) != 3 {
			t.Errorf("properties % x", []byte(p.Properties))
		}
		sub.WantPublish("a", "2")
		sub.WantPublish("", "3")
	})
}

// What was sent with an alias is repeated on the next connection with its topic [MQTT-3.3.2-7].
func TestRepeatedMessageHasItsTopic(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		aliases := with(uintProp(codec.TopicAliasMaximum, 5), expiry(100))
		sub := x.connect("sub", codec.V5, aliases)
		sub.Subscribe("t", 1)
		pub := x.connect("pub", codec.V311, nil)
		exchange(t, pub, "t", "1", 1)
		exchange(t, pub, "t", "2", 1)
		sub.WantPublish("t", "1")
		sub.WantPublish("", "2")
		sub.Hangup()
		sub, _ = x.present("sub", codec.V5, with(expiry(100)))
		for _, payload := range []string{"1", "2"} {
			if p := sub.WantPublish("t", payload); !p.Dup || len(p.Properties) > 0 {
				t.Errorf("%s: DUP %v, properties % x", payload, p.Dup, []byte(p.Properties))
			}
		}
		sub.Hangup()
		sub, _ = x.present("sub", codec.V5, aliases)
		sub.WantPublish("t", "1")
		sub.WantPublish("", "2")
	})
}
