package broker

import (
	"testing"

	"noctule/broker/auth"
)

// TestRightsWorthKeeping: clients without a username cost nothing where only passwords are checked.
func TestRightsWorthKeeping(t *testing.T) {
	policy := &auth.Policy{}
	for name, tt := range map[string]struct {
		r    rights
		p    *auth.Policy
		want bool
	}{
		"no policy":               {rights{named: true}, nil, false},
		"anonymous":               {rights{}, policy, false},
		"a username":              {rights{named: true}, policy, true},
		"a mount point":           {rights{mount: "a/"}, nil, true},
		"a certificate":           {rights{identified: true}, nil, true},
		"anonymous below an ACL":  {rights{perms: &auth.Permissions{}}, policy, true},
		"anonymous, mount, rules": {rights{perms: &auth.Permissions{}, mount: "a"}, policy, true},
	} {
		if got := tt.r.tells(tt.p); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
