package auth

import (
	"context"
	"testing"
)

// replies is rules with one verdict, and what they say when they are asked.
type replies struct{ at, later Verdict }

func (s replies) Rules(string, string, bool) Rules                  { return s }
func (s replies) Check(Access, []byte) Verdict                      { return s.at }
func (s replies) Covers([]byte) bool                                { return false }
func (s replies) Ask(_ context.Context, _ Access, _ []byte) Verdict { return s.later }

// TestAsk: by First, who asks decides in its place among the others, and where nobody can wait it is a no.
func TestAsk(t *testing.T) {
	const none = Ignore
	for _, tt := range []struct {
		list                           []Authorizer
		allows, open, resolved, answer bool
	}{
		{[]Authorizer{replies{Allow, none}, replies{Ask, Deny}}, true, false, true, true},
		{[]Authorizer{replies{Deny, none}, replies{Ask, Allow}}, false, false, false, true},
		{[]Authorizer{replies{Ask, Allow}}, false, true, true, true},
		{[]Authorizer{replies{Ask, Deny}, replies{Allow, none}}, false, true, false, true},
		{[]Authorizer{replies{Ignore, none}, replies{Ask, Allow}}, false, true, true, true},
		{[]Authorizer{replies{Defer, none}, replies{Ask, Ignore}}, false, true, false, false},
		{[]Authorizer{replies{Defer, none}, replies{Ignore, none}}, false, false, false, true},
	} {
		p := (&Policy{Authorizers: tt.list, Combine: First}).Permissions("c", "u", true)
		if !p.Asks() {
			t.Errorf("%v do not ask", tt.list)
		}
		if got := p.Allows(Write, []byte("t")); got != tt.allows {
			t.Errorf("%v allows %v", tt.list, got)
		}
		if got := p.Open(Write, []byte("t")); got != tt.open {
			t.Errorf("%v is open: %v", tt.list, got)
		}
		if got, answer := p.Resolve(t.Context(), Write, []byte("t")); got != tt.resolved || answer != tt.answer {
			t.Errorf("%v resolves to %v %v", tt.list, got, answer)
		}
	}
	var all *Permissions
	if ok, answered := all.Resolve(t.Context(), Write, nil); all.Asks() || all.Open(Write, nil) || !ok || !answered {
		t.Error("no rules are not all")
	}
	if (&Policy{AllowAnonymous: true, Authenticators: []Authenticator{login(Ask)}}).Authenticate(&Login{}) {
		t.Error("an Authenticator that says ask lets in")
	}
}

type login Verdict

func (v login) Authenticate(*Login) Verdict { return Verdict(v) }
