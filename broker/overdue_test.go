package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/codec/im"
)

// What is due of a session is done when its time has come, not when somebody looks, and never before.

// pass moves the time on without a tick.
func (x *fixture) pass(d time.Duration) {
	x.t.Helper()
	x.clock.Pass(x.t, x.b, d)
}

// wantSessions checks how many sessions there are and how many have expired.
func (x *fixture) wantSessions(n, expired int64) {
	x.t.Helper()
	if m := brokertest.Settle(x.t, x.b); m.Sessions != n || m.SessionsExpired != expired {
		x.t.Errorf("%d sessions and %d expired, want %d and %d", m.Sessions, m.SessionsExpired, n, expired)
	}
}

func TestSessionExpiresBeforeAnybodyLooks_MQTT_3_1_2_23(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, nil)
		watch.Subscribe("w/#", 1)
		c := x.connect("c", codec.V5, willOf(100, 2))
		c.Subscribe("q", 1)
		c.Hangup()
		pub := x.connect("pub", codec.V5, nil)
		exchange(t, pub, "q", "waits", 1)
		x.pass(2 * time.Second)
		c, present := x.present("c", codec.V5, with(expiry(2)))
		if present {
			t.Error("a session is resumed after its time")
		}
		receive(t, watch, "w/c", "gone", 1) // the session has ended [MQTT-3.1.3-9]
		c.WantNothing()
		exchange(t, pub, "q", "not subscribed", 1)
		c.WantNothing()
		x.wantSessions(3, 1)
	})
}

func TestWillIsDueBeforeAnybodyLooks_MQTT_3_1_3_9(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, nil)
		watch.Subscribe("w/#", 1)
		x.connect("c", codec.V5, willOf(2, 100)).Hangup()
		x.pass(2 * time.Second)
		if _, present := x.present("c", codec.V5, with(expiry(2))); !present {
			t.Error("the session is gone")
		}
		receive(t, watch, "w/c", "gone", 1) // the connection came after the Will Delay Interval
		x.advance(100)
		watch.WantNothing()
	})
}

// A session whose time is over is nobody's to subscribe either.
func TestRequestsForAnExpiredSession(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.connect("c", codec.V5, with(expiry(2))).Hangup()
		x.pass(2 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
		defer cancel()
		list := behalf.NewSet([]behalf.Topic{{Filter: "q"}})
		a := x.b.Apply(ctx, &behalf.Request{
			ClientID: "c", Action: im.Subscribe, Topics: list, Origin: &behalf.Origin{Name: "test"},
		})
		if len(a) != 1 || a[0].Code != behalf.NoSession {
			t.Errorf("%+v", a)
		}
		if _, err := x.b.List(ctx, "c"); !errors.Is(err, behalf.ErrNoSession) {
			t.Error("listed", err)
		}
		x.wantSessions(0, 1)
	})
}

// Intervals are seconds, the time is not: an end that fell into a second ends no interval in the same second of
// later on.
func TestNothingIsEarly(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, nil)
		watch.Subscribe("w/#", 1)
		alive := x.connect("alive", codec.V5, keepAlive(2))
		x.pass(900 * time.Millisecond)
		alive.WantNothing()
		x.connect("session", codec.V5, with(expiry(2))).Hangup()
		x.connect("will", codec.V5, willOf(2, 100)).Hangup()
		x.clock.Advance(t, x.b, 1999*time.Millisecond)
		watch.WantNothing()                  // [MQTT-3.1.3-9]
		x.wantSessions(4, 0)                 // [MQTT-3.1.2-23]
		x.clock.Advance(t, x.b, time.Second) // 2.999 s after each
		x.wantSessions(3, 1)
		receive(t, watch, "w/will", "gone", 1)
		alive.WantNothing() // a packet 2.999 s ago: not more than one and a half times [MQTT-3.1.2-22]
	})
}

func TestIntervalsOfAPartOfASecond(t *testing.T) {
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.PersistentClientExpiration = 1500 * time.Millisecond
		o.SysInterval = 300 * time.Millisecond // counts as one
	}, func(_ *testing.T, x *fixture) {
		x.connect("c", codec.V311, func(p *codec.Connect) { p.CleanStart = false }).Hangup()
		x.advance(1)
		x.wantSessions(1, 0)
		x.advance(1)
		x.wantSessions(0, 1)
	})
}

// The time at which a session ends may be past the range of the timers; what comes before it is still timed.
func TestKeepAliveAfterAFarExpiry_MQTT_3_1_2_22(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.connect("c", codec.V5, with(expiry(0xFFFFFFFE))).Hangup()
		c, present := x.present("c", codec.V5, keepAlive(10))
		if !present {
			t.Fatal("the session is gone")
		}
		x.advance(16)
		c.WantClosed()
	})
}

// save returns when what has happened is durable.
func (d *durable) save(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	if err := d.b.Save(ctx); err != nil {
		t.Fatal(err)
	}
}

// The broker was not there when the time came.
func TestSessionsExpireWhileDown_MQTT_3_1_2_23(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		ids := []string{"a", "b", "c", "d", "e", "f"}
		watch := d.connect("watch", codec.V5, with(expiry(1000)))
		watch.Subscribe("w/#", 1)
		watch.Disconnect()
		for _, id := range ids {
			c := d.connect(id, codec.V5, willOf(50, 20))
			c.Subscribe("q", 1)
			c.Hangup()
			d.connect("delayed "+id, codec.V5, willOf(30, 100)).Hangup()
		}
		exchange(t, d.connect("pub", codec.V5, nil), "q", "waits", 1)
		d.save(t)
		d.clock.Pass(t, d.b, 15*time.Second)
		d.crash(t, loops)
		for _, id := range ids {
			c, present := d.present(id, codec.V5, willOf(50, 20))
			if !present {
				t.Errorf("%s is gone after 15 of 20 seconds", id)
			}
			receive(t, c, "q", "waits", 1)
			c.Hangup()
		}
		d.save(t) // that they have gone
		d.clock.Pass(t, d.b, 40*time.Second)
		d.crash(t, loops)
		d.wantSessions(int64(1+len(ids)), int64(len(ids))) // before anybody connects, or a tick
		for _, id := range ids {
			if _, present := d.present(id, codec.V5, nil); present {
				t.Errorf("%s is resumed 40 s later, with an interval of 20", id)
			}
			if _, present := d.present("delayed "+id, codec.V5, with(expiry(100))); !present {
				t.Errorf("delayed %s is gone after 55 of 100 s", id)
			}
		}
		watch, _ = d.present("watch", codec.V5, nil)
		got := map[string]int{}
		for range 2 * len(ids) {
			var p codec.Publish
			watch.Want(codec.PUBLISH, &p)
			got[string(p.Topic)]++
			watch.Ack(codec.PUBACK, p.PacketID)
		}
		for _, id := range ids { // the delay was over before the new connection [MQTT-3.1.3-9]
			if got["w/"+id] != 1 || got["w/delayed "+id] != 1 {
				t.Errorf("wills of %s: %d and %d", id, got["w/"+id], got["w/delayed "+id])
			}
		}
		watch.WantNothing()
	})
}
