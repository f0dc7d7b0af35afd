package auth

import (
	"context"
	"math"
	"testing"
	"time"

	"noctule/codec"
)

// giver is a PassSource that has a verdict and a pass, and keeps the user "kept".
type giver struct {
	v    Verdict
	pass *Pass
}

func (g giver) Authenticate(*Login) Verdict                            { return g.v }
func (g giver) Admit(context.Context, *Login) (Verdict, *Pass)         { return g.v, g.pass }
func (g giver) Keeps(s *Stay, username string) bool                    { return username == "kept" && s.Mark == 1 }
func (g giver) Name() string                                           { return "m" }
func (g giver) Begin(context.Context, *Login, []byte) (Exchange, Step) { return nil, Step{} }

// hasher is an Authenticator that hashes, and knows "ann".
type hasher struct{}

func (hasher) Authenticate(l *Login) Verdict {
	switch {
	case l.Username != "ann":
		return Defer
	case string(l.Password) == "right":
		return Allow
	}
	return Deny
}

func (hasher) Slow(*Login) bool { return true }

func TestAdmit(t *testing.T) {
	pass := &Pass{TokenID: "t"}
	yes, no, unknown, down := giver{Allow, pass}, giver{Deny, nil}, giver{Defer, nil}, giver{Ask, nil}
	for i, tt := range []struct {
		sources  []Authenticator
		user     string
		password string
		want     codec.Reason
		pass     bool
		failed   bool // the hashing one has told of a failure
	}{
		{[]Authenticator{yes, no}, "bob", "", codec.Success, true, false},
		{[]Authenticator{no, yes}, "bob", "", codec.NotAuthorized, false, false},
		{[]Authenticator{unknown, yes}, "bob", "", codec.Success, true, false},
		{[]Authenticator{unknown}, "bob", "", codec.NotAuthorized, false, false},
		{[]Authenticator{down, yes}, "bob", "", codec.ServerUnavailable, false, false},
		{[]Authenticator{hasher{}, down}, "ann", "right", codec.Success, false, false},
		{[]Authenticator{hasher{}, yes}, "ann", "wrong", codec.NotAuthorized, false, true},
		{[]Authenticator{hasher{}, yes}, "bob", "", codec.Success, true, false},
		{[]Authenticator{unknown, hasher{}}, "bob", "", codec.NotAuthorized, false, true},
		{[]Authenticator{verdictOnly(Ask), yes}, "bob", "", codec.NotAuthorized, false, true},
		{nil, "bob", "", codec.Success, false, false},
	} {
		p := &Policy{Authenticators: tt.sources, AllowAnonymous: tt.sources == nil}
		failed := false
		ctx := WithComputer(t.Context(), func(_ context.Context, _ *Login, work func() bool) codec.Reason {
			failed = work()
			return codec.Success
		})
		got, r := p.Admit(ctx, &Login{Username: tt.user, HasUsername: true, Password: []byte(tt.password)})
		if r != tt.want || (got != nil) != tt.pass || failed != tt.failed {
			t.Errorf("%d: %s, %v, failed %v", i, r, got, failed)
		}
		if tt.sources != nil && r != codec.ServerUnavailable { // and without somebody who hashes elsewhere
			if _, again := p.Admit(t.Context(), &Login{Username: tt.user, HasUsername: true, Password: []byte(tt.password)}); again != r {
				t.Errorf("%d: %s", i, again)
			}
		}
	}
	busy := WithComputer(t.Context(), func(context.Context, *Login, func() bool) codec.Reason { return codec.ServerBusy })
	if _, r := (&Policy{Authenticators: []Authenticator{hasher{}, yes}}).Admit(busy, &Login{}); r != codec.ServerBusy {
		t.Errorf("no place to hash: %s", r)
	}
	if _, r := (&Policy{Authenticators: []Authenticator{no}}).Admit(t.Context(), &Login{Identified: true}); r != codec.Success {
		t.Errorf("a certificate: %s", r)
	}
}

// verdictOnly is an Authenticator that is slow and no PassSource.
type verdictOnly Verdict

func (v verdictOnly) Authenticate(*Login) Verdict { return Verdict(v) }

