package token

import (
	"slices"
	"strings"
	"testing"

	"noctule/broker/auth"
)

func TestSubject(t *testing.T) {
	tok := &Token{ID: "t1", Expires: noon(), Claims: map[string]any{
		"sub": "alice", "dev": "phone-1", "kind": "mobile", "groups": []any{"staff", "eu"}, "scope": "a b  c",
		"realm": map[string]any{"roles": []any{"admin"}, "site": "north"}, "realm.site": "by its whole name",
		"presub": []any{"a/b"}, "acl": []any{"read own/%u/#", "deny own/%u/secret"},
		"bad": []any{1}, "n": 7, "wild": "a/#", "empty": "", "nul": "a\x00b",
	}}
	m := Mapping{
		Username: "sub", ClientID: "dev", Kind: "kind", Groups: "groups", PreSubscribe: "presub", TopicsClaim: "acl",
		Topics:      []string{"read im/%u/#", "write im/%k/%c/100%", "read site/%{realm.site}/+", "read lost/%{wild}", "write gone/%{none}"},
		GroupTopics: map[string][]string{"staff": {"readwrite staff/#"}, "boss": {"#"}},
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := m.Subject(tok, "", "whatever", true)
	if err != nil {
		t.Fatal(err)
	}
	if s.Username != "alice" || !s.HasUsername || s.ClientID != "phone-1" || s.Kind != "mobile" || s.ID != "t1" ||
		!slices.Equal(s.Groups, []string{"staff", "eu"}) || s.PreSubscribe == nil || !s.Expires.Equal(noon()) {
		t.Errorf("%+v", s)
	}
	for topic, want := range map[string]string{
		"im/alice/x": "r", "im/bob/x": "", "im/mobile/phone-1/100%": "w", "site/by its whole name/x": "r", "lost/a/b": "",
		"gone/": "", "staff/x": "rw", "x": "", "own/alice/x": "r", "own/alice/secret": "",
	} {
		got := ""
		if s.Rules.Check(auth.Read, []byte(topic)) == auth.Allow {
			got = "r"
		}
		if s.Rules.Check(auth.Write, []byte(topic)) == auth.Allow {
			got += "w"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
	for _, c := range []struct {
		name     string
		m        Mapping
		id, user string
		named    bool
		want     Reason
	}{
		{"no claim", Mapping{Username: "none"}, "", "", false, Claim},
		{"a number", Mapping{Username: "n"}, "", "", false, Claim},
		{"empty", Mapping{Username: "empty"}, "", "", false, Claim},
		{"a NUL", Mapping{Username: "nul"}, "", "", false, Claim},
		{"an object", Mapping{ClientID: "realm"}, "", "", false, Claim},
		{"into no object", Mapping{Kind: "sub.x"}, "", "", false, Claim},
		{"groups of numbers", Mapping{Groups: "bad"}, "", "", false, Claim},
		{"topics of numbers", Mapping{TopicsClaim: "bad"}, "", "", false, Claim},
		{"topics that are none", Mapping{TopicsClaim: "sub"}, "", "", false, Claim},
		{"another client id", Mapping{ClientID: "dev"}, "phone-2", "", false, Mismatch},
		{"another username", Mapping{Username: "sub", MatchUsername: true}, "", "bob", true, Mismatch},
		{"no username", Mapping{Username: "sub", MatchUsername: true}, "", "", false, Mismatch},
	} {
		_, err := c.m.Subject(tok, c.id, c.user, c.named)
		if reason, ok := ReasonOf(err); !ok || reason != c.want || strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	s, err = (&Mapping{Groups: "scope"}).Subject(tok, "c", "u", true)
	if err != nil || s.Username != "u" || s.ClientID != "c" || s.Rules != nil || !slices.Equal(s.Groups, []string{"a", "b", "c"}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// A name with a wildcard or a slash reaches nobody else's topics, and a denial that cannot be filled denies
// all.
func TestNamesInTemplates(t *testing.T) {
	for _, name := range []string{"+", "#", "a/b", "a+", "/", ""} {
		tok := &Token{Claims: map[string]any{"x": name}}
		s, err := (&Mapping{Topics: []string{"read a/%{x}", "read b"}}).Subject(tok, "c", "u", true)
		if err != nil || s.Rules.Check(auth.Read, []byte("a/z")) == auth.Allow || s.Rules.Check(auth.Read, []byte("b")) != auth.Allow {
			t.Errorf("%q: %v", name, err)
		}
		s, err = (&Mapping{Topics: []string{"deny a/%{x}", "read b"}}).Subject(tok, "c", "u", true)
		if err != nil || s.Rules.Check(auth.Read, []byte("b")) == auth.Allow {
			t.Errorf("%q: a denial is left out, %v", name, err)
		}
	}
	for _, x := range []string{"read #", "deny", "write"} { // a value is no access
		tok := &Token{Claims: map[string]any{"x": x}}
		s, err := (&Mapping{Topics: []string{"%{x}"}}).Subject(tok, "c", "u", true)
		if err != nil || s.Rules.Check(auth.Write, []byte("z")) == auth.Allow {
			t.Errorf("%q: %v", x, err)
		}
	}
	for _, bad := range []string{"", "read", "write a/%{x", "read a/#/b", "may a", "read a/%{}", "read a%u+"} {
		m := Mapping{Topics: []string{bad}}
		if err := m.Check(); err == nil && bad != "read" {
			t.Errorf("%q is a template", bad)
		}
	}
	if err := (&Mapping{GroupTopics: map[string][]string{"g": {"a"}}}).Check(); err == nil {
		t.Error("topics of groups without a claim")
	}
	if err := (&Mapping{Groups: "g", GroupTopics: map[string][]string{"g": {"a/#b"}}}).Check(); err == nil {
		t.Error("a template of a group that is no filter")
	}
	many := make([]any, topicsMax+1)
	for i := range many {
		many[i] = "a"
	}
	if _, err := (&Mapping{TopicsClaim: "x"}).Subject(&Token{Claims: map[string]any{"x": many}}, "c", "", false); err == nil {
		t.Error("topics without a limit")
	}
	if _, err := (&Mapping{Groups: "x"}).Subject(&Token{Claims: map[string]any{"x": strings.Repeat("g ", groupsMax+1)}}, "c", "", false); err == nil {
		t.Error("groups without a limit")
	}
}
