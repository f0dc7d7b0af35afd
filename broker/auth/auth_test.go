package auth

import (
	"testing"

	"noctule/broker/auth/hash"
)

// says is an Authenticator, an Authorizer and Rules that always say the same.
type says struct {
	v      Verdict
	covers bool
}

func (s says) Authenticate(*Login) Verdict      { return s.v }
func (s says) Rules(string, string, bool) Rules { return s }
func (s says) Check(Access, []byte) Verdict     { return s.v }
func (s says) Covers([]byte) bool               { return s.covers }
func (none) Rules(string, string, bool) Rules   { return nil }
func authenticators(vs ...Verdict) (out []Authenticator) {
	for _, v := range vs {
		out = append(out, says{v: v})
	}
	return out
}

type none struct{}

// TestDecisionOrder is the order in which Mosquitto decides.
func TestDecisionOrder(t *testing.T) {
	for _, c := range []struct {
		asked            []Verdict
		named, anonymous bool // the login has a username; AllowAnonymous
		want             bool
	}{
		{nil, false, false, false},
		{nil, false, true, true},
		{nil, true, false, false},
		{nil, true, true, true}, // no back end: any username and password
		{[]Verdict{Ignore}, true, true, true},
		{[]Verdict{Ignore}, true, false, false},
		{[]Verdict{Defer}, true, true, false}, // somebody is responsible, nobody said yes
		{[]Verdict{Defer}, false, true, true},
		{[]Verdict{Defer}, false, false, false},
		{[]Verdict{Ignore, Defer}, true, true, false},
		{[]Verdict{Defer, Ignore}, true, true, false},
		{[]Verdict{Allow}, true, false, true},
		{[]Verdict{Defer, Allow}, true, false, true},
		{[]Verdict{Deny, Allow}, true, true, false}, // the first definite answer wins
		{[]Verdict{Allow, Deny}, true, true, true},
		{[]Verdict{Ignore, Deny}, false, true, false},
	} {
		p := &Policy{AllowAnonymous: c.anonymous, Authenticators: authenticators(c.asked...)}
		if got := p.Authenticate(&Login{HasUsername: c.named}); got != c.want {
			t.Errorf("%v, username %v, anonymous %v: %v", c.asked, c.named, c.anonymous, got)
		}
		if !p.Authenticate(&Login{HasUsername: true, Identified: true}) {
			t.Errorf("%v: an identified client is asked for a password", c.asked)
		}
	}
}

func TestPermissionsOfFirst(t *testing.T) {
	for _, c := range []struct {
		asked []Verdict
		want  bool
	}{
		{[]Verdict{Ignore}, true},
		{[]Verdict{Defer}, false},
		{[]Verdict{Defer, Ignore}, false},
		{[]Verdict{Ignore, Defer}, false},
		{[]Verdict{Ignore, Allow}, true},
		{[]Verdict{Defer, Allow}, true},
		{[]Verdict{Ignore, Deny, Allow}, false},
		{[]Verdict{Allow, Deny}, true},
		{[]Verdict{Deny, Allow}, false},
	} {
		p := &Policy{Authorizers: []Authorizer{none{}}, Combine: First}
		for _, v := range c.asked {
			p.Authorizers = append(p.Authorizers, says{v: v})
		}
		if got := p.Permissions("c", "u", true).Allows(Read, []byte("a")); got != c.want {
			t.Errorf("%v: %v", c.asked, got)
		}
	}
	var all *Permissions
	if !all.Allows(Write, []byte("a")) || !all.Covers([]byte("#")) {
		t.Error("no rules restrict")
	}
	if p := (&Policy{Authorizers: []Authorizer{none{}}}).Permissions("c", "", false); p != nil {
		t.Error("rules that nobody has restrict")
	}
	if (&Policy{Authorizers: []Authorizer{says{v: Defer, covers: false}}}).Permissions("c", "", false).
		Covers([]byte("a")) {
		t.Error("covered by nobody")
	}
}

func TestSlowOnlyWhereSomethingIsHashed(t *testing.T) {
	file := writeFile(t, "u:"+mustHash(t, hash.SHA512, "p", 0))
	passwords, err := LoadPasswords(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &Policy{Authenticators: []Authenticator{passwords}}
	full := Login{Username: "u", HasUsername: true, HasPassword: true, Password: []byte("p")}
	known := full
	known.Identified = true
	for _, c := range []struct {
		l    Login
		want bool
	}{
		{full, true}, {known, false}, {Login{}, false}, {Login{Username: "u", HasUsername: true}, false},
	} {
		if got := p.Slow(&c.l); got != c.want {
			t.Errorf("%+v: slow %v", c.l, got)
		}
	}
	p.Authenticators = authenticators(Ignore) // it does not say
	if !p.Slow(&Login{}) || (&Policy{}).Slow(&full) {
		t.Error("unknown authenticators are slow, none is not")
	}
}
