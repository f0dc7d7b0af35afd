package broker_test

import (
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
)

// A QoS 2 packet id under which another message comes before PUBREL: the later one is passed on, once, as in
// Mosquitto; the same message again is none [MQTT-4.3.3-10]. A store keeps the later one only.
func TestReusedPacketID_MQTT_4_3_3(t *testing.T) {
	stays := func(p *codec.Connect) {
		if keep(p); p.Version != codec.V5 {
			p.CleanStart = false
		}
	}
	onLoops(t, func(t *testing.T, loops int) {
		for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
			d := newDurable(t, loops, nil)
			sub := d.connect("s", codec.V5, nil)
			sub.Subscribe("#", 2)
			pub := d.connect("p", v, stays)
			send := func(topic, payload string) {
				pub.Send(&codec.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 2, PacketID: 5, Dup: true})
				pub.Want(codec.PUBREC, nil)
			}
			send("t", "first")
			send("t", "second")
			send("u", "second")
			send("u", "second")
			save(t, d.b)
			messages, ids := 0, 0
			_ = d.mem.Walk(store.Messages, func(_, _ []byte) error { messages++; return nil })
			_ = d.mem.Walk(store.Inbound, func(_, _ []byte) error { ids++; return nil })
			if messages != 1 || ids != 1 {
				t.Errorf("%d messages and %d packet ids are stored", messages, ids)
			}
			d.crash(t, loops)
			sub = d.connect("s", codec.V5, nil)
			sub.Subscribe("#", 2)
			pub, _ = d.present("p", v, stays)
			send("u", "second")
			pub.Ack(codec.PUBREL, 5)
			pub.Want(codec.PUBCOMP, nil)
			sub.WantPublish("u", "second")
			sub.WantNothing()
		}
	})
}

// A QoS 2 message is answered as often as it is repeated, and passed on once [MQTT-4.3.3-10]. Mosquitto ends the
// connection at the third.
func TestRepeatedQoS2IsAnswered_MQTT_4_3_3_10(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
			d := newDurable(t, loops, nil)
			sub := d.connect("s", codec.V5, nil)
			sub.Subscribe("#", 2)
			pub := d.connect("p", v, nil)
			for i := range 10 {
				pub.Send(&codec.Publish{Topic: []byte("t"), Payload: []byte("x"), QoS: 2, PacketID: 5, Dup: i > 0})
				pub.Want(codec.PUBREC, nil)
			}
			for range 3 {
				pub.Ack(codec.PUBREL, 5)
				pub.Want(codec.PUBCOMP, nil)
			}
			sub.WantPublish("t", "x")
			sub.WantNothing()
		}
	})
}

// message_size_limit holds for wills: the connection is refused, with 5 in MQTT 3.
func TestWillAboveMessageSizeLimit(t *testing.T) {
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.MessageSizeLimit = 10 }, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
			for n, want := range map[int]codec.Reason{10: codec.Success, 11: codec.PacketTooLarge} {
				if v != codec.V5 && want != codec.Success {
					want = 5
				}
				c := brokertest.Dial(t, x.addr, v)
				ack := c.Connack("c", func(p *codec.Connect) {
					p.HasWill, p.Will.Topic, p.Will.Payload = true, []byte("w"), []byte(strings.Repeat("x", n))
				})
				if ack.Reason != want {
					t.Errorf("version %d, %d bytes: CONNACK %d", v, n, ack.Reason)
				}
				if want != codec.Success {
					c.WantClosed()
				}
			}
		}
	})
}
