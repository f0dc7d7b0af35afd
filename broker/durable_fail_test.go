package broker_test

import (
	"errors"
	"testing"

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
