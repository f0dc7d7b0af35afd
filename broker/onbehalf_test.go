package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/codec/im"
)

// topics makes a set: "a" is QoS 0, "a:1" QoS 1.
func topics(list ...string) *behalf.Set {
	var out []behalf.Topic
	for _, f := range list {
		x := behalf.Topic{Filter: f}
		if name, qos, ok := strings.Cut(f, ":"); ok {
			x.Filter, x.QoS = name, qos[0]-'0'
		}
		out = append(out, x)
	}
	return behalf.NewSet(out)
}

func origin(name string) *behalf.Origin { return &behalf.Origin{Name: name} }

// ask applies a request and returns the only answer.
func (x *fixture) ask(r behalf.Request) behalf.Answer {
	x.t.Helper()
	list := x.askAll(r)
	if len(list) != 1 {
		x.t.Fatalf("%d answers: %+v", len(list), list)
	}
	return list[0]
}

func (x *fixture) askAll(r behalf.Request) []behalf.Answer {
	x.t.Helper()
	if r.Origin == nil {
		r.Origin = origin("api:test")
	}
	if r.Action == 0 {
		r.Action = im.Subscribe
	}
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	return x.b.Apply(ctx, &r)
}

// answerWords is an answer in one line: "0 a=new b=existing/135".
func answerWords(a behalf.Answer) string {
	out := fmt.Append(nil, byte(a.Code))
	for _, r := range a.Results {
		out = fmt.Appendf(out, " %s=%s", r.Filter, r.State)
		if r.Code != 0 {
			out = fmt.Appendf(out, "/%d", byte(r.Code))
		}
	}
	return string(out)
}

func (x *fixture) wantAnswer(a behalf.Answer, want string) {
	x.t.Helper()
	if got := answerWords(a); got != want {
		x.t.Errorf("answer %q, want %q", got, want)
	}
}

func (x *fixture) list(id string) behalf.Listing {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	l, err := x.b.List(ctx, id)
	if err != nil {
		x.t.Fatalf("%s: %v", id, err)
	}
	return l
}

// wantOnly checks that the client gets these payloads on a topic, once each, and nothing else.
func wantOnly(pub, c *brokertest.Client, topic string, payloads ...string) {
	for _, p := range payloads {
		pub.Publish(topic, p, 1, 9)
		pub.Want(codec.PUBACK, nil)
	}
	for _, p := range payloads {
		c.WantPublish(topic, p)
	}
	c.WantNothing()
}

func TestSubscribeOnBehalfOfConnectedClient(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V311, nil)
		pub := x.connect("pub", codec.V5, nil)
		a := x.ask(behalf.Request{ClientID: "c", Topics: topics("a:0", "b/+:0", "a:1", "c/#:2")})
		x.wantAnswer(a, "0 a=new/1 b/+=new c/#=new/2")
		if a.Revision == 0 {
			t.Error("no revision")
		}
		// The answer means that it is in effect.
		for _, topic := range []string{"b/x", "c", "c/d"} {
			pub.Publish(topic, "m", 0, 0)
			c.WantPublish(topic, "m")
		}
		pub.Publish("a", "q1", 1, 1)
		pub.Want(codec.PUBACK, nil)
		if p := c.WantPublish("a", "q1"); p.QoS != 1 {
			t.Errorf("QoS %d, want 1", p.QoS)
		}
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("a:1", "d")}), "0 a=existing/1 d=new")
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Action: im.Unsubscribe, Topics: topics("a", "z")}),
			"0 a=removed z=absent/17")
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics("d", "e")}),
			"0 d=existing e=new b/+=removed c/#=removed")
		wantOnly(pub, c, "d", "1")
		wantOnly(pub, c, "b/x")
		x.wantAnswer(x.ask(behalf.Request{ClientID: "nobody", Topics: topics("a")}), "146")
		if m := brokertest.Settle(t, x.b); m.Granted != 2 || m.Sets != 1 || m.Subscriptions != 2 {
			t.Errorf("%d granted, %d sets, %d subscriptions", m.Granted, m.Sets, m.Subscriptions)
		}
		c.Disconnect()
		if m := brokertest.Settle(t, x.b); m.Granted != 0 || m.Sets != 0 || m.Subscriptions != 0 {
			t.Errorf("after the end: %d granted, %d sets, %d subscriptions", m.Granted, m.Sets, m.Subscriptions)
		}
	})
}

