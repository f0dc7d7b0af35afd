package broker_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// aclOf makes an ACL of lines.
func aclOf(t testing.TB, lines ...string) *auth.ACL {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := auth.LoadACL(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// withACL opens a broker for everybody, with an ACL.
func withACL(t testing.TB, lines ...string) changeFunc {
	p := &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{aclOf(t, lines...)}}
	return func(_ *broker.Options, l *broker.ListenerOptions) { l.Policy = p }
}

// as is a change of CONNECT that sets a username.
func as(user string) connectFunc {
	return func(p *codec.Connect) { p.HasUsername, p.Username = true, []byte(user) }
}

func both(list ...connectFunc) connectFunc {
	return func(p *codec.Connect) {
		for _, f := range list {
			f(p)
		}
	}
}

// reload replaces the listener's policy. What was published before is judged by the old one, deals of shared
// subscriptions too, which take two loops.
func (x *fixture) reload(change func(*broker.ListenerOptions)) {
	x.t.Helper()
	brokertest.Settle(x.t, x.b)
	l := x.b.Listeners()[0]
	lo := *l.Options()
	change(&lo)
	o := broker.DefaultOptions()
	o.SysInterval = 0
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	if err := x.b.Reload(ctx, o, map[*broker.Listener]broker.ListenerOptions{l: lo}); err != nil {
		x.t.Fatal(err)
	}
}

// wantDenied compares what ACLs have kept from somebody; the $SYS tree does not count it.
func (x *fixture) wantDenied(want int64) {
	x.t.Helper()
	m := brokertest.Settle(x.t, x.b)
	if got := m.Dropped[broker.DropDenied]; got != want || m.DroppedTotal() != 0 {
		x.t.Errorf("%d denied, want %d; dropped by reason: %v", got, want, m.Dropped)
	}
}

// TestDeniedPublish: MQTT 5 clients hear 0x87, MQTT 3 clients an ordinary acknowledgement; nobody gets it.
func TestDeniedPublish(t *testing.T) {
	onEach(t, withACL(t, "topic read #", "topic write ok/#"), func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("#", 2)
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			want := codec.Success
			if v == codec.V5 {
				want = codec.NotAuthorized
			}
			c := x.connect(fmt.Sprint("pub", v), v, nil)
			c.Publish("no", "0", 0, 0)
			var a codec.Ack
			c.Publish("no", "1", 1, 1)
			if c.Want(codec.PUBACK, &a); a.Reason != want {
				t.Errorf("MQTT %d: PUBACK %s", v, a.Reason)
			}
			c.Publish("no", "2", 2, 2)
			if c.Want(codec.PUBREC, &a); a.Reason != want {
				t.Errorf("MQTT %d: PUBREC %s", v, a.Reason)
			}
			if v == codec.V311 {
				c.Ack(codec.PUBREL, 2)
				c.Want(codec.PUBCOMP, nil)
			}
			c.Send(&codec.Publish{Topic: []byte("no"), Payload: []byte("r"), Retain: true})
			c.Publish("ok/1", "yes", 1, 3)
			c.Want(codec.PUBACK, nil)
			sub.Ack(codec.PUBACK, sub.WantPublish("ok/1", "yes").PacketID)
		}
		late := x.connect("late", codec.V311, nil)
		late.Subscribe("no", 0)
		late.WantNothing()
		x.in(t).wantDenied(8)
	})
}

// TestDeniedRead: each message is checked on its way to each client, whatever way it takes.
func TestDeniedRead(t *testing.T) {
	acl := withACL(t, "topic write #", "topic read open/#", "user u", "topic write #", "topic read own/+", "topic deny own/x",
		"pattern read mine/%c")
	onEach(t, acl, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		retain(pub, "own/1", "kept")
		retain(pub, "own/x", "kept")
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			c := x.connect("c", v, as("u"))
			if code := c.Subscribe("#", 1); code != 1 { // always granted
				t.Errorf("SUBACK %d", code)
			}
			c.Ack(codec.PUBACK, c.WantPublish("own/1", "kept").PacketID)
			if code := c.Subscribe("mine/c", 0); code != 0 {
				t.Errorf("SUBACK %d", code)
			}
			for _, topic := range []string{"own/x", "open/1", "own/1/2", "mine/d", "own/2"} {
				exchange(t, pub, topic, topic, 1)
			}
			receive(t, c, "own/2", "own/2", 1)
			exchange(t, pub, "mine/c", "m", 0)
			c.WantPublish("mine/c", "m") // by both subscriptions
			c.WantPublish("mine/c", "m")
			c.WantNothing()
			c.Disconnect()
		}
		anonymous := x.connect("a", codec.V311, nil)
		anonymous.Subscribe("$share/g/open/#", 0)
		anonymous.Subscribe("$share/g/own/#", 0)
		exchange(t, pub, "own/1", "no", 1)
		exchange(t, pub, "open/1", "yes", 1)
		anonymous.WantPublish("open/1", "yes")
		anonymous.WantNothing()
		x.in(t).wantDenied(2*(1+4) + 1) // own/x, kept and not, open/1, own/1/2, mine/d; own/1 to the share
	})
}

