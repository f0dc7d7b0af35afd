package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// lease is a source of logins that lets everybody in until a time, which the username says: seconds after the start, and
// "quiet" behind it for no will.
type lease struct{ start time.Time }

func (lease) Authenticate(*auth.Login) auth.Verdict { return auth.Deny }

func (s lease) Admit(_ context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	var seconds float64
	var word string
	if n, _ := fmt.Sscanf(l.Username, "%g%s", &seconds, &word); n == 0 {
		return auth.Allow, nil
	}
	end := s.start.Add(time.Duration(seconds * float64(time.Second)))
	return auth.Allow, &auth.Pass{Username: "u", HasUsername: true, Expires: end, NoWill: word == "quiet"}
}

// leased puts a lease into the options of a fixture, whose clock has not been set.
func leased(o *broker.Options, l *broker.ListenerOptions) {
	l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{lease{time.UnixMilli(o.Clock.Wall())}}}
}

// wantExpired reads what a client hears when its login ends: MQTT 5 clients 0xA0 with words [MQTT-4.13.1-1].
func wantExpired(t testing.TB, c *brokertest.Client) {
	t.Helper()
	if c.Version == codec.V5 {
		var d codec.Disconnect
		c.Want(codec.DISCONNECT, &d)
		if text, _ := d.Properties.Bytes(codec.ReasonString); d.Reason != codec.MaximumConnectTime || len(text) == 0 {
			t.Errorf("%s %q", d.Reason, text)
		}
	}
	c.WantClosed()
}

// A connection ends when its login does, not before and within a second after it, whether it is alive or not; its will
// is sent unless the pass says otherwise, and its session stays as after any other end.
func TestLoginsExpire(t *testing.T) {
	onEach(t, leased, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, as("x"))
		watch.Subscribe("w/#", 1)
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			at := time.Duration(x.clock.Source().Wall()-1_800_000_000_000) * time.Millisecond
			until := func(s float64, word string) connectFunc { return as(fmt.Sprintf("%g%s", at.Seconds()+s, word)) }
			loud := x.connect("loud", v, both(until(100, ""), willOf(0, 1000)))
			quiet := x.connect("quiet", v, both(until(100, " quiet"), willOf(0, 1000)))
			exact := x.connect("exact", v, both(until(100.5, ""), keepAlive(80)))
			silent := x.connect("silent", v, both(until(1000, ""), keepAlive(60)))
			if got := x.connack("late", v, until(0, "")); got != refusedAs(v, 5, codec.NotAuthorized) {
				t.Errorf("a login that has ended: %s", got)
			}
			x.advance(99)
			silent.WantClosed() // keep alive goes on beside it
			x.clock.Advance(t, x.b, 999*time.Millisecond)
			for _, c := range []*brokertest.Client{loud, quiet, exact, watch} {
				c.WantNothing()
			}
			x.clock.Advance(t, x.b, time.Millisecond)
			wantExpired(t, loud)
			wantExpired(t, quiet)
			receive(t, watch, "w/loud", "gone", 1)
			watch.WantNothing()
			exact.WantNothing()
			x.advance(1)
			wantExpired(t, exact)
			if v == codec.V5 {
				again, present := x.present("loud", v, both(until(200, ""), with(expiry(1000))))
				if !present {
					t.Error("the session has ended with the login")
				}
				again.Hangup()
			}
		}
		if m := brokertest.Settle(t, x.b); m.Disconnects[broker.EndExpired] != 6 {
			t.Errorf("%v", m.Disconnects)
		}
	})
}

// A client that takes small packets only hears the reason without words [MQTT-3.14.2-3].
func TestExpiryIsToldToTheSmallest(t *testing.T) {
	x := newFixture(t, leased)
	small := with(func(p codec.Properties) codec.Properties {
		return codec.AppendUintProperty(p, codec.MaximumPacketSize, 20)
	})
	c := x.connect("c", codec.V5, both(as("10"), small))
	x.advance(10)
	var d codec.Disconnect
	if c.Want(codec.DISCONNECT, &d); d.Reason != codec.MaximumConnectTime || len(d.Properties) > 0 {
		t.Errorf("%+v", d)
	}
}

// Tokens end by the system's clock: if that is set, those end that have ended by it, and no others.
func TestLoginsExpireByTheSystemsClock(t *testing.T) {
	onEach(t, leased, func(t *testing.T, x *fixture) {
		soon, late := x.connect("soon", codec.V5, as("3600")), x.connect("late", codec.V5, as("7200"))
		x.clock.Set(-time.Hour)
		x.advance(3600)
		soon.WantNothing()
		x.clock.Set(time.Hour)
		x.advance(1)
		x.advance(1)
		wantExpired(t, soon)
		x.clock.Set(20 * time.Millisecond * 3600 * 1000 / 10) // two hours
		x.advance(1)
		x.advance(1)
		wantExpired(t, late)
	})
}

// TestManyLoginsExpireAtOnce: ten thousand clients whose logins end together are gone with the tick behind that, and
// who pings meanwhile is answered between them.
func TestManyLoginsExpireAtOnce(t *testing.T) {
	const n = 10_000
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Loops, o.ConnectionMessages = 2, false
		leased(o, l)
	})
	stays := x.connect("stays", codec.V5, as("x"))
	clients := make([]*brokertest.Client, n)
	for i := range clients {
		clients[i] = x.connect(fmt.Sprint(i), codec.V311, as("100"))
	}
	x.clock.Advance(t, x.b, 99_999*time.Millisecond)
	if m := brokertest.Settle(t, x.b); m.Connections != n+1 {
		t.Fatalf("%d connections", m.Connections)
	}
	x.clock.Advance(t, x.b, time.Millisecond)
	stays.Raw([]byte{0xC0, 0})
	stays.Want(codec.PINGRESP, nil)
	m := brokertest.Until(t, x.b, "the end of all", func(m *broker.Metrics) bool { return m.Connections == 1 })
	if m.Disconnects[broker.EndExpired] != n {
		t.Errorf("%d have expired", m.Disconnects[broker.EndExpired])
	}
	for i, c := range clients {
		if i%100 == 0 {
			c.WantClosed()
		}
	}
}
