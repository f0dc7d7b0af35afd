package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// failing lets every commit fail from now on, and waits until the broker knows.
func (d *durable) failing(t *testing.T) {
	t.Helper()
	brokertest.Settle(t, d.b)
	save(t, d.b)
	d.store.fail(errors.New("no space left on device"))
	c := d.connect("finds-out", codec.V5, nil)
	c.Send(&codec.Publish{Retain: true, Topic: []byte("finds/out"), Payload: []byte("x")})
	brokertest.Until(t, d.b, "failing", func(m *broker.Metrics) bool { return m.Store.Failing })
	c.Close()
}

// recovered lets commits succeed again, and waits until everything is stored.
func (d *durable) recovered(t *testing.T) {
	t.Helper()
	d.store.fail(nil)
	brokertest.Until(t, d.b, "recovered", func(m *broker.Metrics) bool { return !m.Store.Failing })
	save(t, d.b)
}

// What is only for clean sessions needs no disk: it is acknowledged while the store fails, whatever the QoS and the
// version, and wherever the receivers are. What a durable session is to get is refused, to all.
func TestFailingStoreServesCleanSessions(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		const receivers = 6 // on several loops
		var clean []*brokertest.Client
		for i := range receivers {
			c := d.connect("c"+string(rune('0'+i)), codec.V5, nil)
			c.Subscribe("clean/+", 2)
			c.Subscribe("both", 2)
			clean = append(clean, c)
		}
		kept := d.connect("kept", codec.V5, keep)
		kept.Subscribe("both", 1)
		kept.Subscribe("$share/g/dealt", 1)
		kept.Hangup()
		five := d.connect("five", codec.V5, nil)
		stored := d.connect("stored", codec.V5, keep)
		d.failing(t)

		var a codec.Ack
		for _, version := range []codec.Version{codec.V5, codec.V311, codec.V31} {
			pub := d.connect("p", version, nil)
			puback(pub, "clean/1", "one")
			puback(pub, "nobody", "none")
			pubcomp(pub, "clean/2", "two")
			pub.Close()
			for _, c := range clean {
				p := c.WantPublish("clean/1", "one")
				c.Ack(codec.PUBACK, p.PacketID)
				p = c.WantPublish("clean/2", "two")
				c.Ack(codec.PUBREC, p.PacketID)
				c.Want(codec.PUBREL, nil)
				c.Ack(codec.PUBCOMP, p.PacketID)
			}
		}
		puback(stored, "clean/1", "one")
		for _, c := range clean {
			c.WantPublish("clean/1", "one")
		}
		for _, topic := range []string{"both", "dealt"} {
			five.Publish(topic, "refused", 1, 1)
			if five.Want(codec.PUBACK, &a); a.Reason != codec.QuotaExceeded {
				t.Errorf("%s: PUBACK %s", topic, a.Reason)
			}
			five.Publish(topic, "refused", 2, 2)
			if five.Want(codec.PUBREC, &a); a.Reason != codec.QuotaExceeded {
				t.Errorf("%s: PUBREC %s", topic, a.Reason)
			}
			old := d.connect("old", codec.V311, nil)
			old.Publish(topic, "refused", 1, 1)
			old.WantClosed()
		}
		five.Send(&codec.Publish{Retain: true, QoS: 1, PacketID: 3, Topic: []byte("clean/1"), Payload: []byte("refused")})
		if five.Want(codec.PUBACK, &a); a.Reason != codec.QuotaExceeded {
			t.Errorf("retained: PUBACK %s", a.Reason)
		}
		stored.Publish("clean/2", "refused", 2, 4) // its handshake is to be kept
		if stored.Want(codec.PUBREC, &a); a.Reason != codec.QuotaExceeded {
			t.Errorf("durable publisher: PUBREC %s", a.Reason)
		}
		for _, c := range clean {
			c.WantNothing()
		}

		d.recovered(t)
		puback(five, "both", "accepted")
		d.crash(t, loops)
		kept, _ = d.present("kept", codec.V5, keep)
		kept.WantPublish("both", "accepted")
		kept.WantNothing()
	})
}

// A message whose PUBREC needed no disk waits with its PUBCOMP if a durable session is to have it by then.
func TestFailingStoreHoldsPubcomp(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		sub := d.connect("s", codec.V5, keep)
		pub := d.connect("p", codec.V5, nil)
		pub.Publish("t", "x", 2, 1)
		pub.Want(codec.PUBREC, nil)
		sub.Subscribe("t", 2)
		sub.Hangup()
		d.failing(t)
		pub.Ack(codec.PUBREL, 1)
		pub.WantNothing()
		d.recovered(t)
		pub.Want(codec.PUBCOMP, nil)
		d.crash(t, loops)
		sub, _ = d.present("s", codec.V5, keep)
		sub.WantPublish("t", "x")
		sub.WantNothing()
	})
}

