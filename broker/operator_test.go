package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// whole reads a cursor to its end, a few items at a time.
func whole[T any](t *testing.T, c *broker.Cursor[T]) (list []T) {
	t.Helper()
	for {
		page, err := c.Next(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return list
		}
		if len(page) > 7 {
			t.Errorf("%d items on a page", len(page))
		}
		list = append(list, page...)
	}
}

// TestClientsByPages: each session once, connected or not, on whatever loop.
func TestClientsByPages(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var want []string
		for i := range 40 {
			c := x.connect(fmt.Sprintf("c%02d", i), codec.V5, with(expiry(1000)))
			if i%2 == 0 {
				c.Hangup()
			}
			want = append(want, fmt.Sprintf("c%02d", i))
		}
		brokertest.Settle(t, x.b)
		var got []string
		for _, c := range whole(t, x.b.Clients(nil)) {
			got = append(got, c.ID)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		on := whole(t, x.b.Clients(func(c *broker.Client) bool { return c.Connected }))
		if len(on) != 20 {
			t.Errorf("%d are connected", len(on))
		}
	})
}

// TestClientsOfUsers: the sessions of some users are those that a walk over all finds, with the index and without one,
// also after sessions have ended or have become another user's.
func TestClientsOfUsers(t *testing.T) {
	for _, index := range []bool{false, true} {
		change := func(o *broker.Options, _ *broker.ListenerOptions) { o.RequestsByUsername = index }
		onEach(t, change, func(t *testing.T, x *fixture) {
			login := func(id, name string, sort connectFunc) *brokertest.Client {
				return x.connect(id, codec.V5, both(sort, func(p *codec.Connect) {
					p.HasUsername, p.Username = name != "", []byte(name)
				}))
			}
			users := []string{"", "joe", "ann", "sue"}
			for i := range 60 {
				login(fmt.Sprintf("c%02d", i), users[i%4], with(expiry(1000)))
			}
			for i := range 10 {
				login(fmt.Sprintf("c%02d", i), users[(i+1)%4], with(expiry(1000)))
				login(fmt.Sprintf("c%02d", i+10), "joe", with()).Disconnect() // and its session ends
			}
			brokertest.Settle(t, x.b)
			for _, of := range [][]string{{"joe"}, {"ann", "joe", "ann"}, {"nobody"}, {""}, {"", "sue"}, nil} {
				var got, want []string
				for _, c := range whole(t, x.b.ClientsOf(of, nil)) {
					got = append(got, c.ID+" "+c.Username)
				}
				for _, c := range whole(t, x.b.Clients(func(c *broker.Client) bool { return slices.Contains(of, c.Username) })) {
					want = append(want, c.ID+" "+c.Username)
				}
				slices.Sort(got)
				if slices.Sort(want); !slices.Equal(got, want) {
					t.Errorf("index %v, of %q: %q, want %q", index, of, got, want)
				}
			}
			if n := len(whole(t, x.b.ClientsOf([]string{"sue"}, func(c *broker.Client) bool { return c.ID > "c40" }))); n == 0 || n > 6 {
				t.Errorf("%d of those wanted", n)
			}
		})
	}
}

// TestClientInDetail: what Find tells while a client is there, and after.
func TestClientInDetail(t *testing.T) {
	x := newFixture(t, nil)
	c := x.connect("c", codec.V5, both(with(expiry(60)), func(p *codec.Connect) {
		p.HasUsername, p.Username, p.KeepAlive = true, []byte("joe"), 30
		willOf(5, 60)(p)
	}))
	c.SubscribeWith(codec.Filter{Name: []byte("a/+"), QoS: 1, NoLocal: true}, props(uintProp(codec.SubscriptionIdentifier, 9)))
	c.Subscribe("$share/g/b", 2)
	got, ok, err := x.b.Find(t.Context(), "c")
	want := broker.Client{
		ID: "c", Username: "joe", Connected: true, Listener: "pipe", Version: codec.V5, KeepAlive: 30 * time.Second,
		Will: true, Expiry: time.Minute, Subscriptions: 2,
	}
	want.Stored = got.Stored // as the run's store is
	if got != want || !ok || err != nil {
		t.Errorf("%+v\nwant %+v, %v %v", got, want, ok, err)
	}
	subs := whole(t, x.b.Subscriptions("c"))
	if !slices.Equal(subs, []broker.Subscription{
		{Filter: "a/+", QoS: 1, NoLocal: true, Identifier: 9}, {Filter: "$share/g/b", QoS: 2},
	}) {
		t.Errorf("%+v", subs)
	}
	c.Hangup()
	x.advance(10)
	x.publication(broker.Publication{Topic: "a/x", Payload: []byte("12345"), QoS: 1})
	got, _, _ = x.b.Find(t.Context(), "c")
	if got.Connected || got.Queued != 1 || got.QueuedBytes != 5 || got.OfflineSince.IsZero() || got.Listener != "" {
		t.Errorf("%+v", got)
	}
	if _, ok, err := x.b.Find(t.Context(), "nobody"); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	if subs := whole(t, x.b.Subscriptions("nobody")); len(subs) != 0 {
		t.Errorf("%+v", subs)
	}
}

