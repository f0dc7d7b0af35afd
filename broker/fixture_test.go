package broker_test

import (
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// changeFunc alters the options of a test's broker.
type changeFunc = func(*broker.Options, *broker.ListenerOptions)

// connectFunc alters a CONNECT.
type connectFunc = func(*codec.Connect)

// fixture is a broker whose time stands still, and whose clients are on pipes unless a test asks otherwise.
type fixture struct {
	t     testing.TB
	b     *broker.Broker
	addr  *broker.Listener
	clock *brokertest.Clock
}

func newFixture(t testing.TB, change changeFunc) *fixture {
	t.Helper()
	x := &fixture{t: t, clock: brokertest.NewClock()}
	x.b, x.addr = brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Clock = x.clock.Source()
		if change != nil {
			change(o, l)
		}
	})
	return x
}

// onEach runs f with a fixture of one loop, of four, and of the portable poller.
func onEach(t *testing.T, change changeFunc, f func(t *testing.T, x *fixture)) {
	t.Helper()
	prepare := func(o *broker.Options, l *broker.ListenerOptions) struct{} {
		if change != nil {
			change(o, l)
		}
		return struct{}{}
	}
	onEachWith(t, prepare, func(t *testing.T, x *fixture, _ struct{}) { f(t, x) })
}

// onEachWith is onEach for tests that need what prepare put into the options.
func onEachWith[T any](
	t *testing.T,
	prepare func(*broker.Options, *broker.ListenerOptions) T,
	f func(t *testing.T, x *fixture, with T),
) {
	t.Helper()
	for _, v := range []struct {
		name     string
		loops    int
		portable bool
	}{{"one loop", 1, false}, {"four loops", 4, false}, {"portable", 3, true}} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			var with T
			x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
				o.Loops, o.Portable = v.loops, v.portable
				with = prepare(o, l)
			})
			f(t, x, with)
		})
	}
}

// socket is the address of a fixture on sockets.
func (x *fixture) socket() string { return x.addr.Addr().String() }

// onSockets is change for a fixture whose clients have sockets, since the test is of what only those have.
func onSockets(change changeFunc) changeFunc {
	return func(o *broker.Options, l *broker.ListenerOptions) {
		brokertest.Loopback(&l.Net)
		if change != nil {
			change(o, l)
		}
	}
}

// in is x for a subtest.
func (x *fixture) in(t testing.TB) *fixture {
	y := *x
	y.t = t
	return &y
}

// connect connects with what change sets.
func (x *fixture) connect(id string, v codec.Version, change func(*codec.Connect)) *brokertest.Client {
	x.t.Helper()
	return brokertest.Connect(x.t, x.addr, id, v, change)
}

// present connects without clean start and reports Session Present.
func (x *fixture) present(id string, v codec.Version, change connectFunc) (*brokertest.Client, bool) {
	x.t.Helper()
	c := brokertest.Dial(x.t, x.addr, v)
	ack := c.Connack(id, func(p *codec.Connect) {
		p.CleanStart = false
		if change != nil {
			change(p)
		}
	})
	if ack.Reason != codec.Success {
		x.t.Fatalf("CONNACK %s", ack.Reason)
	}
	return c, ack.SessionPresent
}

// advance moves the time on by a number of seconds.
func (x *fixture) advance(seconds int) {
	x.t.Helper()
	x.clock.Advance(x.t, x.b, time.Duration(seconds)*time.Second)
}

// dropped is the count of one reason.
func (x *fixture) dropped(r broker.DropReason) int64 {
	x.t.Helper()
	m := brokertest.Settle(x.t, x.b)
	return m.Dropped[r]
}

// retain publishes a retained message and waits for the acknowledgement.
func retain(c *brokertest.Client, topic, payload string) {
	c.Send(&codec.Publish{Retain: true, QoS: 1, PacketID: 1, Topic: []byte(topic), Payload: []byte(payload)})
	c.Want(codec.PUBACK, nil)
}

// with is a change of CONNECT that sets properties.
func with(list ...func(codec.Properties) codec.Properties) func(*codec.Connect) {
	return func(p *codec.Connect) { p.Properties = append(p.Properties, props(list...)...) }
}

// wantDisconnect reads a DISCONNECT with a reason code and then the end.
func wantDisconnect(t testing.TB, c *brokertest.Client, want codec.Reason) {
	t.Helper()
	var d codec.Disconnect
	c.Want(codec.DISCONNECT, &d)
	if d.Reason != want {
		t.Errorf("DISCONNECT 0x%02x %s, want 0x%02x %s", byte(d.Reason), d.Reason, byte(want), want)
	}
	c.WantClosed()
}
