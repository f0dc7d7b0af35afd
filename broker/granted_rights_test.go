package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/codec/im"
)

func TestDeniedTopicsOnBehalf(t *testing.T) {
	acl := withACL(t, "topic read yes/#", "topic write #", "user pub", "topic write #")
	onEach(t, acl, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, as("pub"))
		c := x.connect("c", codec.V5, with(expiry(100)))
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("yes/a:1", "no/a", "+/b", "$share/g/no/a")}),
			"0 $share/g/no/a=absent/135 +/b=new no/a=absent/135 yes/a=new/1")
		wantOnly(pub, c, "yes/a", "m")
		wantOnly(pub, c, "yes/b", "m")
		wantOnly(pub, c, "no/a")
		wantOnly(pub, c, "no/b") // the filter is there, the message may not be read

		free := &behalf.Origin{Name: "presub:free", Bypass: true}
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Origin: free, Topics: topics("no/a:1")}), "0 no/a=new/1")
		pub.Publish("no/a", "m", 1, 1)
		pub.Want(codec.PUBACK, nil)
		c.WantPublish("no/a", "m")
		c.Disconnect()
		pub.Publish("no/a", "queued", 1, 1)
		pub.Want(codec.PUBACK, nil)
		c, _ = x.present("c", codec.V5, with(expiry(100)))
		for _, want := range []string{"m", "m", "queued"} { // yes/a, no/a unacknowledged; the queue
			var p codec.Publish
			if c.Want(codec.PUBLISH, &p); string(p.Payload) != want {
				t.Errorf("got %q, want %q", p.Payload, want)
			}
			c.Ack(codec.PUBACK, p.PacketID)
		}
		c.WantNothing()
	})
}

func TestDeniedTopicsBeforeConnack(t *testing.T) {
	policy := &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{words{"no/#", ""}}}
	g := &grantor{}
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		l.Policy, l.MaxQoS, o.Admitters = policy, 1, []broker.Admitter{g}
	})
	g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("yes:2", "no/#")})
	x.connect("c", codec.V5, nil)
	l := x.list("c")
	if h := l.Holdings[1]; len(h.Topics) != 1 || h.Topics[0].Filter != "yes" || h.Topics[0].QoS != 1 {
		t.Errorf("%+v", h)
	}
	// What waited for a client is held against its rights and its listener too.
	later := make(chan behalf.Answer, 1)
	x.ask(behalf.Request{
		ClientID: "d", Topics: topics("no/#", "a:2"), Wait: time.Minute, Later: func(a behalf.Answer) { later <- a },
	})
	x.connect("d", codec.V5, nil)
	x.wantAnswer(<-later, "0 a=new/1 no/#=absent/135")
	for _, id := range []string{"c", "d"} {
		x.connect(id, codec.V5, nil).Disconnect()
		g.set(id)
	}
	brokertest.Until(t, x.b, "the end of all sets", func(m *broker.Metrics) bool { return m.Sets == 0 })
}

// TestManyLimitsAtOnce has a list cut by rights, by the listener and by the number of subscriptions, twice.
func TestManyLimitsAtOnce(t *testing.T) {
	policy := &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{words{"no", ""}}}
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxSubscriptions, l.Policy, l.MaxQoS = 3, policy, 1
	})
	c := x.connect("c", codec.V5, with(expiry(100)))
	c.Disconnect()
	for _, list := range [][]string{{"a:2", "no", "b"}, {"c:2", "d", "no", "e"}} {
		x.ask(behalf.Request{ClientID: "c", Topics: topics(list...), Wait: time.Minute})
		x.ask(behalf.Request{ClientID: "new", Topics: topics(list...), Wait: time.Minute})
	}
	x.present("c", codec.V5, with(expiry(100)))
	x.connect("new", codec.V5, nil)
	for _, id := range []string{"c", "new"} {
		if h := x.list(id).Holdings[1]; len(h.Topics) != 3 || h.Topics[0].QoS > 1 {
			t.Errorf("%s: %+v", id, h)
		}
		x.connect(id, codec.V5, nil).Disconnect()
	}
	x.advance(61)
	brokertest.Until(t, x.b, "the end of all sets", func(m *broker.Metrics) bool { return m.Sets == 0 && m.Granted == 0 })
}

