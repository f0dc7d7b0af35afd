package broker_test

import (
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
)

// resumeAs is a CONNECT that resumes what is there, by a user ("": anonymous).
func resumeAs(user string) connectFunc {
	return both(with(expiry(1000)), func(p *codec.Connect) {
		p.CleanStart = false
		if user != "" {
			as(user)(p)
		}
	})
}

// leave makes a session of a user with a subscription and a queued message.
func (x *fixture) leave(id, user string) {
	x.t.Helper()
	c := x.connect(id, codec.V5, resumeAs(user))
	c.Subscribe("q/"+id, 1)
	c.Disconnect()
	pub := x.connect("pub", codec.V5, nil)
	pub.Publish("q/"+id, "secret", 1, 1)
	pub.Want(codec.PUBACK, nil)
}

// second opens one more listener, like the first but for its mount point.
func (x *fixture) second(mount string) *fixture {
	x.t.Helper()
	o := *x.b.Listeners()[0].Options()
	o.MountPoint = mount
	l, err := x.b.Listen(o)
	if err != nil {
		x.t.Fatal(err)
	}
	y := *x
	y.addr = l
	return &y
}

var strangers = []struct{ owner, other string }{{"ann", "bob"}, {"ann", ""}, {"", "bob"}}

func TestSessionOfAnotherUser(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, u := range strangers {
			id := "id " + u.owner + u.other
			x.leave(id, u.owner)
			c, present := x.present(id, codec.V5, resumeAs(u.other))
			if present {
				t.Errorf("%q has the session of %q", u.other, u.owner)
			}
			exchange(t, x.connect("pub", codec.V5, nil), "q/"+id, "not subscribed", 1)
			c.WantNothing()
			c.Disconnect()
			if _, present = x.present(id, codec.V5, resumeAs(u.owner)); present {
				t.Errorf("%q finds the session of %q", u.owner, u.other)
			}
		}
	})
}

func TestSessionOfTheSameUser(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, user := range []string{"", "ann"} {
			id := "id " + user
			x.leave(id, user)
			c, present := x.present(id, codec.V5, resumeAs(user))
			if !present {
				t.Errorf("%q has lost the session", user)
			}
			receive(t, c, "q/"+id, "secret", 1)
		}
		c, present := x.present("id ", codec.V5, func(p *codec.Connect) { as("")(p) })
		if !present { // an empty name is none
			t.Error("a client with an empty username has lost the session")
		}
		c.WantNothing()
	})
}

// Who takes a connection over by its client id does not get what it had either.
func TestTakeoverByAnotherUser_MQTT_3_1_4_3(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, nil)
		watch.Subscribe("w/#", 1)
		ann := x.connect("c", codec.V5, both(as("ann"), willOf(100, 1000)))
		ann.Subscribe("q", 1)
		bob, present := x.present("c", codec.V5, resumeAs("bob"))
		if present {
			t.Error("bob has the session of ann")
		}
		wantDisconnect(t, ann, codec.SessionTakenOver)
		receive(t, watch, "w/c", "gone", 1) // her session has ended [MQTT-3.1.3-9]
		exchange(t, x.connect("pub", codec.V5, nil), "q", "secret", 1)
		bob.WantNothing()
	})
}

func TestSessionOfAnotherMountPoint(t *testing.T) {
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.MountPoint = "a/" },
		func(t *testing.T, x *fixture) {
			for _, mount := range []string{"b/", ""} {
				x.leave("c", "ann")
				y := x.second(mount)
				c, present := y.present("c", codec.V5, resumeAs("ann"))
				if present {
					t.Errorf("mount point %q: the session of another", mount)
				}
				c.WantNothing()
				c.Disconnect()
				if _, present := x.present("c", codec.V5, resumeAs("ann")); present {
					t.Errorf("the session of mount point %q", mount)
				}
			}
		})
}

func TestOtherUserSession(t *testing.T) {
	for _, tt := range []struct {
		name string
		is   broker.OtherUsers
	}{{"refuse", broker.RefuseSession}, {"resume", broker.ResumeSession}} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.OtherUsers = tt.is },
				func(t *testing.T, x *fixture) {
					x.leave("c", "ann")
					if tt.is == broker.ResumeSession {
						c, present := x.present("c", codec.V5, resumeAs("bob"))
						if !present {
							t.Error("bob has not got the session")
						}
						receive(t, c, "q/c", "secret", 1)
						return
					}
					for v, want := range map[codec.Version]codec.Reason{
						codec.V5: codec.ClientIdentifierNotValid, codec.V311: 2,
					} {
						d := brokertest.Dial(t, x.addr, v)
						if ack := d.Connack("c", as("bob")); ack.Reason != want { // clean start does not help
							t.Errorf("CONNACK %s", ack.Reason)
						}
						d.WantClosed()
					}
					c, present := x.present("c", codec.V5, resumeAs("ann"))
					if !present {
						t.Error("ann has lost the session")
					}
					receive(t, c, "q/c", "secret", 1)
				})
		})
	}
}

// Whose a session is outlives the broker.
func TestSessionOfAnotherUserAfterARestart(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, func(_ *broker.Options, l *broker.ListenerOptions) { l.MountPoint = "a/" })
		for _, id := range []string{"user", "mount", "same"} {
			d.leave(id, "ann")
		}
		d.save(t)
		d.crash(t, loops)
		if _, present := d.present("user", codec.V5, resumeAs("bob")); present {
			t.Error("bob has the session of ann")
		}
		if _, present := d.second("b/").present("mount", codec.V5, resumeAs("ann")); present {
			t.Error("the session of another mount point")
		}
		c, present := d.present("same", codec.V5, resumeAs("ann"))
		if !present {
			t.Fatal("ann has lost the session")
		}
		receive(t, c, "q/same", "secret", 1)
	})
}

// A session of which is not known whose it is, since it has been imported, is whose comes first.
func TestSessionOfNobody(t *testing.T) {
	d := &durable{mem: store.NewMemory(), loops: 1, change: func(_ *broker.Options, l *broker.ListenerOptions) {
		l.MountPoint = "a/"
	}}
	var b store.Batch
	b.PutSession(&store.Session{
		Number: 1, ClientID: "c", Expiry: 0xFFFFFFFF, OfflineAt: 1_799_999_999, AnyUser: true, AnyMount: true,
	})
	if err := d.mem.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	c, present := d.present("c", codec.V5, resumeAs("ann"))
	if !present {
		t.Error("ann has not got the session")
	}
	c.Disconnect()
	if _, present := d.present("c", codec.V5, resumeAs("bob")); present {
		t.Error("bob has the session of ann")
	}
}

// TestReloadOfOtherUsers changes what happens to a session of another user while the broker runs.
func TestReloadOfOtherUsers(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.leave("c", "ann")
		o := broker.DefaultOptions()
		o.SysInterval, o.OtherUsers = 0, broker.RefuseSession
		if err := x.b.Reload(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		if ack := brokertest.Dial(t, x.addr, codec.V5).Connack("c", resumeAs("bob")); ack.Reason == codec.Success {
			t.Error("a session of another user is resumed, or ended")
		}
		if _, present := x.present("c", codec.V5, resumeAs("ann")); !present {
			t.Error("the session is gone")
		}
	})
}
