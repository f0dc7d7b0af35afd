package token

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"noctule/broker/auth"
	"noctule/codec"
)

// The method "jwt" is one step, and renewing is another, by a token of the same user.
func TestMethod(t *testing.T) {
	k := newKeyring(t)
	v := mustNew(t, Config{Algorithms: []string{"HS256"}}, mustKeys(t)(Secret(k.secret)))
	m := auth.Methods{MethodName: NewMethod(v, &Mapping{Username: "sub", Topics: []string{"read a/%u"}})}
	l := &auth.Login{ClientID: "c"}
	x, s := m.Begin(t.Context(), "jwt", l, sign(t, jwt.SigningMethodHS256, k.secret, "", claims(nil)))
	if x != nil || s.Pass == nil || s.Pass.Username != "alice" || s.Pass.TokenID != "t1" || s.Pass.Expires.Unix() != noon().Unix()+60 ||
		s.Pass.Rules.Check(auth.Read, []byte("a/alice")) != auth.Allow || !s.Pass.Renews("c", "alice", true) {
		t.Errorf("%+v", s)
	}
	_, s = m.Begin(t.Context(), "jwt", l, sign(t, jwt.SigningMethodHS256, k.secret, "", claims(map[string]any{"sub": "bob"})))
	if s.Pass == nil || s.Pass.Renews("c", "alice", true) {
		t.Errorf("another user's token renews: %+v", s)
	}
	for _, bad := range [][]byte{nil, []byte("x"), sign(t, jwt.SigningMethodHS256, k.secret, "", claims(map[string]any{"sub": nil}))} {
		if x, s = m.Begin(t.Context(), "jwt", l, bad); x != nil || s.Refused != codec.NotAuthorized || s.Why == "" {
			t.Errorf("%+v", s)
		}
	}
	down := mustRemote(t, RemoteConfig{URL: "https://127.0.0.1:1", Transport: deaf{}})
	m = auth.Methods{MethodName: NewMethod(mustNew(t, Config{Algorithms: []string{"ES256"}}, down), &Mapping{})}
	if _, s = m.Begin(t.Context(), "jwt", l, sign(t, jwt.SigningMethodES256, k.ec, "1", claims(nil))); s.Refused != codec.ServerUnavailable {
		t.Errorf("%+v", s)
	}
}