func TestMountPointOnBehalf(t *testing.T) {
	g := &grantor{}
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		l.MountPoint, o.Admitters = "m/", []broker.Admitter{g}
	})
	g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("a")})
	c := x.connect("c", codec.V5, nil)
	pub := x.connect("pub", codec.V5, nil)
	wantOnly(pub, c, "a", "1")
	x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("a", "b", "$share/g/s")}), "0 $share/g/s=new a=existing b=new")
	wantOnly(pub, c, "b", "1")
	wantOnly(pub, c, "s", "1")
	x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics("a")}), "0 a=existing b=removed $share/g/s=removed")
	c.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("a")}})
	c.Want(codec.UNSUBACK, nil)
	wantOnly(pub, c, "a")
	later := make(chan behalf.Answer, 1)
	x.ask(behalf.Request{ClientID: "d", Topics: topics("p"), Wait: time.Minute, Later: func(a behalf.Answer) { later <- a }})
	d := x.connect("d", codec.V5, nil)
	x.wantAnswer(<-later, "0 p=new")
	wantOnly(pub, d, "p", "1")
}

// TestControl publishes to a topic that a part of the program has taken over.
func TestControl(t *testing.T) {
	var mu sync.Mutex
	var got []*broker.Control
	take := func(c *broker.Control) codec.Reason {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, c)
		if string(c.Payload) == "full" {
			return codec.QuotaExceeded
		}
		return codec.Success
	}
	acl := withACL(t, "topic write #", "topic read #", "topic read $CONTROL/#", "user u", "topic readwrite #", "topic write $CONTROL/x/v1")
	oneByOne(t, func(o *broker.Options, l *broker.ListenerOptions) {
		acl(o, l)
		o.Controls = map[string]broker.ControlFunc{"$CONTROL/x/v1": take}
	}, func(t *testing.T, x *fixture) {
		mu.Lock()
		got = nil
		mu.Unlock()
		spy := x.connect("spy", codec.V5, nil)
		spy.Subscribe("$CONTROL/#", 2)
		c := x.connect("c", codec.V5, as("u"))
		p := &codec.Publish{Topic: []byte("$CONTROL/x/v1"), Payload: []byte("hello"), QoS: 1, PacketID: 1}
		p.Properties = codec.AppendBytesProperty(p.Properties, codec.ResponseTopic, []byte("re"))
		p.Properties = codec.AppendBytesProperty(p.Properties, codec.CorrelationData, []byte("7"))
		var ack codec.Ack
		c.Send(p)
		if c.Want(codec.PUBACK, &ack); ack.Reason != codec.Success {
			t.Errorf("PUBACK %s", ack.Reason)
		}
		c.Publish("$CONTROL/x/v1", "full", 1, 2)
		if c.Want(codec.PUBACK, &ack); ack.Reason != codec.QuotaExceeded {
			t.Errorf("PUBACK %s", ack.Reason)
		}
		c.Publish("$CONTROL/x/v1", "twice", 2, 3)
		c.Want(codec.PUBREC, nil)
		c.Ack(codec.PUBREL, 3)
		c.Want(codec.PUBCOMP, nil)
		nobody := x.connect("nobody", codec.V5, nil)
		nobody.Publish("$CONTROL/x/v1", "no", 1, 1)
		if nobody.Want(codec.PUBACK, &ack); ack.Reason != codec.NotAuthorized {
			t.Errorf("PUBACK %s", ack.Reason)
		}
		brokertest.Settle(t, x.b)
		spy.WantNothing()
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 3 || got[0].ClientID != "c" || got[0].Username != "u" || !got[0].Allowed ||
			got[0].ResponseTopic != "re" || string(got[0].Correlation) != "7" || string(got[2].Payload) != "twice" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestControlIsNotAllowedByDefault(t *testing.T) {
	var allowed []bool
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops = 1
		o.Controls = map[string]broker.ControlFunc{"$CONTROL/x/v1": func(c *broker.Control) codec.Reason {
			allowed = append(allowed, c.Allowed)
			return codec.Success
		}}
	})
	x.connect("c", codec.V5, nil).Publish("$CONTROL/x/v1", "m", 0, 0)
	c := x.connect("d", codec.V5, as("admin"))
	c.Publish("$CONTROL/x/v1", "m", 1, 1)
	c.Want(codec.PUBACK, nil)
	brokertest.Settle(t, x.b)
	if len(allowed) != 2 || allowed[0] || allowed[1] {
		t.Errorf("allowed %v", allowed)
	}
}