// A client whose acknowledgement waits may come back and repeat the packet. It changes nothing the second time, but the
// answer still promises what is not durable: it waits on the new connection too [MQTT-4.3.3-10] [MQTT-4.3.3-11].
func TestFailingStoreHoldsWhatIsRepeated(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		sub := d.connect("s", codec.V5, keep)
		sub.Subscribe("t", 2)
		sub.Subscribe("clean", 0)
		pub := d.connect("p", codec.V5, keep)
		pub.Publish("t", "old", 2, 1)
		pub.Want(codec.PUBREC, nil)
		pub.Publish("t", "sent", 2, 2)
		pub.Want(codec.PUBREC, nil)
		pub.Ack(codec.PUBREL, 2)
		pub.Want(codec.PUBCOMP, nil)
		p := sub.WantPublish("t", "sent")
		brokertest.Settle(t, d.b)
		save(t, d.b)
		gate := make(chan struct{})
		d.store.mu.Lock()
		d.store.gate, d.store.fails = gate, errors.New("no space left on device")
		d.store.mu.Unlock()

		pub.Publish("t", "new", 2, 3) // PUBREC waits
		pub.Ack(codec.PUBREL, 1)      // PUBCOMP waits
		sub.Ack(codec.PUBREC, p.PacketID)
		pub.WantNothing()
		sub.WantNothing()
		pub.Hangup()
		sub.Hangup()
		born := brokertest.Dial(t, d.addr, codec.V5)
		born.Send(&codec.Connect{Version: codec.V5, ClientID: []byte("born"), Properties: uintProp(codec.SessionExpiry, 9)(nil)})
		brokertest.Settle(t, d.b)
		close(gate)
		brokertest.Until(t, d.b, "failing", func(m *broker.Metrics) bool { return m.Store.Failing })
		born.Close()
		brokertest.Until(t, d.b, "closed", func(m *broker.Metrics) bool { return m.Connections == 0 })
		born = brokertest.Dial(t, d.addr, codec.V5)
		born.Send(&codec.Connect{Version: codec.V5, ClientID: []byte("born"), Properties: uintProp(codec.SessionExpiry, 9)(nil)})
		pub, _ = d.present("p", codec.V5, keep)
		pub.Send(&codec.Publish{Topic: []byte("t"), Payload: []byte("new"), QoS: 2, PacketID: 3, Dup: true})
		pub.Ack(codec.PUBREL, 1)
		pub.WantNothing()
		sub, _ = d.present("s", codec.V5, keep)
		sub.WantNothing() // PUBREL waits
		if _, _, ok := born.NextWithin(0); ok {
			t.Error("CONNACK of a session that is not stored")
		}

		d.crash(t, loops) // none of it was acknowledged, none of it has happened
		pub, _ = d.present("p", codec.V5, keep)
		pub.Send(&codec.Publish{Topic: []byte("t"), Payload: []byte("new"), QoS: 2, PacketID: 3, Dup: true})
		pub.Want(codec.PUBREC, nil)
		for _, id := range []uint16{1, 3} {
			var a codec.Ack
			pub.Ack(codec.PUBREL, id)
			if pub.Want(codec.PUBCOMP, &a); a.Reason != codec.Success {
				t.Errorf("PUBCOMP %s", a.Reason)
			}
		}
		sub, _ = d.present("s", codec.V5, keep)
		if x := sub.WantPublish("t", "sent"); x.PacketID != p.PacketID || !x.Dup {
			t.Errorf("id %d, dup %v", x.PacketID, x.Dup)
		}
		sub.WantPublish("t", "old")
		sub.WantPublish("t", "new")
		save(t, d.b)
		sub.WantNothing()
	})
}

// UNSUBACK waits for the disk a second or two, and not at all while the store fails. What is removed stays removed when
// the store recovers; a kill before that brings it back.
func TestUnsubscribeIsAnsweredWithoutADisk(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		sub := d.connect("s", codec.V5, keep)
		for _, filter := range []string{"fails", "stands", "early", "kept"} {
			sub.Subscribe(filter, 1)
		}
		clean := d.connect("c", codec.V311, nil)
		clean.Subscribe("clean", 1)
		pub := d.connect("p", codec.V5, nil)
		unsubscribe := func(c *brokertest.Client, filter string) {
			c.Send(&codec.Unsubscribe{PacketID: 7, Filters: [][]byte{[]byte(filter)}})
		}
		answered := func(c *brokertest.Client) {
			t.Helper()
			var u codec.Unsuback
			c.Want(codec.UNSUBACK, &u)
			if c.Version == codec.V5 && (len(u.Codes) != 1 || u.Codes[0] != codec.Success) {
				t.Errorf("UNSUBACK %v", u.Codes)
			}
		}
		brokertest.Settle(t, d.b)
		save(t, d.b)
		gate := make(chan struct{})
		d.store.mu.Lock()
		d.store.gate = gate
		d.store.mu.Unlock()

		clean.Publish("kept", "1", 1, 1) // PUBACK waits
		p := sub.WantPublish("kept", "1")
		sub.Ack(codec.PUBACK, p.PacketID)
		unsubscribe(sub, "stands") // waits for the disk
		unsubscribe(clean, "clean")
		sub.WantNothing()
		clean.WantNothing()
		d.clock.Advance(t, d.b, 2*time.Second)
		answered(sub)
		answered(clean)
		clean.WantNothing()
		unsubscribe(sub, "early")
		sub.WantNothing()
		d.store.fail(errors.New("no space left on device"))
		close(gate)
		answered(sub) // the store fails
		brokertest.Until(t, d.b, "failing", func(m *broker.Metrics) bool { return m.Store.Failing })
		unsubscribe(sub, "fails")
		answered(sub)
		for _, topic := range []string{"stands", "early", "fails", "clean"} {
			puback(pub, topic, "unwanted") // nobody has it any more
		}
		sub.WantNothing()

		d.recovered(t)
		clean.Want(codec.PUBACK, nil)
		unsubscribe(sub, "kept")
		answered(sub)
		d.crash(t, loops) // with the last answer all that was before is durable
		pub = d.connect("p", codec.V5, nil)
		for _, topic := range []string{"stands", "early", "fails", "kept"} {
			puback(pub, topic, "unwanted")
		}
		sub, present := d.present("s", codec.V5, keep)
		if !present {
			t.Error("no session")
		}
		sub.WantNothing()
		sub.Subscribe("back", 1)
		d.failing(t)
		unsubscribe(sub, "back")
		answered(sub)
		d.crash(t, loops) // before the store could take it
		puback(d.connect("p", codec.V5, nil), "back", "again")
		sub, _ = d.present("s", codec.V5, keep)
		sub.WantPublish("back", "again")
	})
}

