package auth

import (
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