func TestDeniedReadWithoutDuplicates(t *testing.T) {
	acl := withACL(t, "topic write #", "topic read a/+", "topic deny a/x")
	onEach(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.AllowDuplicates = false
		acl(o, l)
	}, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V311, nil)
		c.Subscribe("a/#", 0)
		c.Subscribe("a/y", 0)
		pub := x.connect("pub", codec.V311, nil)
		exchange(t, pub, "a/x", "no", 1)
		exchange(t, pub, "a/y", "yes", 1)
		c.WantPublish("a/y", "yes")
		c.WantNothing()
		x.in(t).wantDenied(1)
	})
}

// words is an Authorizer that knows filters which may not be subscribed to or given up.
type words struct{ deny, keep string }

func (w words) Rules(string, string, bool) auth.Rules { return w }
func (words) Covers([]byte) bool                      { return true }
func (w words) Check(a auth.Access, topic []byte) auth.Verdict {
	if a == auth.Subscribe && string(topic) == w.deny || a == auth.Unsubscribe && string(topic) == w.keep {
		return auth.Deny
	}
	return auth.Allow
}

func TestDeniedSubscribe_MQTT_3_9_3(t *testing.T) {
	policy := &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{words{"no/#", "keep"}}}
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.Policy = policy }, func(t *testing.T, x *fixture) {
		for v, want := range map[codec.Version]codec.Reason{
			codec.V31: 0x80, codec.V311: 0x80, codec.V5: codec.NotAuthorized,
		} {
			c := x.connect(fmt.Sprint("c", v), v, nil)
			c.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{
				{Name: []byte("yes"), QoS: 1}, {Name: []byte("no/#"), QoS: 1}, {Name: []byte("keep")},
			}})
			var ack codec.Suback
			c.Want(codec.SUBACK, &ack)
			if !slices.Equal(ack.Codes, []codec.Reason{1, want, 0}) {
				t.Errorf("MQTT %d: SUBACK % x", v, ack.Codes)
			}
			c.Send(&codec.Unsubscribe{PacketID: 2, Filters: [][]byte{[]byte("keep"), []byte("yes")}})
			var un codec.Unsuback
			c.Want(codec.UNSUBACK, &un)
			if v == codec.V5 && !slices.Equal(un.Codes, []codec.Reason{codec.NotAuthorized, 0}) {
				t.Errorf("UNSUBACK % x", un.Codes)
			}
			c.Publish("keep", "still", 0, 0)
			c.WantPublish("keep", "still")
			c.Publish("yes", "gone", 0, 0)
			c.Publish("no/1", "never", 0, 0)
			c.WantNothing()
		}
	})
}

// TestDeniedWill: a will is checked when it is published, not at CONNECT.
func TestDeniedWill(t *testing.T) {
	onEach(t, withACL(t, "topic read #", "topic write w/yes"), func(_ *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V311, nil)
		sub.Subscribe("w/#", 0)
		for _, topic := range []string{"w/no", "w/yes"} {
			c := x.connect("c", codec.V311, func(p *codec.Connect) {
				p.HasWill, p.Will = true, codec.Will{Topic: []byte(topic), Payload: []byte("w")}
			})
			c.Hangup()
		}
		sub.WantPublish("w/yes", "w")
		sub.WantNothing()
		x.wantDenied(1)
	})
}