// TestOriginsAreApart reconciles one origin and looks at the others.
func TestOriginsAreApart(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		pub := x.connect("pub", codec.V5, nil)
		if r := c.Subscribe("own", 0); r != 0 {
			t.Fatal(r)
		}
		one, two := origin("presub:one"), origin("api:two")
		// Codes are the QoS by which messages come, which is that of the earliest.
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Origin: one, Topics: topics("own:1", "both", "x")}),
			"0 both=new own=existing x=new")
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Origin: two, Topics: topics("both:1", "y")}),
			"0 both=existing y=new")
		for _, topic := range []string{"own", "both", "x", "y"} {
			wantOnly(pub, c, topic, "once")
		}
		x.ask(behalf.Request{ClientID: "c", Origin: one, Action: im.Replace, Topics: topics()})
		for _, topic := range []string{"own", "y", "both"} {
			pub.Publish(topic, "still", 0, 0)
			c.WantPublish(topic, "still")
		}
		wantOnly(pub, c, "x")
		l := x.list("c")
		if len(l.Holdings) != 3 || l.Holdings[0].Origin != "client" || len(l.Holdings[0].Topics) != 1 ||
			len(l.Holdings[1].Topics) != 0 || len(l.Holdings[2].Topics) != 2 || l.Revision != l.Holdings[1].Revision {
			t.Errorf("listing %+v", l)
		}
		// The client's own end of its own subscription.
		c.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("own")}})
		c.Want(codec.UNSUBACK, nil)
		wantOnly(pub, c, "own")
	})
}

func TestSameSetOfTwoOrigins(t *testing.T) {
	onEach(t, nil, func(_ *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		pub := x.connect("pub", codec.V5, nil)
		one, two := origin("one"), origin("two")
		x.ask(behalf.Request{ClientID: "c", Origin: one, Topics: topics("a", "b")})
		x.ask(behalf.Request{ClientID: "c", Origin: two, Topics: topics("a", "b")})
		wantOnly(pub, c, "a", "once")
		x.ask(behalf.Request{ClientID: "c", Origin: one, Action: im.Replace, Topics: topics()})
		wantOnly(pub, c, "a", "once more")
		x.ask(behalf.Request{ClientID: "c", Origin: one, Topics: topics("a", "b")})
		x.ask(behalf.Request{ClientID: "c", Origin: two, Action: im.Unsubscribe, Topics: topics("a")})
		wantOnly(pub, c, "a", "and again")
		wantOnly(pub, c, "b", "and again")
	})
}

func TestOwnSubscriptionBesideGranted(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		pub := x.connect("pub", codec.V5, nil)
		x.ask(behalf.Request{ClientID: "c", Topics: topics("a")})
		if r := c.Subscribe("a", 2); r != 2 {
			t.Fatal(r)
		}
		pub.Publish("a", "m", 1, 1)
		pub.Want(codec.PUBACK, nil)
		if p := c.WantPublish("a", "m"); p.QoS != 1 {
			t.Errorf("QoS %d: the client's own options count", p.QoS)
		}
		x.ask(behalf.Request{ClientID: "c", Action: im.Unsubscribe, Topics: topics("a")})
		wantOnly(pub, c, "a", "still")
	})
}