// TestDisconnectByOperator: with a reason for who can hear it, with the will or without, and what is no reason.
func TestDisconnectByOperator(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		watch := x.connect("watch", codec.V5, nil)
		watch.Subscribe("w/#", 0)
		for i, will := range []bool{true, false} {
			c := x.connect(fmt.Sprint(i), codec.V5, willOf(0, 0))
			ok, err := x.b.Disconnect(t.Context(), fmt.Sprint(i), codec.AdministrativeAction, will)
			if !ok || err != nil {
				t.Errorf("%v %v", ok, err)
			}
			wantDisconnect(t, c, codec.AdministrativeAction) // [MQTT-3.1.2-8]
			if will {
				watch.WantPublish("w/"+fmt.Sprint(i), "gone")
			}
			watch.WantNothing() // [MQTT-3.1.2-10]
		}
		old := x.connect("old", codec.V311, nil)
		if ok, _ := x.b.Disconnect(t.Context(), "old", codec.ServerMoved, false); !ok {
			t.Error("it was not there")
		}
		old.WantClosed()
		if ok, err := x.b.Disconnect(t.Context(), "old", codec.AdministrativeAction, false); ok || err != nil {
			t.Errorf("twice: %v %v", ok, err)
		}
		for _, r := range []codec.Reason{codec.DisconnectWithWill, codec.ContinueAuthentication, 0x42} {
			if _, err := x.b.Disconnect(t.Context(), "watch", r, false); !errors.Is(err, broker.ErrReason) {
				t.Errorf("0x%02x: %v", byte(r), err)
			}
		}
		if m := brokertest.Settle(t, x.b); m.Disconnects[broker.EndAdministrative] != 3 {
			t.Errorf("counted %v", m.Disconnects)
		}
	})
}

// changing is an Authorizer whose rules are changed under the broker.
type changing struct{ acl *auth.ACL }

func (c *changing) Rules(clientID, username string, named bool) auth.Rules {
	return c.acl.Rules(clientID, username, named)
}

// TestRecheckOfSome: what has changed counts for those who are looked at again, and for them only.
func TestRecheckOfSome(t *testing.T) {
	policy := &changing{acl: aclOf(t, "topic readwrite #")}
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Loops = 2
		l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{policy}}
	})
	a, b := x.connect("a", codec.V5, nil), x.connect("b", codec.V5, nil)
	for _, c := range []*brokertest.Client{a, b} {
		c.Subscribe("secret", 0)
	}
	policy.acl = aclOf(t, "topic write #") // the loops read it in Recheck, and for who connects
	err := x.b.Recheck(t.Context(), func(c *broker.Client) bool { return c.ID == "a" })
	if err != nil {
		t.Fatal(err)
	}
	x.publication(broker.Publication{Topic: "secret"})
	b.WantPublish("secret", "")
	a.WantNothing()
	if err := x.b.Recheck(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	x.publication(broker.Publication{Topic: "secret"})
	b.WantNothing()
}