// TestQueuedMessagesAreCheckedAgain takes the right to read away while messages wait.
func TestQueuedMessagesAreCheckedAgain(t *testing.T) {
	onEach(t, withACL(t, "topic #"), func(t *testing.T, x *fixture) {
		sub, _ := x.present("sub", codec.V5, with(expiry(100)))
		sub.Subscribe("#", 2)
		pub := x.connect("pub", codec.V311, nil)
		exchange(t, pub, "a", "in flight", 2)
		sub.WantPublish("a", "in flight") // and no PUBREC
		sub.Hangup()
		for i := range 30 { // more than the window
			exchange(t, pub, []string{"a", "b"}[i%2], fmt.Sprint(i), 1)
		}
		x.in(t).reload(func(l *broker.ListenerOptions) {
			l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{
				aclOf(t, "topic write #", "topic read b"),
			}}
		})
		sub, _ = x.present("sub", codec.V5, with(expiry(100)))
		var rel codec.Ack
		sub.Want(codec.PUBREL, &rel) // the client may have had it: its packet id is free
		sub.Ack(codec.PUBCOMP, rel.PacketID)
		for i := 1; i < 30; i += 2 {
			p := sub.WantPublish("b", fmt.Sprint(i))
			sub.Ack(codec.PUBACK, p.PacketID)
		}
		sub.WantNothing()
		x.in(t).wantDenied(16)
	})
}

// TestReloadChangesRights: subscriptions that needed no check need one now, and the other way round.
func TestReloadChangesRights(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) { // no policy at first
		subs := []*brokertest.Client{x.connect("s1", codec.V5, nil), x.connect("s2", codec.V311, nil)}
		for _, c := range subs { // a crowd, where both live on one loop
			c.Subscribe("a/#", 0)
			c.Subscribe("b", 0)
			c.Subscribe(fmt.Sprintf("$share/%d/c", c.Version), 0)
		}
		pub := x.connect("pub", codec.V311, nil)
		for _, step := range []struct {
			acl    []string
			a1, ax bool
			c      bool
		}{
			{[]string{"topic write #", "topic read a/+", "topic deny a/x"}, true, false, false},
			{[]string{"topic write #", "topic read c"}, false, false, true},
			{nil, true, true, true},
		} {
			x.in(t).reload(func(l *broker.ListenerOptions) {
				l.Policy = &auth.Policy{AllowAnonymous: true}
				if step.acl != nil {
					l.Policy.Authorizers = []auth.Authorizer{aclOf(t, step.acl...)}
				}
			})
			for _, topic := range []string{"a/1", "a/x", "c"} {
				exchange(t, pub, topic, "m", 1)
			}
			for _, c := range subs {
				if step.a1 {
					c.WantPublish("a/1", "m")
				}
				if step.ax {
					c.WantPublish("a/x", "m")
				}
				if step.c {
					c.WantPublish("c", "m")
				}
				c.WantNothing()
			}
		}
	})
}

// TestCheckRetainSource: a retained message of who may not write there any more is not delivered.
func TestCheckRetainSource(t *testing.T) {
	for _, check := range []bool{false, true} {
		t.Run(fmt.Sprint(check), func(t *testing.T) {
			acl := withACL(t, "topic #", "user u", "topic #")
			onEach(t, func(o *broker.Options, l *broker.ListenerOptions) {
				o.CheckRetainSource = check
				acl(o, l)
			}, func(t *testing.T, x *fixture) {
				retain(x.connect("c1", codec.V311, as("u")), "r/u", "of u")
				retain(x.connect("c2", codec.V311, nil), "r/anonymous", "of nobody")
				will := x.connect("c3", codec.V311, both(as("u"), func(p *codec.Connect) {
					p.HasWill, p.Will = true, codec.Will{Topic: []byte("r/will"), Payload: []byte("w"), Retain: true}
				}))
				will.Hangup()
				x.in(t).reload(func(l *broker.ListenerOptions) {
					l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{
						aclOf(t, "topic #", "user u", "topic read #"),
					}}
				})
				sub := x.connect("sub", codec.V311, nil)
				sub.Subscribe("r/anonymous", 0)
				sub.WantPublish("r/anonymous", "of nobody")
				for topic, payload := range map[string]string{"r/u": "of u", "r/will": "w"} {
					sub.Subscribe(topic, 0)
					if !check {
						sub.WantPublish(topic, payload)
					}
					sub.WantNothing()
				}
				x.in(t).wantDenied(map[bool]int64{true: 2}[check])
			})
		})
	}
}