func TestUnsubscribeOfGranted_MQTT_3_10_4_1(t *testing.T) {
	for _, tt := range []struct {
		policy behalf.Policy
		code   codec.Reason
		now    bool // messages still come
		later  bool // after a reconnect
	}{
		{behalf.Allow, codec.Success, false, false},
		{behalf.Sticky, codec.Success, false, true},
		{behalf.Deny, codec.NotAuthorized, true, true},
	} {
		t.Run(fmt.Sprint(tt.policy), func(t *testing.T) {
			onEach(t, nil, func(t *testing.T, x *fixture) {
				o := &behalf.Origin{Name: "presub:x", Unsubscribe: tt.policy}
				pub := x.connect("pub", codec.V5, nil)
				c := x.connect("c", codec.V5, with(expiry(100)))
				x.ask(behalf.Request{ClientID: "c", Origin: o, Topics: topics("a", "b", "$share/g/s")})
				c.Send(&codec.Unsubscribe{
					PacketID: 1, Filters: [][]byte{[]byte("a"), []byte("none"), []byte("$share/g/s")},
				})
				var ack codec.Unsuback
				c.Want(codec.UNSUBACK, &ack)
				if ack.Codes[0] != tt.code || ack.Codes[1] != codec.NoSubscriptionExisted || ack.Codes[2] != tt.code {
					t.Errorf("UNSUBACK %v, want %v", ack.Codes, tt.code)
				}
				check := func(comes bool) {
					t.Helper()
					for _, topic := range []string{"a", "s"} {
						if comes {
							wantOnly(pub, c, topic, "m")
						} else {
							wantOnly(pub, c, topic)
						}
					}
					wantOnly(pub, c, "b", "m")
				}
				check(tt.now)
				c.Disconnect()
				c, _ = x.present("c", codec.V5, with(expiry(100)))
				check(tt.later)
				if tt.later {
					return
				}
				// A list that is made for each CONNECT does not ask for it, a request does.
				lists := &behalf.Origin{Name: "presub:x", PerConnect: true}
				x.ask(behalf.Request{ClientID: "c", Origin: lists, Action: im.Replace, Topics: topics("a", "b", "$share/g/s")})
				check(false)
				x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Origin: o, Topics: topics("a", "$share/g/s")}),
					"0 $share/g/s=new a=new")
				check(true)
			})
		})
	}
}

// TestUnsubscribedIsAskedForAnew has one origin, and then another, ask again for what the client has ended.
func TestUnsubscribedIsAskedForAnew(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		retain(pub, "a", "kept")
		c := x.connect("c", codec.V5, nil)
		r := behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics("a")}
		x.wantAnswer(x.ask(r), "0 a=new")
		c.WantPublish("a", "kept")
		unsubscribed(t, c, "a", codec.Success)
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Origin: origin("api:two"), Topics: topics("a")}), "0 a=new")
		c.WantPublish("a", "kept")
		for _, h := range x.list("c").Holdings[1:] {
			if want := h.Origin != "api:two"; (len(h.Muted) == 1) != want {
				t.Errorf("%s: unsubscribed %v", h.Origin, h.Muted)
			}
		}
		x.ask(behalf.Request{ClientID: "c", Origin: origin("api:two"), Action: im.Unsubscribe, Topics: topics("a")})
		wantOnly(pub, c, "a")
		x.wantAnswer(x.ask(r), "0 a=new")
		c.WantPublish("a", "kept")
		wantOnly(pub, c, "a", "m")
		x.wantAnswer(x.ask(r), "0 a=existing")
		c.WantNothing()
	})
}

func TestSubscribeOnBehalfOfOfflineSession(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		retain(pub, "r/1", "kept")
		c := x.connect("c", codec.V5, with(expiry(100)))
		c.Disconnect()
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("a:1", "r/#:1")}), "0 a=new/1 r/#=new/1")
		pub.Publish("a", "while offline", 1, 2)
		pub.Want(codec.PUBACK, nil)
		c, present := x.present("c", codec.V5, with(expiry(100)))
		if !present {
			t.Error("no session")
		}
		c.WantPublish("a", "while offline")
		if p := c.WantPublish("r/1", "kept"); !p.Retain {
			t.Error("RETAIN is not set [MQTT-3.3.1-8]")
		}
		c.WantNothing()
		c.Disconnect()
		c, _ = x.present("c", codec.V5, with(expiry(100))) // not again
		c.Ack(codec.PUBACK, 1)
		for range 2 { // what was not acknowledged
			c.Want(codec.PUBLISH, nil)
		}
		c.WantNothing()
	})
}