// TestRetainedAndSharesByPages: each once, without those that have expired.
func TestRetainedAndSharesByPages(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var topics []string
		for i := range 30 {
			topics = append(topics, fmt.Sprintf("r/%02d", i))
			x.publication(broker.Publication{Topic: topics[i], Payload: []byte("x"), QoS: 1, Retain: true})
		}
		x.publication(broker.Publication{Topic: "r/late", Payload: []byte("x"), Retain: true, Expiry: time.Second})
		x.publication(broker.Publication{Topic: "other", Payload: []byte("x"), Retain: true, Expiry: time.Hour})
		x.clock.Pass(t, x.b, 2*time.Second)
		list := func(filter string) (got []broker.Retained) {
			c, err := x.b.Retained(filter)
			if err != nil {
				t.Fatal(err)
			}
			return whole(t, c)
		}
		var got []string
		for _, m := range list("r/#") {
			got = append(got, m.Topic)
		}
		if slices.Sort(got); !slices.Equal(got, topics) {
			t.Errorf("%q", got)
		}
		if o := list("other"); len(o) != 1 || o[0].Expires.IsZero() || string(o[0].Payload) != "x" {
			t.Errorf("%+v", o)
		}
		for _, bad := range []string{"a/#/b", "$share/g/a"} {
			if _, err := x.b.Retained(bad); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
		want := []broker.Share{}
		for i := range 12 {
			c := x.connect(fmt.Sprint(i), codec.V5, nil)
			c.Subscribe("$share/all/t", 0)
			c.Subscribe(fmt.Sprintf("$share/g%02d/t/+", i), 0)
			want = append(want, broker.Share{Group: fmt.Sprintf("g%02d", i), Filter: "t/+", Members: 1})
		}
		brokertest.Settle(t, x.b)
		shares := whole(t, x.b.Shares())
		slices.SortFunc(shares, func(a, b broker.Share) int { return slices.Compare([]byte(a.Group), []byte(b.Group)) })
		if !slices.Equal(shares, append([]broker.Share{{Group: "all", Filter: "t", Members: 12}}, want...)) {
			t.Errorf("%+v", shares)
		}
		if m := whole(t, x.b.ShareMembers("all", "t")); len(m) != 12 || len(slices.Compact(m)) != 12 {
			t.Errorf("%q", m)
		}
		if m := whole(t, x.b.ShareMembers("none", "t")); len(m) != 0 {
			t.Errorf("%q", m)
		}
	})
}

// TestCursorsAreBounded: one that is forgotten gives way, is told, and holds nothing up.
func TestCursorsAreBounded(t *testing.T) {
	x := newFixture(t, nil)
	for i := range 20 {
		x.connect(fmt.Sprint(i), codec.V311, nil)
	}
	first := x.b.Clients(nil)
	if page, err := first.Next(t.Context(), 3); len(page) != 3 || err != nil {
		t.Fatalf("%d items, %v", len(page), err)
	}
	var rest []*broker.Cursor[broker.Client]
	for range 64 {
		rest = append(rest, x.b.Clients(nil))
	}
	if _, err := first.Next(t.Context(), 3); !errors.Is(err, broker.ErrCursor) {
		t.Errorf("the oldest goes on: %v", err)
	}
	if n := len(whole(t, rest[0])); n != 20 {
		t.Errorf("%d items", n)
	}
	if page, err := rest[0].Next(t.Context(), 1); len(page) != 0 || err != nil {
		t.Errorf("behind its end: %v %v", page, err)
	}
	rest[1].Close()
	if _, err := rest[1].Next(t.Context(), 1); !errors.Is(err, broker.ErrCursor) {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range rest[2:6] { // some wait has ended, or the loop was faster
		_, _ = c.Next(gone, 1)
		c.Close()
	}
	if err := x.b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := rest[10].Next(t.Context(), 1); err == nil {
		t.Error("a broker that has ended answers")
	}
}

// TestWatch: what happens to a client, in order; who does not read loses events and hears how many.
func TestWatch(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		w, small := x.b.Watch(100), x.b.Watch(1)
		c := x.connect("c", codec.V5, nil)
		c.Subscribe("a", 1)
		c.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("a"), []byte("none")}})
		c.Want(codec.UNSUBACK, nil)
		c.Disconnect()
		brokertest.Settle(t, x.b)
		var got []string
		for len(w.Events()) > 0 {
			e := <-w.Events()
			if e.Client.ID != "c" || e.At.IsZero() || e.Lost != 0 || !e.Client.Connected {
				t.Errorf("%+v", e)
			}
			got = append(got, fmt.Sprintf("%s %s %d %s", e.Kind, e.Filter, e.QoS, e.Reason))
		}
		want := []string{"connected  0 client", "subscribed a 1 client", "unsubscribed a 0 client", "disconnected  0 client"}
		for i := range got {
			if i < len(want) && got[i] != want[i] {
				t.Errorf("%q, want %q", got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q", got)
		}
		if e := <-small.Events(); e.Kind != broker.EventConnected || e.Lost != 0 {
			t.Errorf("%+v", e)
		}
		x.connect("d", codec.V5, nil)
		brokertest.Settle(t, x.b)
		if e := <-small.Events(); e.Client.ID != "d" || e.Lost != 3 {
			t.Errorf("%+v", e)
		}
		w.Close()
		small.Close()
		for len(w.Events()) > 0 {
			<-w.Events()
		}
		x.connect("e", codec.V5, nil)
		brokertest.Settle(t, x.b)
		if len(w.Events()) > 0 {
			t.Error("it goes on after its end")
		}
	})
}