// TestCheckRetainSourceAfterARestart: the store knows who has published, and with which will.
func TestCheckRetainSourceAfterARestart(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		rules := []string{"topic #", "user u", "topic #"}
		check := true
		d := newDurable(t, loops, func(o *broker.Options, l *broker.ListenerOptions) {
			o.CheckRetainSource = check
			l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{aclOf(t, rules...)}}
		})
		retain(d.connect("c1", codec.V311, as("u")), "r/u", "of u")
		retain(d.connect("c2", codec.V311, nil), "r/anonymous", "of nobody")
		d.connect("c3", codec.V5, both(as("u"), both(with(expiry(1000)), func(p *codec.Connect) {
			p.HasWill, p.Will = true, codec.Will{Topic: []byte("r/will"), Payload: []byte("w"), QoS: 1, Retain: true}
		})))
		c4 := d.connect("c4", codec.V5, both(as("u"), with(expiry(1000)))) // QoS 2, not finished
		c4.Send(&codec.Publish{QoS: 2, PacketID: 1, Retain: true, Topic: []byte("r/2"), Payload: []byte("2")})
		c4.Want(codec.PUBREC, nil)
		d.crash(t, loops)
		c4, _ = d.present("c4", codec.V5, both(as("u"), with(expiry(1000))))
		c4.Ack(codec.PUBREL, 1)
		c4.Want(codec.PUBCOMP, nil)
		all := map[string]string{"r/u": "of u", "r/anonymous": "of nobody", "r/will": "w", "r/2": "2"}
		want := func(passes func(topic string) bool) {
			t.Helper()
			sub := d.connect("sub", codec.V311, nil)
			for topic, payload := range all {
				sub.Subscribe(topic, 0)
				if passes(topic) {
					sub.WantPublish(topic, payload)
				}
				sub.WantNothing()
			}
		}
		want(func(string) bool { return true })
		rules[2] = "topic read #"
		d.crash(t, loops)
		want(func(topic string) bool { return topic == "r/anonymous" })
		check = false
		d.crash(t, loops)
		want(func(string) bool { return true })
	})
}

func TestMountPoint(t *testing.T) {
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.MountPoint = "site/" }, func(t *testing.T, x *fixture) {
		l := broker.DefaultListenerOptions()
		l.AllowAnonymous = true
		l.Net = x.b.Listeners()[0].Options().Net
		ln, err := x.b.Listen(l)
		if err != nil {
			t.Fatal(err)
		}
		outside := brokertest.Connect(t, ln, "outside", codec.V311, nil)
		outside.Subscribe("#", 1)
		inside := x.connect("inside", codec.V5, both(with(uintProp(codec.TopicAliasMaximum, 5), expiry(100)),
			func(p *codec.Connect) {
				p.HasWill, p.Will = true, codec.Will{Topic: []byte("will"), Payload: []byte("w")}
			}))
		if code := inside.Subscribe("a/+", 1); code != 1 {
			t.Errorf("SUBACK %d", code)
		}
		inside.Subscribe("$share/g/s/+", 0)
		inside.Publish("a/1", "from inside", 1, 1)
		p := inside.WantPublish("a/1", "from inside")
		inside.Want(codec.PUBACK, nil)
		inside.Ack(codec.PUBACK, p.PacketID)
		outside.Ack(codec.PUBACK, outside.WantPublish("site/a/1", "from inside").PacketID)
		exchange(t, outside, "a/1", "elsewhere", 0)
		outside.WantPublish("a/1", "elsewhere")
		exchange(t, outside, "site/s/2", "shared", 0)
		outside.WantPublish("site/s/2", "shared")
		inside.WantPublish("s/2", "shared")
		// The topic is sent once, then its alias.
		exchange(t, outside, "site/a/1", "alias", 0)
		outside.WantPublish("site/a/1", "alias")
		inside.WantPublish("", "alias")
		big := strings.Repeat("x", 3000) // payloads that are shared
		exchange(t, outside, "site/a/2", big, 0)
		outside.WantPublish("site/a/2", big)
		inside.WantPublish("a/2", big)
		// Retained and will.
		retain(brokertest.Connect(t, ln, "writer", codec.V311, nil), "site/a/r", "kept")
		outside.WantPublish("site/a/r", "kept")
		inside.Ack(codec.PUBACK, inside.WantPublish("a/r", "kept").PacketID)
		late := x.connect("late", codec.V311, nil)
		late.Subscribe("a/r", 0)
		late.WantPublish("a/r", "kept")
		long := codec.Will{Topic: []byte(strings.Repeat("t", 65531))}
		if r := x.connack("w", codec.V5, func(p *codec.Connect) { p.HasWill, p.Will = true, long }); r != codec.TopicNameInvalid {
			t.Errorf("a will on a topic that is too long: %s", r)
		}
		late.Publish(string(long.Topic), "", 0, 0) // longer than a topic may be, with the mount point
		late.WantClosed()
		inside.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("a/+")}})
		var un codec.Unsuback
		if inside.Want(codec.UNSUBACK, &un); un.Codes[0] != codec.Success {
			t.Errorf("UNSUBACK %s", un.Codes[0])
		}
		exchange(t, outside, "site/a/3", "nobody", 0)
		outside.WantPublish("site/a/3", "nobody")
		inside.WantNothing()
		inside.Hangup()
		outside.WantPublish("site/will", "w")
		outside.WantNothing()
	})
}