func TestRetainedOnBehalf(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		for _, topic := range []string{"r/1", "r/2", "s/1"} {
			retain(pub, topic, "kept")
		}
		c := x.connect("c", codec.V311, nil)
		never := behalf.NewSet([]behalf.Topic{
			{Filter: "r/1", RetainHandling: 2}, {Filter: "r/2", RetainHandling: 1}, {Filter: "s/1"},
		})
		x.ask(behalf.Request{ClientID: "c", Topics: never})
		c.WantPublish("r/2", "kept")
		c.WantPublish("s/1", "kept")
		brokertest.Settle(t, x.b)
		c.WantNothing()
		x.ask(behalf.Request{ClientID: "c", Topics: never}) // as a SUBSCRIBE again [MQTT-3.8.4-3]
		c.WantPublish("s/1", "kept")
		brokertest.Settle(t, x.b)
		c.WantNothing()
		x.ask(behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics("s/1", "r/#")})
		if k := take(t, c).all(x.b); len(k.got) != 2 { // s/1 was there
			t.Errorf("%d retained messages, want r/1 and r/2", len(k.got))
		}
	})
}

func TestPendingRequests(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		later := make(chan behalf.Answer, 10)
		r := behalf.Request{
			ClientID: "c", Topics: topics("a:1", "b"), Wait: 30 * time.Second,
			Later: func(a behalf.Answer) { later <- a },
		}
		x.wantAnswer(x.ask(r), "0 a=pending/1 b=pending")
		r.Topics = topics("c")
		x.wantAnswer(x.ask(r), "0 c=pending")
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Action: im.Unsubscribe, Topics: topics("b", "z")}),
			"0 b=removed z=absent/17")
		if m := brokertest.Settle(t, x.b); m.PendingRequests != 1 {
			t.Errorf("%d pending", m.PendingRequests)
		}
		c := x.connect("c", codec.V311, nil)
		for range 2 { // each of the requests that were joined hears
			x.wantAnswer(<-later, "0 a=new/1 c=new")
		}
		wantOnly(pub, c, "a", "m")
		wantOnly(pub, c, "b")
		wantOnly(pub, c, "c", "m")
		c.Disconnect()
		c = x.connect("c", codec.V311, nil) // another session
		wantOnly(pub, c, "a")

		r.ClientID, r.Topics = "late", topics("a")
		x.wantAnswer(x.ask(r), "0 a=pending")
		x.advance(31)
		x.wantAnswer(<-later, "146 a=absent/128")
		c = x.connect("late", codec.V311, nil)
		wantOnly(pub, c, "a")
		if m := brokertest.Settle(t, x.b); m.PendingRequests != 0 || m.PendingExpired != 1 || m.Granted != 0 || m.Sets != 0 {
			t.Errorf("%d pending, %d expired, %d granted, %d sets", m.PendingRequests, m.PendingExpired, m.Granted, m.Sets)
		}
	})
}

// TestHeldRequestsExpire has requests that hold be told that nobody came, unless somebody did.
func TestHeldRequestsExpire(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		later := make(chan behalf.Answer, 10)
		r := behalf.Request{
			ClientID: "came", Topics: topics("a"), Wait: 5 * time.Second, Hold: true,
			Later: func(a behalf.Answer) { later <- a },
		}
		x.wantAnswer(x.ask(r), "0 a=pending")
		x.connect("came", codec.V5, nil)
		x.wantAnswer(<-later, "0 a=new")
		r.ClientID = "never"
		x.wantAnswer(x.ask(r), "0 a=pending")
		x.advance(6)
		if a := <-later; a.ClientID != "never" || a.Code != behalf.NoSession {
			t.Errorf("%+v", a)
		}
		if m := brokertest.Settle(t, x.b); m.PendingRequests != 0 || len(later) > 0 {
			t.Errorf("%d pending, %d answers more", m.PendingRequests, len(later))
		}
	})
}

