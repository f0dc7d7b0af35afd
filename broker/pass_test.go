package broker_test

import (
	"context"
	"fmt"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/codec"
)

// registry is a source of logins that knows what its passes say, by CONNECT's username.
type registry map[string]*auth.Pass

func (registry) Authenticate(*auth.Login) auth.Verdict { return auth.Deny }

func (r registry) Admit(_ context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	p, ok := r[l.Username]
	switch {
	case l.Username == "down":
		return auth.Ask, nil
	case !ok:
		return auth.Defer, nil
	}
	return auth.Allow, p
}

func (r registry) Keeps(s *auth.Stay, _ string) bool { return r != nil && s.Source != "lost" }

// rulesOf are the rules of lines.
func rulesOf(t testing.TB, lines ...string) auth.Rules {
	t.Helper()
	var list []auth.Rule
	for _, line := range lines {
		r, err := auth.ParseRule(line)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	r, err := auth.NewRules(list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// from puts sources of logins into a listener's options.
func from(sources ...auth.Authenticator) changeFunc {
	return func(_ *broker.Options, l *broker.ListenerOptions) { l.Policy = &auth.Policy{Authenticators: sources} }
}

// What a pass says takes the place of what CONNECT says: the session is that of its client id, on its own loop, and of
// its username; its rules are held against each topic, beside those that there are; password files and sources
// that cannot tell are asked in their order.
func TestPass(t *testing.T) {
	reg := registry{
		"plain": nil,
		"ruled": {Rules: rulesOf(t, "read in/#", "write out/#")},
		"named": {Username: "ann", HasUsername: true},
	}
	for i := range 8 {
		reg[fmt.Sprint("id", i)] = &auth.Pass{ClientID: fmt.Sprint("given", i), Username: "u", HasUsername: true}
	}
	reg["lost"] = &auth.Pass{Source: "lost"}
	file := passwordsOf(t, "file pw")
	onEach(t, from(file, reg), func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			for user, want := range map[string]codec.Reason{
				"plain": codec.Success, "down": refusedAs(v, 3, codec.ServerUnavailable),
				"nobody": refusedAs(v, 5, codec.NotAuthorized),
			} {
				if got := x.connack("c", v, withPassword(user, "x")); got != want {
					t.Errorf("MQTT %d, %s: %s", v, user, got)
				}
			}
			if got := x.connack("f", v, withPassword("file", "pw")); got != codec.Success {
				t.Errorf("a user of the file: %s", got)
			}
			for i := range 8 { // the session's loop is that of the client id which it gets
				first := x.connect(fmt.Sprint("one", i), v, as(fmt.Sprint("id", i)))
				second := x.connect(fmt.Sprint("two", i), v, as(fmt.Sprint("id", i)))
				if v == codec.V5 {
					wantDisconnect(t, first, codec.SessionTakenOver)
				} else {
					first.WantClosed()
				}
				d, ok, err := x.b.Find(t.Context(), fmt.Sprint("given", i))
				if !ok || err != nil || d.Username != "u" {
					t.Errorf("%+v, %v", d, err)
				}
				second.Disconnect()
			}
		}
		c := x.connect("r", codec.V5, as("ruled"))
		if r := c.Subscribe("in/#", 1); r != 1 {
			t.Errorf("SUBACK %s", r)
		}
		for topic, want := range map[string]codec.Reason{"out/x": codec.Success, "in/x": codec.NotAuthorized} {
			c.Publish(topic, "p", 1, 9)
			var ack codec.Ack
			c.Want(codec.PUBACK, &ack)
			if ack.Reason&^codec.NoMatchingSubscribers != want&^codec.NoMatchingSubscribers {
				t.Errorf("%s: %s", topic, ack.Reason)
			}
		}
		free := x.connect("free", codec.V5, as("plain"))
		free.Publish("in/x", "hello", 0, 0)
		c.WantPublish("in/x", "hello")
	})
}

// After a reload who came with a pass stays if what is there then keeps it, with the pass's rules.
func TestPassAfterReload(t *testing.T) {
	reg := registry{"ruled": {Rules: rulesOf(t, "read in/#")}, "lost": {Source: "lost"}}
	x := newFixture(t, from(reg))
	c, lost := x.connect("c", codec.V5, as("ruled")), x.connect("lost", codec.V5, as("lost"))
	c.Subscribe("#", 0)
	l := *x.addr.Options()
	next := *l.Policy
	l.Policy = &next
	if err := x.b.Reload(t.Context(), broker.DefaultOptions(), map[*broker.Listener]broker.ListenerOptions{x.addr: l}); err != nil {
		t.Fatal(err)
	}
	wantDisconnect(t, lost, codec.NotAuthorized)
	other := x.connect("other", codec.V5, as("ruled"))
	other.Publish("in/y", "no", 1, 1)
	var ack codec.Ack
	if other.Want(codec.PUBACK, &ack); ack.Reason != codec.NotAuthorized {
		t.Errorf("%s", ack.Reason)
	}
	l.Policy = &auth.Policy{AllowAnonymous: true}
	if err := x.b.Reload(t.Context(), broker.DefaultOptions(), map[*broker.Listener]broker.ListenerOptions{x.addr: l}); err != nil {
		t.Fatal(err)
	}
	wantDisconnect(t, c, codec.NotAuthorized)
	wantDisconnect(t, other, codec.NotAuthorized)
}
