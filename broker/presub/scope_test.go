package presub

import "testing"

// TestTenantCallersKeepToRules: acl bypass is not for who is bound to tenants, whatever the same principal may ask
// for by another door.
func TestTenantCallersKeepToRules(t *testing.T) {
	e := engine(t, "acl: bypass")
	for range 2 {
		free, err := e.originOf(Caller{Principal: "p"}, "x")
		if err != nil || !free.Bypass {
			t.Errorf("%+v, %v", free, err)
		}
		bound, err := e.originOf(Caller{Principal: "p", Tenants: []string{"e1"}}, "x")
		if err != nil || bound.Bypass || bound.Name != free.Name || bound.Owner != free.Owner {
			t.Errorf("%+v, %v", bound, err)
		}
	}
}