// TestPendingSurvivesCleanStart asks for an offline session, which the client then replaces by a new one.
func TestPendingSurvivesCleanStart(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		x.connect("c", codec.V5, with(expiry(100))).Disconnect()
		r := behalf.Request{ClientID: "c", Topics: topics("a"), Wait: time.Second}
		x.wantAnswer(x.ask(r), "0 a=new")
		c := x.connect("c", codec.V5, with(expiry(100)))
		wantOnly(pub, c, "a", "m")
		// Hold does it for a connected one too, which is taken over.
		r.Topics, r.Hold = topics("h"), true
		x.wantAnswer(x.ask(r), "0 h=new")
		other := x.connect("c", codec.V5, nil)
		wantDisconnect(t, c, codec.SessionTakenOver)
		wantOnly(pub, other, "h", "m")
		wantOnly(pub, other, "a")
	})
}

func TestPendingIsBounded(t *testing.T) {
	bound := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxPending, o.MaxPendingBytes = 3, 2300 }
	onEach(t, bound, func(t *testing.T, x *fixture) {
		long := strings.Repeat("x", 1300)
		for i, want := range []string{"0 a=pending", "0 a=pending", "0 a=pending", "151"} {
			r := behalf.Request{ClientID: fmt.Sprint(i), Topics: topics("a"), Wait: time.Minute}
			x.wantAnswer(x.ask(r), want)
		}
		x.advance(61)
		r := behalf.Request{ClientID: "x", Topics: topics(long), Wait: time.Minute}
		x.wantAnswer(x.ask(r), "0 "+long+"=pending")
		r.ClientID = "y"
		x.wantAnswer(x.ask(r), "151")
		x.advance(61)
		if m := brokertest.Settle(t, x.b); m.PendingRequests != 0 || m.Sets != 0 {
			t.Errorf("%d pending, %d sets", m.PendingRequests, m.Sets)
		}
	})
}

// TestPendingIsShared: one owner, of whatever origins, has three quarters of the places and bytes at most, so that
// another always finds room; what it has given up it may have again.
func TestPendingIsShared(t *testing.T) {
	bound := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MaxPending, o.MaxPendingBytes, o.RequestsByUsername = 8, 8000, true
	}
	onEach(t, bound, func(_ *testing.T, x *fixture) {
		from := func(owner, name, id string, list ...string) behalf.Request {
			o := &behalf.Origin{Name: "api:" + owner + "/" + name, Owner: "api:" + owner}
			return behalf.Request{ClientID: id, Origin: o, Action: im.Replace, Topics: topics(list...), Wait: time.Minute}
		}
		for i := range 6 {
			x.wantAnswer(x.ask(from("much", fmt.Sprint(i%3), fmt.Sprint(i), "a")), "0 a=pending")
		}
		x.wantAnswer(x.ask(from("much", "9", "c6", "a")), "151")
		x.wantAnswer(x.ask(from("much", "0", "0", "b")), "0 b=pending") // in the place of another
		x.wantAnswer(x.ask(from("small", "0", "c6", "a")), "0 a=pending")
		x.wantAnswer(x.ask(from("small", "0", "c7", "a")), "0 a=pending")
		x.wantAnswer(x.ask(from("small", "0", "c8", "a")), "151") // there are none left
		x.connect("1", codec.V5, nil)
		x.wantAnswer(x.ask(from("much", "9", "c6", "a")), "0 a=pending")
		x.advance(61)
		long := strings.Repeat("x", 2500)
		x.wantAnswer(x.ask(from("much", "0", "x1", long)), "0 "+long+"=pending")
		x.wantAnswer(x.ask(from("much", "0", "x2", long)), "0 "+long+"=pending")
		x.wantAnswer(x.ask(from("much", "1", "x3", long)), "151")
		x.wantAnswer(x.ask(from("small", "0", "x3", "a")), "0 a=pending")
		x.advance(61)
		x.wantAnswer(x.ask(from("much", "1", "x3", long)), "0 "+long+"=pending")
	})
}