// What outlives CONNECT: when it ends, who keeps it at a reload, and its rules, which are one source more.
func TestStay(t *testing.T) {
	end := time.UnixMilli(10_000)
	read, err := NewRules([]Rule{{Read, "a/#"}})
	if err != nil {
		t.Fatal(err)
	}
	pass := &Pass{Expires: end, TokenID: "t", Rules: read, Mark: 1, PreSubscribe: 1}
	s := pass.Stay("")
	if s.Left(9_999) != 1 || s.Left(10_000) != 0 || (*Stay)(nil).Left(0) != math.MaxInt64 || (&Stay{}).Left(0) != math.MaxInt64 {
		t.Errorf("%d", s.Left(9_999))
	}
	if (*Pass)(nil).Stay("") != nil || (&Pass{Expires: time.UnixMilli(0)}).Stay("").Left(5) > 0 {
		t.Error("an end in the past is none")
	}
	all := Rules(allOf{})
	policy := &Policy{Authenticators: []Authenticator{hasher{}, giver{}}, Authorizers: []Authorizer{rulesFor{all}}}
	r := Rights{Named: true, Stay: s}.Entitled(policy, "c", "kept")
	for topic, want := range map[string]bool{"a/b": true, "b": false} {
		if r.Permissions.Allows(Read, []byte(topic)) != want {
			t.Errorf("%s: %v", topic, !want)
		}
	}
	for _, tt := range []struct {
		p      *Policy
		user   string
		method string
		want   bool
	}{
		{policy, "kept", "", true},
		{policy, "other", "", false},
		{policy, "kept", "m", false},
		{nil, "kept", "", false},
		{&Policy{Authenticators: []Authenticator{hasher{}}}, "kept", "", false},
		{&Policy{Methods: Methods{"m": giver{}}}, "kept", "m", true},
		{&Policy{Methods: Methods{"m": giver{}}}, "kept", "", false},
	} {
		r.Stay = pass.Stay(tt.method)
		next, welcome := r.Renewed(tt.p, "c", tt.user, true)
		if welcome != tt.want || next.Permissions.Allows(Read, []byte("b")) {
			t.Errorf("%+v: %v", tt, welcome)
		}
	}
}

// allOf are Rules that allow everything.
type allOf struct{}

func (allOf) Check(Access, []byte) Verdict { return Allow }
func (allOf) Covers([]byte) bool           { return true }

// rulesFor is an Authorizer with the same rules for all.
type rulesFor struct{ r Rules }

func (a rulesFor) Rules(string, string, bool) Rules { return a.r }

// What a source says takes the place of what CONNECT and a certificate say.
func TestAdmitted(t *testing.T) {
	cert := &Identity{Username: []byte("cn"), Identified: true}
	for i, tt := range []struct {
		n                Naming
		a                *Identity
		pass             *Pass
		id, user         string
		identified, good bool
	}{
		{Naming{}, nil, &Pass{}, "", "", false, true},
		{Naming{}, nil, &Pass{Username: "u", HasUsername: true, ClientID: "i"}, "i", "u", false, true},
		{Naming{UsernameAsClientID: true}, nil, &Pass{Username: "u", HasUsername: true}, "u", "u", false, true},
		{Naming{UsernameAsClientID: true}, nil, &Pass{Username: "u", HasUsername: true, ClientID: "i"}, "i", "u", false, true},
		{Naming{}, cert, &Pass{}, "", "cn", true, true},
		{Naming{}, cert, &Pass{Username: "cn", HasUsername: true}, "", "cn", true, true},
		{Naming{}, cert, &Pass{Username: "u", HasUsername: true}, "", "u", false, true},
		{Naming{}, nil, &Pass{Username: "a\x00", HasUsername: true}, "", "", false, false},
		{Naming{}, nil, &Pass{ClientID: "\xff"}, "", "", false, false},
	} {
		got, r := tt.n.Admitted(tt.a, tt.pass, "m")
		switch {
		case (r == codec.Success) != tt.good:
			t.Errorf("%d: %s", i, r)
		case tt.good && (string(got.ClientID) != tt.id || string(got.Username) != tt.user || got.Identified != tt.identified ||
			got.Stay == nil || got.Stay.Method != "m" || got == tt.a):
			t.Errorf("%d: %+v", i, got)
		}
	}
	if got, r := (Naming{}).Admitted(cert, nil, ""); got != cert || r != codec.Success || cert.Stay != nil {
		t.Error("no pass changes something")
	}
}