// TestSharedNamesCoverNothing: what may be read of $share says nothing about the topics behind it.
func TestSharedNamesCoverNothing(t *testing.T) {
	policy := &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{
		aclOf(t, "topic write #", "topic read $share/#", "topic read yes"),
	}}
	onEach(t, nil, func(t *testing.T, x *fixture) {
		early := x.connect("early", codec.V311, nil) // before there is a policy
		early.Subscribe("$share/e/#", 0)
		x.in(t).reload(func(l *broker.ListenerOptions) { l.Policy = policy })
		late := x.connect("late", codec.V311, nil)
		late.Subscribe("$share/l/#", 0)
		pub := x.connect("pub", codec.V311, nil)
		exchange(t, pub, "no", "m", 1)
		exchange(t, pub, "yes", "m", 1)
		for _, c := range []*brokertest.Client{early, late} {
			c.WantPublish("yes", "m")
			c.WantNothing()
		}
	})
}

// TestMountPointAndACL: ACLs see full names.
func TestMountPointAndACL(t *testing.T) {
	acl := withACL(t, "topic write site/#", "topic read site/a")
	onEach(t, func(o *broker.Options, l *broker.ListenerOptions) {
		l.MountPoint = "site/"
		acl(o, l)
	}, func(_ *testing.T, x *fixture) {
		c := x.connect("c", codec.V311, nil)
		c.Subscribe("#", 0)
		c.Publish("b", "no", 0, 0)
		c.Publish("a", "yes", 0, 0)
		c.WantPublish("a", "yes")
		c.WantNothing()
	})
}

// TestReloadWhileAPasswordIsChecked takes the user away before the answer is there.
func TestReloadWhileAPasswordIsChecked(t *testing.T) {
	onEachLocked(t, auth.PoolConfig{}, func(t *testing.T, x *fixture, gate *locked) {
		ids := []string{"w0", "w1", "w2", "w3"} // some of them move to another loop
		for _, id := range ids {
			c := brokertest.Dial(t, x.addr, codec.V5)
			p := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte(id)}
			withPassword("u", "right")(&p)
			c.Send(&p)
			<-gate.busy
			x.in(t).reload(func(l *broker.ListenerOptions) {
				l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{passwordsOf(t, "other p")}}
			})
			gate.free <- struct{}{}
			var ack codec.Connack
			if c.Want(codec.CONNACK, &ack); ack.Reason != codec.NotAuthorized {
				t.Errorf("%s: %s", id, ack.Reason)
			}
			x.in(t).reload(func(l *broker.ListenerOptions) {
				l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{gate}}
			})
		}
	})
}

// TestUncoveredDeliveryDoesNotAllocate: the check of a message is free of garbage, as delivery is.
func TestUncoveredDeliveryDoesNotAllocate(t *testing.T) {
	for name, lines := range map[string][]string{
		"covered": {"topic #"}, "checked": {"topic write #", "topic read a/topic"},
		"pattern": {"pattern write #", "pattern read +/topic", "pattern deny no/%c"},
	} {
		t.Run(name, func(t *testing.T) {
			acl := withACL(t, lines...)
			x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
				brokertest.Loopback(&l.Net)
				o.Loops = 1
				acl(o, l)
			})
			c := x.connect("c", codec.V311, nil)
			c.Subscribe("#", 0)
			pub := x.connect("pub", codec.V311, nil)
			p := codec.Publish{Topic: []byte("a/topic"), Payload: make([]byte, 64)}
			raw := p.Append(nil, codec.V311)
			buf := make([]byte, len(raw))
			round := func() {
				if _, err := pub.Conn.Write(raw); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c.Conn, buf); err != nil {
					t.Fatal(err)
				}
			}
			round()
			if n := testing.AllocsPerRun(300, round); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