func TestRequestsByUsername(t *testing.T) {
	byName := func(o *broker.Options, _ *broker.ListenerOptions) { o.RequestsByUsername = true }
	onEach(t, byName, func(t *testing.T, x *fixture) {
		user := func(name string) func(*codec.Connect) {
			return func(p *codec.Connect) {
				p.HasUsername, p.Username = true, []byte(name)
				p.Properties = props(expiry(100))
			}
		}
		pub := x.connect("pub", codec.V5, nil)
		var devices []*brokertest.Client
		for i := range 6 {
			devices = append(devices, x.connect(fmt.Sprint("d", i), codec.V5, user("alice")))
		}
		other := x.connect("other", codec.V5, user("bob"))
		answers := x.askAll(behalf.Request{Username: "alice", Topics: topics("a"), Wait: time.Minute})
		if len(answers) != 6 {
			t.Errorf("%d answers", len(answers))
		}
		for _, a := range answers {
			x.wantAnswer(a, "0 a=new")
		}
		pub.Publish("a", "m", 0, 0)
		for _, c := range devices {
			c.WantPublish("a", "m")
		}
		other.WantNothing()
		// A session that goes on under another name.
		devices[0].Disconnect()
		renamed, _ := x.present("d0", codec.V5, user("bob"))
		if n := len(x.askAll(behalf.Request{Username: "bob", Topics: topics("b")})); n != 2 {
			t.Errorf("bob has %d sessions", n)
		}
		wantOnly(pub, renamed, "b", "m")
		// Nobody of that name is there yet.
		later := make(chan behalf.Answer, 10)
		r := behalf.Request{
			Username: "carol", Topics: topics("c"), Wait: time.Minute, Later: func(a behalf.Answer) { later <- a },
		}
		x.wantAnswer(x.ask(r), "0 c=pending")
		for i := range 3 {
			c := x.connect(fmt.Sprint("c", i), codec.V5, user("carol"))
			wantOnly(pub, c, "c", "m")
			if a := <-later; a.ClientID != fmt.Sprint("c", i) || answerWords(a) != "0 c=new" {
				t.Errorf("later %+v", a)
			}
			c.Disconnect()
		}
		r.Username = "dave"
		x.ask(r)
		x.advance(61)
		x.wantAnswer(<-later, "146 c=absent/128")
		select {
		case a := <-later:
			t.Errorf("told again: %+v", a)
		default:
		}
	})
}

func TestRevisionPrecondition(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.connect("c", codec.V5, nil)
		a := x.ask(behalf.Request{ClientID: "c", Topics: topics("a")})
		b := x.ask(behalf.Request{ClientID: "c", Topics: topics("b"), IfRevision: &a.Revision})
		x.wantAnswer(b, "0 b=new")
		if b.Revision <= a.Revision {
			t.Errorf("revisions %d, %d", a.Revision, b.Revision)
		}
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("c"), IfRevision: &a.Revision}), "128")
		if again := x.ask(behalf.Request{ClientID: "c", Topics: topics("b")}); again.Revision != b.Revision {
			t.Error("a request that changes nothing has a new revision")
		}
	})
}

func TestLimitsOnBehalf(t *testing.T) {
	limits := func(o *broker.Options, l *broker.ListenerOptions) { o.MaxSubscriptions, l.MaxQoS = 4, 1 }
	onEach(t, limits, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		c.Subscribe("own", 0)
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("a:2", "b")}), "0 a=new/1 b=new")
		x.wantAnswer(x.ask(behalf.Request{ClientID: "c", Topics: topics("b", "c", "d")}),
			"0 b=existing c=new d=absent/151")
		if r := c.Subscribe("more", 0); r != codec.QuotaExceeded {
			t.Errorf("SUBACK %s", r)
		}
	})
}

func TestOriginsOfOneSessionAreBounded(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.connect("c", codec.V5, nil)
		for i := range 40 {
			a := x.ask(behalf.Request{ClientID: "c", Origin: origin(fmt.Sprint("o", i)), Topics: topics("a")})
			if (i >= 32) != (a.Code == behalf.TooMuch) {
				t.Errorf("origin %d: %s", i, a.Code)
			}
		}
	})
}