func TestGuard(t *testing.T) {
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Guard = func(username string, topic, _ []byte) codec.Reason {
			if username == "agent" || string(topic) != "new" {
				return codec.Success
			}
			return codec.NotAuthorized
		}
	})
	spy := x.connect("spy", codec.V5, nil)
	spy.Subscribe("#", 0)
	for user, want := range map[string]codec.Reason{"agent": codec.Success, "other": codec.NotAuthorized} {
		c := x.connect(user, codec.V5, as(user))
		c.Publish("new", user, 1, 1)
		var ack codec.Ack
		if c.Want(codec.PUBACK, &ack); ack.Reason != want {
			t.Errorf("%s: PUBACK %s", user, ack.Reason)
		}
	}
	w := x.connect("w", codec.V5, func(p *codec.Connect) {
		p.HasWill, p.Will = true, codec.Will{Topic: []byte("new"), Payload: []byte("will")}
	})
	w.Hangup()
	brokertest.Settle(t, x.b)
	spy.WantPublish("new", "agent")
	spy.WantNothing()
}

// TestClientHearsOfItsSubscriptions opts in by a list and by a SUBSCRIBE.
func TestClientHearsOfItsSubscriptions(t *testing.T) {
	g := &grantor{}
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Admitters = []broker.Admitter{g}
		o.Describe = func(l *behalf.Listing, n int) []byte {
			out := fmt.Append(nil, n)
			for _, h := range l.Holdings {
				for _, topic := range h.Topics {
					out = fmt.Appendf(out, " %s=%s", h.Origin, topic.Filter)
				}
			}
			return out
		}
	})
	const self = "$me/subscriptions"
	g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("a", self)})
	c := x.connect("c", codec.V311, nil)
	c.WantPublish(self, "2 presub:list="+self+" presub:list=a")
	x.ask(behalf.Request{ClientID: "c", Topics: topics("b")})
	c.WantPublish(self, "3 presub:list="+self+" presub:list=a api:test=b")

	d := x.connect("d", codec.V311, nil)
	x.ask(behalf.Request{ClientID: "d", Topics: topics("b")})
	d.WantNothing() // it has not asked
	d.Subscribe(self, 0)
	d.WantPublish(self, "1 api:test=b")
	c.Publish(self, "lie", 0, 0)
	brokertest.Settle(t, x.b)
	d.WantNothing()
}

// TestApplyGivesUp ends with its context, and at the broker's end; nothing is left over.
func TestApplyGivesUp(t *testing.T) {
	x := newFixture(t, nil)
	x.connect("c", codec.V5, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 {
		r := &behalf.Request{ClientID: "c", Action: im.Subscribe, Origin: origin("o"), Topics: topics("a"), Wait: time.Minute}
		if a := x.b.Apply(ctx, r); a[0].Code != behalf.Done && a[0].Code != behalf.Busy {
			t.Fatalf("%s", a[0].Code)
		}
		r.ClientID = "nobody"
		x.b.Apply(ctx, r)
	}
	x.connect("c", codec.V5, nil).Disconnect()
	x.advance(61)
	brokertest.Until(t, x.b, "the end of all sets", func(m *broker.Metrics) bool { return m.Sets == 0 && m.PendingRequests == 0 })
	down, stop := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer stop()
	if err := x.b.Shutdown(down); err != nil {
		t.Fatal(err)
	}
	r := &behalf.Request{ClientID: "c", Action: im.Subscribe, Origin: origin("o"), Topics: topics("a")}
	if a := x.b.Apply(context.Background(), r); a[0].Code != behalf.Busy {
		t.Errorf("%s", a[0].Code)
	}
}

// TestWhatIsHeldStays has a list that is too long come to a session that has a part of it and no room for more: by a
// request, as what waited for its CONNECT, by the CONNECT's own list and by an edit of the list. What it has stays, and
// what is left out is said to lack room.
func TestWhatIsHeldStays(t *testing.T) {
	g := &grantor{}
	full := func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxSubscriptions, l.MaxQoS, o.Admitters = 2, 1, []broker.Admitter{g}
	}
	x := newFixture(t, full)
	c := x.connect("c", codec.V5, with(expiry(100)))
	c.Subscribe("own", 0)
	x.ask(behalf.Request{ClientID: "c", Topics: topics("m")})
	c.Disconnect()
	later := make(chan behalf.Answer, 1)
	x.wantAnswer(x.ask(behalf.Request{
		ClientID: "c", Topics: topics("a:2", "m"), Wait: time.Minute, Later: func(a behalf.Answer) { later <- a },
	}), "0 a=absent/151 m=existing")
	has := func(o, want string) {
		t.Helper()
		for _, h := range x.list("c").Holdings[1:] {
			if got := fmt.Sprint(h.Topics); h.Origin == o && !strings.HasPrefix(got, "[{"+want+" ") || len(h.Topics) > 1 {
				t.Errorf("%s: %s, want %s", o, got, want)
			}
		}
	}
	c, _ = x.present("c", codec.V5, with(expiry(100)))
	has("api:test", "m")
	x.ask(behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics()})
	g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("n")})
	for _, list := range [][]string{{"n"}, {"b", "n"}} {
		g.set("c", behalf.Grant{Origin: perConnect, Topics: topics(list...)})
		c.Disconnect()
		c, _ = x.present("c", codec.V5, with(expiry(100)))
		has(perConnect.Name, "n")
	}
	// "new" has no session: of what waits for it the first two come in.
	x.ask(behalf.Request{
		ClientID: "new", Topics: topics("a:2", "b", "c"), Wait: time.Minute, Later: func(a behalf.Answer) { later <- a },
	})
	x.connect("new", codec.V5, nil)
	x.wantAnswer(<-later, "0 a=new/1 b=new c=absent/151")
}

