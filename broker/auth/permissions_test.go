package auth

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
)

// opinion is Rules with a verdict for each topic, and what they say when they are asked. It covers a filter
// if it allows all topics, unless it does not care to say so.
type opinion struct {
	at, later map[string]Verdict
	shy       bool
	asked     *int
}

func (o opinion) Rules(string, string, bool) Rules     { return o }
func (o opinion) Check(_ Access, topic []byte) Verdict { return o.at[string(topic)] }
func (o opinion) Ask(_ context.Context, _ Access, topic []byte) Verdict {
	*o.asked++
	return o.later[string(topic)]
}

func (o opinion) Covers([]byte) bool {
	for _, v := range o.at {
		if v != Allow {
			return false
		}
	}
	return !o.shy
}

// combined is the definition: every source has to grant it, or the first that has an opinion decides. A
// verdict is Ask where it depends on one, as far as nobody has been asked.
func combined(c Combine, list []opinion, topic string) Verdict {
	granted, deferred, asks := false, false, false
	for _, o := range list {
		switch v := o.at[topic]; v {
		case Deny:
			return Deny
		case Allow, Ask:
			if c == First {
				return v
			}
			granted, asks = granted || v == Allow, asks || v == Ask
		case Defer:
			deferred = true
		}
	}
	switch {
	case asks:
		return Ask
	case granted:
		return Allow
	case deferred:
		return Deny
	}
	return Allow // nobody has an opinion
}

// answered puts what is said later in the place of what was asked, in order, up to where it is decided; ok is
// false if somebody did not answer who had to.
func answered(c Combine, list []opinion, topic string) (out []opinion, ok bool) {
	for _, o := range list {
		v := o.at[topic]
		if v == Ask {
			if v = o.later[topic]; v != Allow && v != Deny {
				return nil, false
			}
		}
		out = append(out, opinion{at: map[string]Verdict{topic: v}})
		if v == Deny || c == First && v == Allow {
			break
		}
	}
	return out, true
}

// TestCombine holds permissions of random sources against the definition.
func TestCombine(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	topics := strings.Fields("a b c d")
	for range 20000 {
		c := Combine(r.IntN(2))
		p := &Policy{Combine: c}
		asked := 0
		var list []opinion
		for range 1 + r.IntN(4) {
			o := opinion{at: map[string]Verdict{}, later: map[string]Verdict{}, shy: r.IntN(4) == 0, asked: &asked}
			all := r.IntN(3) == 0
			for _, topic := range topics {
				if o.at[topic] = Verdict(r.IntN(5)); all {
					o.at[topic] = Allow
				}
				o.later[topic] = Verdict(r.IntN(5))
			}
			list = append(list, o)
			p.Authorizers = append(p.Authorizers, o)
			if r.IntN(5) == 0 {
				p.Authorizers = append(p.Authorizers, none{})
			}
		}
		x := p.Permissions("c", "u", true)
		covers := x.Covers([]byte("+"))
		for _, topic := range topics {
			want := combined(c, list, topic)
			if got := x.Allows(Read, []byte(topic)); got != (want == Allow) {
				t.Fatalf("seed %d: %v of %+v: allows %t, want %s", seed, c, list, got, want)
			}
			if got := x.Open(Read, []byte(topic)); got != (want == Ask) {
				t.Fatalf("seed %d: %v of %+v: open %t, want %s", seed, c, list, got, want)
			}
			if covers && want != Allow {
				t.Fatalf("seed %d: %v of %+v: covered, %s is %s", seed, c, list, topic, want)
			}
			asked = 0
			allowed, ok := x.Resolve(t.Context(), Read, []byte(topic))
			wantOK := true
			if want == Ask {
				var later []opinion
				if later, wantOK = answered(c, list, topic); wantOK {
					want = combined(c, later, topic)
				}
			} else if asked != 0 {
				t.Fatalf("seed %d: %v of %+v: asked about %s, which is %s", seed, c, list, topic, want)
			}
			if ok != wantOK || allowed != (wantOK && want == Allow) {
				t.Fatalf("seed %d: %v of %+v: %s resolves to %t %t, want %s %t", seed, c, list, topic, allowed, ok, want, wantOK)
			}
		}
	}
}

// One more source never gives a right that was not there, by Every: an acl_file cannot be switched off by a
// second source.
func TestMoreSourcesNeverGiveMore(t *testing.T) {
	acl := loadACL(t, "user u", "topic read a/#")
	for _, v := range []Verdict{Ignore, Defer, Deny, Allow, Ask} {
		for _, list := range [][]Authorizer{{acl, says{v: v, covers: true}}, {says{v: v, covers: true}, acl}} {
			p := (&Policy{Authorizers: list}).Permissions("c", "u", true)
			if p.Allows(Read, []byte("b")) || p.Covers([]byte("b")) || p.Allows(Write, []byte("a/x")) {
				t.Errorf("a source that says %s gives what the file does not", v)
			}
			if got := p.Allows(Read, []byte("a/x")); got != (v == Allow || v == Ignore || v == Defer) {
				t.Errorf("a source that says %s: a/x %t", v, got)
			}
		}
	}
	first := (&Policy{Authorizers: []Authorizer{says{v: Allow, covers: true}, acl}, Combine: First}).Permissions("c", "u", true)
	if !first.Allows(Read, []byte("b")) || !first.Covers([]byte("b")) {
		t.Error("by First the first does not decide")
	}
}

// The first source that knows a user decides about its password; one that no source knows is refused,
// whatever allow_anonymous says.
func TestFirstThatKnowsTheUser(t *testing.T) {
	load := func(line string) *Passwords {
		p, err := LoadPasswords(writeFile(t, line))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := &Policy{AllowAnonymous: true, Authenticators: []Authenticator{load("a:" + made16 + "\nboth:" + made20), load("b:" + made16 + "\nboth:" + made16)}}
	for _, c := range []struct {
		user, password string
		want           bool
	}{
		{"a", "p", true}, {"b", "p", true}, {"a", "x", false}, {"b", "", false}, {"both", "x", true}, {"both", "p", false}, {"c", "p", false},
	} {
		l := &Login{Username: c.user, HasUsername: true, Password: []byte(c.password), HasPassword: true}
		if got := p.Authenticate(l); got != c.want {
			t.Errorf("%s with %q: %t", c.user, c.password, got)
		}
	}
	if !p.Authenticate(&Login{}) {
		t.Error("no username is let in")
	}
}
