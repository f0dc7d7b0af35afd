package broker_test

import (
	"context"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// gate is an Admitter that answers when the test says so.
type gate struct {
	asked  chan *broker.Admission
	answer chan codec.Reason
	left   chan string
}

func newGate() *gate {
	return &gate{
		asked: make(chan *broker.Admission, 64), answer: make(chan codec.Reason), left: make(chan string, 64),
	}
}

// Admit implements broker.Admitter. A client whose id is "free" is let in at once.
func (g *gate) Admit(ctx context.Context, a *broker.Admission) codec.Reason {
	if a.ClientID == "free" {
		return codec.Success
	}
	g.asked <- a
	select {
	case r := <-g.answer:
		return r
	case <-ctx.Done():
		g.left <- a.ClientID
		return codec.UnspecifiedError
	}
}

// TestAdmissionHoldsOnlyItsClient asks for one client while others go on; what it sent behind CONNECT waits
// with it.
func TestAdmissionHoldsOnlyItsClient(t *testing.T) {
	onEachGate(t, func(t *testing.T, x *fixture, g *gate) {
		free := x.connect("free", codec.V5, nil)
		free.Subscribe("early", 0)
		slow := brokertest.Dial(t, x.addr, codec.V311)
		connect := codec.Connect{
			Version: codec.V311, CleanStart: true, ClientID: []byte("slow"),
			HasUsername: true, Username: []byte("u"), HasPassword: true, Password: []byte("p"),
		}
		b := connect.Append(nil, codec.V311)
		b = (&codec.Publish{Topic: []byte("early"), Payload: []byte("bird")}).Append(b, codec.V311)
		slow.Raw(b)
		a := <-g.asked
		if a.ClientID != "slow" || a.Username != "u" || string(a.Password) != "p" || !a.Address.IsValid() {
			t.Errorf("asked about %+v", a)
		}
		free.Raw(codec.AppendPingreq(nil))
		free.Want(codec.PINGRESP, nil)
		g.answer <- codec.Success
		var ack codec.Connack
		if slow.Want(codec.CONNACK, &ack); ack.Reason != codec.Success {
			t.Errorf("CONNACK %s", ack.Reason)
		}
		var p codec.Publish
		if free.Want(codec.PUBLISH, &p); string(p.Payload) != "bird" {
			t.Errorf("payload %q", p.Payload)
		}
	})
}

func TestAdmissionRefuses(t *testing.T) {
	onEachGate(t, func(t *testing.T, x *fixture, g *gate) {
		for v, want := range map[codec.Version]codec.Reason{codec.V311: 5, codec.V5: codec.NotAuthorized} {
			c := brokertest.Dial(t, x.addr, v)
			c.Send(&codec.Connect{Version: v, CleanStart: true, ClientID: []byte("slow")})
			<-g.asked
			g.answer <- codec.NotAuthorized
			var ack codec.Connack
			if c.Want(codec.CONNACK, &ack); ack.Reason != want {
				t.Errorf("MQTT %d: CONNACK %d, want %d", v, ack.Reason, want)
			}
			c.WantClosed()
		}
	})
}

// TestShutdownDuringAdmission ends a broker while an answer is awaited: the question is withdrawn.
func TestShutdownDuringAdmission(t *testing.T) {
	onEachGate(t, func(t *testing.T, x *fixture, g *gate) {
		c := brokertest.Dial(t, x.addr, codec.V311)
		c.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("slow")})
		<-g.asked
		ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
		defer cancel()
		if err := x.b.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		if id := <-g.left; id != "slow" {
			t.Errorf("%q has left", id)
		}
	})
}

func onEachGate(t *testing.T, f func(t *testing.T, x *fixture, g *gate)) {
	t.Helper()
	onEachWith(t, func(o *broker.Options, l *broker.ListenerOptions) *gate {
		brokertest.Loopback(&l.Net) // Admission.Address
		g := newGate()
		o.Admitters = []broker.Admitter{g}
		return g
	}, f)
}

// TestReloadDisconnectsWhoMayNotComeAnyMore turns anonymous clients away, and refuses them from then on.
func TestReloadDisconnectsWhoMayNotComeAnyMore(t *testing.T) {
	passwords := []auth.Authenticator{passwordsOf(t, "somebody p")}
	b, addr := brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Loops = 3
		l.Policy = &auth.Policy{AllowAnonymous: true, Authenticators: passwords}
	})
	named := brokertest.Connect(t, addr, "named", codec.V5, withPassword("somebody", "p"))
	nameless := brokertest.Connect(t, addr, "nameless", codec.V5, nil)
	l := b.Listeners()[0]
	lo := *l.Options()
	lo.Policy = &auth.Policy{Authenticators: passwords}
	lo.MaxQoS = 1
	o := broker.DefaultOptions()
	o.SysInterval = 0
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	if err := b.Reload(ctx, o, map[*broker.Listener]broker.ListenerOptions{l: lo}); err != nil {
		t.Fatal(err)
	}
	wantDisconnect(t, nameless, codec.NotAuthorized)
	if code := named.Subscribe("a", 2); code != 1 {
		t.Errorf("granted %d, want the listener's new Maximum QoS 1", code)
	}
	if ack := brokertest.Dial(t, addr, codec.V5).Connack("again", nil); ack.Reason != codec.NotAuthorized {
		t.Errorf("CONNACK %s", ack.Reason)
	}
}

// TestReloadReplacesAdmitters has nobody asked at first, then one who refuses, then nobody again.
func TestReloadReplacesAdmitters(t *testing.T) {
	b, addr := brokertest.Start(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = 3 })
	for i, want := range []codec.Reason{codec.Success, codec.Banned, codec.Success} {
		o := broker.DefaultOptions()
		o.SysInterval = 0
		if want != codec.Success {
			o.Admitters = []broker.Admitter{refuser(want)}
		}
		ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
		defer cancel()
		if err := b.Reload(ctx, o, nil); err != nil {
			t.Fatal(err)
		}
		ack := brokertest.Dial(t, addr, codec.V5).Connack(string(rune('a'+i)), nil)
		if ack.Reason != want {
			t.Errorf("round %d: %s, want %s", i, ack.Reason, want)
		}
	}
}

// refuser is an Admitter that lets nobody in.
type refuser codec.Reason

// Admit implements broker.Admitter.
func (r refuser) Admit(context.Context, *broker.Admission) codec.Reason { return codec.Reason(r) }