// A message that does not fit on the disk holds up what comes behind it only until it is not needed any more: when its
// receiver has acknowledged it there is nothing to store.
func TestFailingStoreForgetsWhatIsOver(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		sub := d.connect("s", codec.V5, keep)
		sub.Subscribe("t", 1)
		parked := d.connect("parked", codec.V5, keep)
		parked.Subscribe("parked", 1)
		parked.Hangup()
		pub := d.connect("p", codec.V5, nil)
		puback(pub, "parked", "waits")
		brokertest.Settle(t, d.b)
		save(t, d.b)
		d.store.mu.Lock()
		d.store.most = 10 << 10
		d.store.mu.Unlock()

		big := string(make([]byte, 100<<10))
		pub.Publish("t", big, 1, 1)
		p := sub.WantPublish("t", big)
		brokertest.Until(t, d.b, "failing", func(m *broker.Metrics) bool { return m.Store.Failing })
		parked, _ = d.present("parked", codec.V5, keep)
		x := parked.WantPublish("parked", "waits")
		parked.Ack(codec.PUBACK, x.PacketID)
		pub.WantNothing()
		sub.Ack(codec.PUBACK, p.PacketID)
		pub.Want(codec.PUBACK, nil)
		brokertest.Until(t, d.b, "recovered", func(m *broker.Metrics) bool { return !m.Store.Failing })
		save(t, d.b)
		d.crash(t, loops)
		sub, _ = d.present("s", codec.V5, keep)
		sub.WantNothing()
		parked, _ = d.present("parked", codec.V5, keep)
		parked.WantNothing()
	})
}

// One that does not fit and whose receiver is offline holds up what is stored behind it, and nothing else: clients get
// and acknowledge what they have, and after a kill have it again rather than not at all. With room all is stored.
func TestFailingStoreLetsNothingOvertake(t *testing.T) {
	for _, room := range []bool{true, false} {
		t.Run(fmt.Sprint("room at last: ", room), func(t *testing.T) {
			onLoops(t, func(t *testing.T, loops int) {
				d := newDurable(t, loops, nil)
				for _, id := range []string{"big", "parked"} {
					c := d.connect(id, codec.V5, keep)
					c.Subscribe(id, 1)
					c.Hangup()
				}
				pub := d.connect("p", codec.V5, nil)
				puback(pub, "parked", "waits")
				brokertest.Settle(t, d.b)
				save(t, d.b)
				most := func(n int) {
					d.store.mu.Lock()
					defer d.store.mu.Unlock()
					d.store.most = n
				}
				most(10 << 10)

				big := string(make([]byte, 100<<10))
				pub.Publish("big", big, 1, 1)
				brokertest.Until(t, d.b, "failing", func(m *broker.Metrics) bool { return m.Store.Failing })
				parked, _ := d.present("parked", codec.V5, keep)
				parked.Ack(codec.PUBACK, parked.WantPublish("parked", "waits").PacketID)
				brokertest.Until(t, d.b, "acknowledged", func(m *broker.Metrics) bool {
					return m.InflightMessages == 0 && m.QueuedMessages == 1
				})
				pub.WantNothing()
				if room {
					most(0)
					pub.Want(codec.PUBACK, nil)
					save(t, d.b)
				}
				d.crash(t, loops)
				parked, _ = d.present("parked", codec.V5, keep)
				if !room {
					parked.WantPublish("parked", "waits")
				}
				parked.WantNothing()
				late, _ := d.present("big", codec.V5, keep)
				if room {
					late.WantPublish("big", big)
				}
				late.WantNothing()
			})
		})
	}
}
