package broker_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// The system's clock is set while clients are connected, while they are away, and while there is no broker. What
// is due after an interval is due after that interval.

// jumps are what happens to clocks: summer time done wrong, NTP after a boot without a battery, an hour of sleep.
var jumps = []time.Duration{time.Hour, -2 * time.Hour, 20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour}

func TestClockIsSetUnderClients(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, nil)
		watch.Subscribe("w/#", 1)
		for i, by := range jumps {
			id := fmt.Sprint(i)
			alive := x.connect("alive"+id, codec.V5, func(p *codec.Connect) { willOf(0, 0)(p); p.KeepAlive = 60 })
			dead := x.connect("dead"+id, codec.V311, keepAlive(10))
			silent := brokertest.Dial(t, x.addr, codec.V311) // no CONNECT
			x.connect("away"+id, codec.V5, willOf(10, 20)).Hangup()
			x.clock.Set(by)
			x.advance(9)
			alive.WantNothing()
			if m := brokertest.Settle(t, x.b); m.Connections != 3 { // [MQTT-3.1.2-22]
				t.Errorf("%s: %d connections", by, m.Connections)
			}
			silent.Raw([]byte{0x10})
			watch.WantNothing() // [MQTT-3.1.3-9]
			x.advance(1)
			receive(t, watch, "w/away"+id, "gone", 1)
			x.advance(6)
			dead.WantClosed()
			if m := brokertest.Settle(t, x.b); m.Sessions != 3 || m.SessionsExpired != int64(i) { // [MQTT-3.1.2-23]
				t.Errorf("%s: %d sessions, %d expired", by, m.Sessions, m.SessionsExpired)
			}
			x.advance(4)
			silent.WantClosed()
			if m := brokertest.Settle(t, x.b); m.Sessions != 2 || m.SessionsExpired != int64(i+1) {
				t.Errorf("%s: %d sessions, %d expired", by, m.Sessions, m.SessionsExpired)
			}
			alive.Disconnect()
		}
	})
}

func TestClockIsSetUnderMessages_MQTT_3_3_2_5(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		sub := x.connect("sub", codec.V5, with(expiry(0xFFFFFFFF)))
		sub.Subscribe("q", 1)
		sub.Hangup()
		for _, by := range jumps {
			sendExpiring(pub, "q", "short", 10, false)
			sendExpiring(pub, "q", "long", 100, false)
			sendExpiring(pub, "r", "retained", 100, true)
			x.clock.Set(by)
			x.advance(10)
			sub, _ = x.present("sub", codec.V5, with(expiry(0xFFFFFFFF)))
			p := receive(t, sub, "q", "long", 1)
			if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 90 { // [MQTT-3.3.2-6]
				t.Errorf("%s: Message Expiry Interval %d", by, left)
			}
			sub.Subscribe("r", 0)
			p = receive(t, sub, "r", "retained", 0)
			if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 90 {
				t.Errorf("%s: Message Expiry Interval of a retained message %d", by, left)
			}
			sub.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("r")}})
			sub.Want(codec.UNSUBACK, nil)
			sub.Hangup()
		}
	})
}

// The tree goes on when the system's clock is set back.
func TestClockIsSetUnderSysTree(t *testing.T) {
	every := func(o *broker.Options, _ *broker.ListenerOptions) { o.SysInterval = 10 * time.Second }
	onEach(t, every, func(t *testing.T, x *fixture) {
		brokertest.Until(t, x.b, "the first update", func(m *broker.Metrics) bool { return m.Retained > 20 })
		sub := x.connect("sub", codec.V311, nil)
		sub.Subscribe("$SYS/broker/clients/connected", 0)
		for i, by := range jumps {
			x.clock.Set(by)
			x.advance(1) // it is seen
			x.connect(fmt.Sprint(i), codec.V311, nil)
			// The values are worked out off the loops, so time goes on until the new one is there: a moment of that
			// for each second, and far less than what the clock was set by.
			seen := false
			for range 300 {
				x.advance(1)
				for h, body, ok := sub.NextWithin(5 * time.Millisecond); ok; h, body, ok = sub.NextWithin(time.Millisecond) {
					seen = seen || h.Type == codec.PUBLISH && bytes.HasSuffix(body, fmt.Append(nil, i+2))
				}
				if seen {
					break
				}
			}
			if !seen {
				t.Fatalf("%s: no update in five minutes", by)
			}
		}
	})
}

// A store is read with another clock than it was written with.
func TestClockIsSetAndTheBrokerRestarted(t *testing.T) {
	for _, kill := range []bool{true, false} {
		for _, by := range jumps {
			t.Run(fmt.Sprintf("%s, kill %v", by, kill), func(t *testing.T) {
				t.Parallel()
				d := newDurable(t, 2, nil)
				pub := d.connect("pub", codec.V5, nil)
				for _, id := range []string{"short", "long"} {
					c := d.connect(id, codec.V5, with(expiry(map[string]uint32{"short": 50, "long": 200}[id])))
					c.Subscribe("q", 1)
					c.Disconnect()
				}
				sendExpiring(pub, "q", "short", 50, false)
				sendExpiring(pub, "q", "long", 200, false)
				sendExpiring(pub, "r", "retained", 200, true)
				d.advance(30)
				d.clock.Set(by)
				d.advance(1) // it is seen
				d.save(t)
				end := d.restart
				if kill {
					end = func(t *testing.T) { d.crash(t, 2) }
				}
				end(t)
				d.wantSessions(2, 0)
				d.clock.Pass(t, d.b, 9*time.Second)
				end(t)
				d.wantSessions(2, 0) // 40 of 50 s
				d.advance(10)
				d.wantSessions(1, 1) // [MQTT-3.1.2-23]
				c, present := d.present("long", codec.V5, with(expiry(200)))
				if !present {
					t.Fatal("the session is gone after 50 of 200 s")
				}
				p := receive(t, c, "q", "long", 1)
				if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 150 { // [MQTT-3.3.2-6]
					t.Errorf("Message Expiry Interval %d", left)
				}
				c.Subscribe("r", 0)
				p = receive(t, c, "r", "retained", 0)
				if left, _ := p.Properties.Uint(codec.MessageExpiry); left != 150 {
					t.Errorf("Message Expiry Interval of a retained message %d", left)
				}
			})
		}
	}
}

// A machine without a battery for its clock boots in the past, and learns of the time later: nothing lasts for
// longer than it would without that, except by the time in which the machine was off.
func TestClockIsBehindAtTheStart(t *testing.T) {
	d := newDurable(t, 2, nil)
	c := d.connect("c", codec.V5, with(expiry(50)))
	c.Disconnect()
	d.advance(20)
	d.save(t)
	d.clock.Set(-50 * 365 * 24 * time.Hour)
	d.restart(t)
	d.wantSessions(1, 0)
	d.advance(10)
	d.clock.Set(50*365*24*time.Hour + time.Hour)
	d.advance(19)
	d.wantSessions(1, 0)
	d.advance(1)
	d.wantSessions(0, 1)
}
