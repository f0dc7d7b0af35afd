package main

import (
	"os"
	"path/filepath"
	"testing"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
)

// TestAPIGate has users, an ACL whose topics are paths, and anonymous requests.
func TestAPIGate(t *testing.T) {
	dir := t.TempDir()
	passwords, acl := filepath.Join(dir, "passwords"), filepath.Join(dir, "acl")
	if code, out := outcome(t, "passwd", "-b", "-c", passwords, "alice", "secret"); code != 0 {
		t.Fatal(out)
	}
	rules := "topic read /api/v1/version\nuser alice\ntopic read /api/v1/#\n"
	if err := os.WriteFile(acl, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := auth.LoadPasswords(passwords)
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.LoadACL(acl)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := brokertest.Start(t, nil)
	alice := admin.Login{Username: "alice", Password: "secret", Named: true, Path: "/api/v1/systree"}
	wrong, file := alice, alice
	wrong.Password, file.Path = "Secret", "/index.html"
	for _, anonymous := range []bool{true, false} {
		g := &apiGate{b: b}
		o := broker.DefaultListenerOptions()
		o.Policy = &auth.Policy{
			AllowAnonymous: anonymous, Authenticators: []auth.Authenticator{p}, Authorizers: []auth.Authorizer{a},
		}
		g.options.Store(&o)
		for _, tt := range []struct {
			login admin.Login
			want  bool
		}{
			{alice, true},
			{wrong, false},
			{file, false},
			{admin.Login{Path: "/api/v1/version"}, anonymous},
			{admin.Login{Path: "/api/v1/systree"}, false},
		} {
			if got, err := g.Allows(t.Context(), tt.login); got != tt.want || err != nil {
				t.Errorf("anonymous %t: %+v: %t %v", anonymous, tt.login, got, err)
			}
		}
	}
	// The pool counts after it has answered.
	eventually(t, "the broker's pool to have checked 6, 2 of them wrong", func() bool {
		h := brokertest.Settle(t, b).Hashing
		return h.Checked == 6 && h.Failed == 2
	})
	g := &apiGate{b: b}
	o := broker.DefaultListenerOptions()
	g.options.Store(&o)
	if in, _ := g.Allows(t.Context(), alice); in {
		t.Error("without a policy and without anonymous clients somebody comes in")
	}
}
