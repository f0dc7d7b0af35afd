package auth

import (
	"strings"
	"testing"
)

// TestRightsWorthKeeping: clients without a username cost nothing where only passwords are checked.
func TestRightsWorthKeeping(t *testing.T) {
	policy := &Policy{}
	for name, tt := range map[string]struct {
		r    Rights
		p    *Policy
		want bool
	}{
		"no policy":               {Rights{Named: true}, nil, false},
		"anonymous":               {Rights{}, policy, false},
		"a username":              {Rights{Named: true}, policy, true},
		"a mount point":           {Rights{MountPoint: "a/"}, nil, true},
		"a certificate":           {Rights{Identified: true}, nil, true},
		"anonymous below an ACL":  {Rights{Permissions: &Permissions{}}, policy, true},
		"anonymous, mount, rules": {Rights{Permissions: &Permissions{}, MountPoint: "a"}, policy, true},
	} {
		if got := tt.r.Tell(tt.p); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// fixed is rules for one who may subscribe to all but "no/#" and read only "a" and what begins with "b/".
type fixed struct{}

// Check implements Rules.
func (fixed) Check(a Access, topic []byte) Verdict {
	name := string(topic)
	switch {
	case a == Subscribe && name != "no/#", a == Read && (name == "a" || strings.HasPrefix(name, "b/")):
		return Allow
	default:
		return Deny
	}
}

// Covers implements Rules.
func (fixed) Covers(filter []byte) bool { return strings.HasPrefix(string(filter), "b/") }

// What others may subscribe a client to, and whose messages need no question, shared or not.
func TestGivenAndCovered(t *testing.T) {
	p := &Permissions{first: fixed{}}
	for _, tt := range []struct {
		filter         string
		given, covered bool
	}{
		{"a", true, false},
		{"c", false, false},
		{"c/+", true, false},
		{"no/#", false, false},
		{"b/+", true, true},
		{"$share/g/b/+", true, true},
		{"$share/g/a", true, false},
		{"$share/g/c", false, false},
	} {
		if p.MayBeGiven(tt.filter) != tt.given || p.CoversSubscription([]byte(tt.filter)) != tt.covered {
			t.Errorf("%+v", tt)
		}
	}
	if !(*Permissions)(nil).MayBeGiven("c") || !(*Permissions)(nil).CoversSubscription([]byte("c")) {
		t.Error("without rules")
	}
}
