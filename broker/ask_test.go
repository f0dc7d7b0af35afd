package broker_test

import (
	"bytes"
	"context"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// asker has rules that leave everything below ask/ open, and allow the rest. Who asks waits for the test.
type asker struct {
	asked  chan string
	answer chan auth.Verdict
}

func newAsker() *asker {
	return &asker{asked: make(chan string, 100), answer: make(chan auth.Verdict, 100)}
}

func (a *asker) Rules(string, string, bool) auth.Rules { return a }

func (a *asker) Check(_ auth.Access, topic []byte) auth.Verdict {
	if bytes.HasPrefix(topic, []byte("ask/")) {
		return auth.Ask
	}
	return auth.Allow
}

func (a *asker) Covers([]byte) bool { return true }

func (a *asker) Ask(ctx context.Context, _ auth.Access, topic []byte) auth.Verdict {
	a.asked <- string(topic)
	select {
	case v := <-a.answer:
		return v
	case <-ctx.Done():
		return auth.Ignore
	}
}

func onEachAsker(t *testing.T, f func(t *testing.T, x *fixture, a *asker)) {
	t.Helper()
	onEachWith(t, func(_ *broker.Options, l *broker.ListenerOptions) *asker {
		a := newAsker()
		l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{a}}
		return a
	}, f)
}

// wantAck reads an acknowledgement.
func wantAck(t testing.TB, c *brokertest.Client, kind codec.Type, id uint16, want codec.Reason) {
	t.Helper()
	var a codec.Ack
	c.Want(kind, &a)
	if a.PacketID != id || a.Reason != want {
		t.Errorf("%s %d %s, want %d %s", kind, a.PacketID, a.Reason, id, want)
	}
}

// TestAskHoldsOnlyItsClient: while somebody thinks about one client's packet all others go on, what the client sends
// behind it waits in its order, keep alive does not end it, and each answer is for one packet.
func TestAskHoldsOnlyItsClient(t *testing.T) {
	onEachAsker(t, func(t *testing.T, x *fixture, a *asker) {
		sub, other := x.connect("sub", codec.V5, nil), x.connect("other", codec.V5, nil)
		sub.Subscribe("+/t", 0) // what is delivered is not asked about: it is covered
		c := x.connect("c", codec.V5, keepAlive(10))
		for i, v := range []auth.Verdict{auth.Allow, auth.Deny, auth.Allow} {
			id := uint16(10 * (i + 1))
			c.Publish("free/t", "before", 1, id)
			c.Publish("ask/t", "asked", 1, id+1)
			c.Publish("free/t", "behind", 1, id+2)
			wantAck(t, c, codec.PUBACK, id, codec.Success)
			sub.WantPublish("free/t", "before")
			if topic := <-a.asked; topic != "ask/t" {
				t.Errorf("asked about %q", topic)
			}
			exchange(t, other, "free/t", "meanwhile", 1)
			sub.WantPublish("free/t", "meanwhile")
			x.advance(60)
			sub.WantNothing()
			a.answer <- v
			reason := codec.NotAuthorized
			if v == auth.Allow {
				sub.WantPublish("ask/t", "asked")
				reason = codec.Success
			}
			sub.WantPublish("free/t", "behind")
			wantAck(t, c, codec.PUBACK, id+1, reason)
			wantAck(t, c, codec.PUBACK, id+2, codec.Success)
		}
		if m := brokertest.Settle(t, x.b); m.PublishReceived != 12 || m.Dropped[broker.DropDenied] != 1 {
			t.Errorf("counted %d messages, %d denied", m.PublishReceived, m.Dropped[broker.DropDenied])
		}
	})
}

// TestAskAboutEachPacket: QoS 0 and 2, filters of which some are open, and what is given up.
func TestAskAboutEachPacket(t *testing.T) {
	onEachAsker(t, func(t *testing.T, x *fixture, a *asker) {
		c := x.connect("c", codec.V5, nil)
		list := []codec.Filter{{Name: []byte("ask/1"), QoS: 1}, {Name: []byte("free/1"), QoS: 1}, {Name: []byte("ask/2"), QoS: 1}}
		c.Send(&codec.Subscribe{PacketID: 5, Filters: list})
		a.answer <- auth.Allow
		a.answer <- auth.Deny
		var ack codec.Suback
		c.Want(codec.SUBACK, &ack)
		if want := []codec.Reason{1, 1, codec.NotAuthorized}; string(codesOf(ack.Codes)) != string(codesOf(want)) {
			t.Errorf("SUBACK %v", ack.Codes)
		}
		a.answer <- auth.Allow
		c.Publish("ask/1", "zero", 0, 0)
		c.WantPublish("ask/1", "zero")
		a.answer <- auth.Allow
		c.Publish("ask/1", "two", 2, 7)
		c.Want(codec.PUBREC, nil)
		c.Ack(codec.PUBREL, 7)
		p := c.WantPublish("ask/1", "two")
		c.Want(codec.PUBCOMP, nil)
		c.Ack(codec.PUBACK, p.PacketID)
		for _, v := range []auth.Verdict{auth.Deny, auth.Allow} {
			a.answer <- v
			c.Send(&codec.Unsubscribe{PacketID: 6, Filters: [][]byte{[]byte("ask/1")}})
			var done codec.Unsuback
			c.Want(codec.UNSUBACK, &done)
			if got := done.Codes[0]; (got == codec.Success) != (v == auth.Allow) {
				t.Errorf("UNSUBACK %s after %s", got, v)
			}
		}
		if n := len(a.asked); n != 6 {
			t.Errorf("asked %d times", n)
		}
	})
}

func codesOf(list []codec.Reason) (b []byte) {
	for _, r := range list {
		b = append(b, byte(r))
	}
	return b
}

// TestAskWithoutAnswer ends the connection, so that the client comes again: nothing is acknowledged that was not
// passed on.
func TestAskWithoutAnswer(t *testing.T) {
	onEachAsker(t, func(t *testing.T, x *fixture, a *asker) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("+/t", 1)
		for _, v := range []codec.Version{codec.V5, codec.V311} {
			c := x.connect("c", v, nil)
			c.Publish("ask/t", "m", 1, 1)
			a.answer <- auth.Ignore
			if v == codec.V5 {
				wantDisconnect(t, c, codec.ServerBusy)
			} else {
				c.WantClosed()
			}
		}
		sub.WantNothing()
	})
}

// TestAskEndsWithTheConnection: who has gone, or was taken over, is answered for nobody.
func TestAskEndsWithTheConnection(t *testing.T) {
	onEachAsker(t, func(t *testing.T, x *fixture, a *asker) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("+/t", 1)
		first := x.connect("c", codec.V5, nil)
		first.Publish("ask/t", "of the first", 1, 1)
		<-a.asked
		second := x.connect("c", codec.V5, nil)
		wantDisconnect(t, first, codec.SessionTakenOver)
		a.answer <- auth.Allow
		second.Publish("free/t", "of the second", 1, 1)
		wantAck(t, second, codec.PUBACK, 1, codec.Success)
		sub.Ack(codec.PUBACK, sub.WantPublish("free/t", "of the second").PacketID)
		second.Publish("ask/t", "and gone", 1, 2)
		<-a.asked
		if _, err := x.b.Disconnect(t.Context(), "c", codec.AdministrativeAction, false); err != nil {
			t.Fatal(err)
		}
		wantDisconnect(t, second, codec.AdministrativeAction)
		a.answer <- auth.Allow
		sub.WantNothing()
	})
}
