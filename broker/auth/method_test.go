package auth

import (
	"context"
	"testing"
	"time"

	"noctule/codec"
)

// echo is a method that challenges a number of times.
type echo struct{ challenges int }

func (e echo) Name() string { return "echo" }

func (e echo) Begin(ctx context.Context, l *Login, data []byte) (Exchange, Step) {
	x := &echoing{left: e.challenges, user: l.Username}
	return x, x.Continue(ctx, data)
}

type echoing struct {
	left int
	user string
}

func (x *echoing) Continue(_ context.Context, data []byte) Step {
	if x.left--; x.left >= 0 {
		return Step{Data: data}
	}
	return Step{Pass: &Pass{Username: x.user, HasUsername: true, Expires: time.Unix(1, 0)}}
}

// mute challenges and has no exchange.
type mute struct{}

func (mute) Name() string                                           { return "mute" }
func (mute) Begin(context.Context, *Login, []byte) (Exchange, Step) { return nil, Step{} }

// The contract of an exchange, for those who hold connections: by name, bounded, one outcome.
func TestMethods(t *testing.T) {
	l := &Login{Username: "u", HasUsername: true}
	m := Methods{"echo": echo{2}, "now": echo{0}, "long": echo{100}, "mute": mute{}}
	x, s := m.Begin(t.Context(), "echo", l, []byte("a"))
	if !s.Challenge() || string(s.Data) != "a" {
		t.Fatalf("%+v", s)
	}
	if s = x.Continue(t.Context(), []byte("b")); !s.Challenge() {
		t.Errorf("%+v", s)
	}
	if s = x.Continue(t.Context(), nil); s.Pass == nil || s.Challenge() || !s.Pass.Renews("c", "u", true) ||
		s.Pass.Renews("c", "v", true) || s.Pass.Renews("c", "u", false) {
		t.Errorf("%+v", s)
	}
	if s = x.Continue(t.Context(), nil); s.Refused != codec.NotAuthorized {
		t.Errorf("it goes on after its end: %+v", s)
	}
	if x, s = m.Begin(t.Context(), "now", l, nil); x != nil || s.Pass == nil {
		t.Errorf("%+v", s)
	}
	if x, s = m.Begin(t.Context(), "mute", l, nil); x != nil || s.Refused != codec.NotAuthorized {
		t.Errorf("%+v", s)
	}
	for _, none := range []Methods{nil, m} { // [MQTT-4.12.0-1]
		if x, s = none.Begin(t.Context(), "none", l, nil); x != nil || s.Refused != codec.BadAuthenticationMethod || s.Why == "" {
			t.Errorf("%+v", s)
		}
	}
	x, s = m.Begin(t.Context(), "long", l, nil)
	steps := 1
	for ; s.Challenge(); steps++ {
		s = x.Continue(t.Context(), nil)
	}
	if s.Refused != codec.NotAuthorized || steps != exchangeSteps+1 {
		t.Errorf("%+v after %d steps", s, steps)
	}
	if p := (&Pass{ClientID: "c"}); !p.Renews("c", "", false) || p.Renews("d", "", false) {
		t.Error("another client id renews")
	}
}