func TestSharedOnBehalf_MQTT_4_8_2_4(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		a, b := x.connect("a", codec.V5, nil), x.connect("b", codec.V5, nil)
		for _, id := range []string{"a", "b"} {
			x.wantAnswer(x.ask(behalf.Request{ClientID: id, Topics: topics("$share/g/s", "x")}), "0 $share/g/s=new x=new")
		}
		count := func() (int, int) {
			t.Helper()
			for i := range 10 {
				pub.Publish("s", fmt.Sprint(i), 1, 1)
				pub.Want(codec.PUBACK, nil)
			}
			brokertest.Settle(t, x.b)
			return received(t, a), received(t, b)
		}
		if n, m := count(); n != 5 || m != 5 {
			t.Errorf("%d and %d of 10", n, m)
		}
		// Subscribed by itself as well, it is one member.
		if r := a.Subscribe("$share/g/s", 0); r != 0 {
			t.Fatal(r)
		}
		if n, m := count(); n != 5 || m != 5 {
			t.Errorf("%d and %d of 10", n, m)
		}
		x.ask(behalf.Request{ClientID: "b", Action: im.Unsubscribe, Topics: topics("$share/g/s")})
		if n, m := count(); n != 10 || m != 0 {
			t.Errorf("%d and %d of 10", n, m)
		}
		if m := brokertest.Settle(t, x.b); m.SharedSubscriptions != 1 {
			t.Errorf("%d shared subscriptions", m.SharedSubscriptions)
		}
	})
}

// received counts what has come before the answer to a ping.
func received(t *testing.T, c *brokertest.Client) int {
	t.Helper()
	c.Raw(codec.AppendPingreq(nil))
	for n := 0; ; n++ {
		h, _, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Type == codec.PINGRESP {
			return n
		}
	}
}

func TestNoLocalAndIdentifierOnBehalf_MQTT_3_8_3_3(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		pub := x.connect("pub", codec.V5, nil)
		x.ask(behalf.Request{ClientID: "c", Topics: behalf.NewSet([]behalf.Topic{
			{Filter: "a", NoLocal: true, ID: 7, RetainAsPublished: true},
		})})
		c.Publish("a", "mine", 0, 0)
		c.WantNothing()
		pub.Send(&codec.Publish{Topic: []byte("a"), Payload: []byte("m"), Retain: true})
		p := c.WantPublish("a", "m")
		if id, _ := p.Properties.Uint(codec.SubscriptionIdentifier); id != 7 || !p.Retain {
			t.Errorf("identifier %d, RETAIN %v", id, p.Retain)
		}
	})
}

// TestTenThousandTopics subscribes one client to them, in one request and then one by one more.
func TestTenThousandTopics(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V311, nil)
		pub := x.connect("pub", codec.V5, nil)
		var list []string
		for i := range 10000 {
			list = append(list, fmt.Sprintf("/e/e1/im/g/%d", i))
		}
		a := x.ask(behalf.Request{ClientID: "c", Topics: topics(list...)})
		if len(a.Results) != 10000 || a.Results[9999].State != im.New {
			t.Fatalf("%d results", len(a.Results))
		}
		for i := range 10 {
			x.ask(behalf.Request{ClientID: "c", Topics: topics(fmt.Sprint("more/", i))})
		}
		wantOnly(pub, c, "/e/e1/im/g/0", "m")
		wantOnly(pub, c, "/e/e1/im/g/9999", "m")
		wantOnly(pub, c, "more/9", "m")
		a = x.ask(behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics(list[:5000]...)})
		if len(a.Results) != 10010 {
			t.Errorf("%d results", len(a.Results))
		}
		wantOnly(pub, c, "/e/e1/im/g/9999")
		c.Disconnect()
		brokertest.Until(t, x.b, "the end of all sets", func(m *broker.Metrics) bool { return m.Sets == 0 && m.Subscriptions == 0 })
	})
}