// TestMoveHoldsToTerms edits a list that a client has at its limits: as if it had been asked for.
func TestMoveHoldsToTerms(t *testing.T) {
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) { o.MaxSubscriptions, l.MaxQoS = 2, 1 })
	x.connect("c", codec.V5, nil)
	o := origin("api:test")
	x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Origin: o, Topics: topics("m:1")}), "0 m=new/1")
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	if n, err := x.b.Move(ctx, o, topics("m:1"), topics("a:2", "b:0", "m:2")); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	h := x.list("c").Holdings[1]
	if len(h.Topics) != 2 || h.Topics[0].Filter != "a" || h.Topics[0].QoS != 1 || h.Topics[1].Filter != "m" ||
		h.Topics[1].QoS != 1 {
		t.Errorf("%+v", h.Topics)
	}
}

// TestNoRoomLeavesWhatWaits refuses a request since too much waits: what was told before that it waits still does.
func TestNoRoomLeavesWhatWaits(t *testing.T) {
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxPending, o.MaxPendingBytes = 1, 1000 },
		func(t *testing.T, x *fixture) {
			r := behalf.Request{ClientID: "c", Topics: topics("a", "b"), Wait: time.Minute}
			x.wantAnswer(x.ask(r), "0 a=pending b=pending")
			r.Topics = topics(strings.Repeat("x", 900))
			x.wantAnswer(x.ask(r), "151")
			r.Topics = topics("c") // there is room for one request, which has it already
			x.wantAnswer(x.ask(r), "0 c=pending")
			x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Action: im.Unsubscribe, Topics: topics("b")}), "0 b=removed")
			x.connect("c", codec.V5, nil)
			if h := x.list("c").Holdings[1]; len(h.Topics) != 2 || h.Topics[0].Filter != "a" || h.Topics[1].Filter != "c" {
				t.Errorf("%+v", h.Topics)
			}
			if m := brokertest.Settle(t, x.b); m.PendingRequests != 0 {
				t.Errorf("%d wait", m.PendingRequests)
			}
		})
}

// TestListTellsWhy asks for the list of a session that is not there, and of a loop that does not answer.
func TestListTellsWhy(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops = 1
		o.Controls = map[string]broker.ControlFunc{"$CONTROL/x/v1": func(*broker.Control) codec.Reason {
			close(entered)
			<-release
			return codec.Success
		}}
	})
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := x.b.List(ctx, "c"); !errors.Is(err, behalf.ErrNoSession) {
		t.Errorf("a session that is not there: %v", err)
	}
	x.connect("c", codec.V5, nil).Publish("$CONTROL/x/v1", "m", 0, 0)
	<-entered
	cancel()
	if _, err := x.b.List(ctx, "c"); !errors.Is(err, behalf.ErrNoAnswer) {
		t.Errorf("a loop that stands still: %v", err)
	}
	if a := x.b.Apply(ctx, &behalf.Request{
		ClientID: "c", Action: im.Subscribe, Origin: origin("o"), Topics: topics("a"),
	}); a[0].Code != behalf.Busy {
		t.Errorf("a loop that stands still: %s", a[0].Code)
	}
	close(release)
	if l := x.list("c"); len(l.Holdings) != 1 {
		t.Errorf("%+v", l)
	}
}
