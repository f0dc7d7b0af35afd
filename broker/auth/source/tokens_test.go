package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"noctule/broker/auth"
	"noctule/codec"
)

const secret = "a secret of thirty-two bytes...."

// sign makes a token of some claims over those that are always there.
func sign(t *testing.T, m jwt.SigningMethod, key any, kid string, claims map[string]any) string {
	t.Helper()
	c := jwt.MapClaims{"sub": "alice", "iss": "me", "aud": "mqtt", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, claims)
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	x := jwt.NewWithClaims(m, c)
	if kid != "" {
		x.Header["kid"] = kid
	}
	text, err := x.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTokens is each way in which a token is not taken, with what the client hears and what the log says. One
// that may be another source's is left to that.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "secret", secret+"\n")
	hs := func(claims map[string]any) string { return sign(t, jwt.SigningMethodHS256, []byte(secret), "", claims) }
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	const text = `
sources:
  - name: tokens
    jwt:
      secret_file: $/secret
      algorithms: [HS256]
      issuer: me
      audiences: [mqtt]
      username: sub
      match_username: true
      topics: ["readwrite home/%u/#"]
      pre_subscribe: subs
      groups: roles`
	for _, tt := range []struct {
		name, token string
		want        auth.Verdict
		log         string
	}{
		{"good", hs(map[string]any{"subs": []string{"a"}, "roles": "x y", "jti": "7"}), auth.Allow, ""},
		{"a password", "secret", auth.Defer, ""},
		{"none", "eyJhbGciOiJub25lIn0." + strings.Split(hs(nil), ".")[1] + ".", auth.Defer, "algorithm is not allowed"},
		{"another secret", sign(t, jwt.SigningMethodHS256, []byte("x"+secret), "", nil), auth.Defer, "signature is wrong"},
		{"another algorithm", sign(t, jwt.SigningMethodHS512, []byte(secret), "", nil), auth.Defer, "algorithm is not"},
		{"expired", hs(map[string]any{"exp": at(-time.Minute)}), auth.Deny, "has expired"},
		{"not yet", hs(map[string]any{"nbf": at(time.Minute)}), auth.Deny, "not valid yet"},
		{"for ever", hs(map[string]any{"exp": nil}), auth.Deny, "has no exp"},
		{"another audience", hs(map[string]any{"aud": "x"}), auth.Defer, "another audience"},
		{"another issuer", hs(map[string]any{"iss": "x"}), auth.Defer, "another issuer"},
		{"another user", hs(map[string]any{"sub": "bob"}), auth.Deny, "another client"},
		{"nobody", hs(map[string]any{"sub": nil}), auth.Deny, "not usable: sub"},
		{"too long", hs(map[string]any{"x": strings.Repeat("x", 9000)}), auth.Defer, "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := begin(t, dir, text)
			p := b.want("alice", tt.token, tt.want)
			if tt.want == auth.Allow {
				if p.Username != "alice" || p.TokenID != "7" || p.PreSubscribe == nil || len(p.Groups) != 2 ||
					time.Until(p.Expires) < 59*time.Minute {
					t.Errorf("%+v", p)
				}
				may(t, p.Rules, "yes read home/alice/x", "no read home/bob/x")
			}
			log := b.log.String()
			if !strings.Contains(log, tt.log) || tt.log == "" && log != "" || strings.Contains(log, tt.token) {
				t.Errorf("the log is %q", log)
			}
			m := b.set.Methods["jwt"]
			_, step := m.Begin(t.Context(), login("alice", "not this one"), []byte(tt.token))
			if (step.Pass != nil) != (tt.want == auth.Allow) || step.Pass == nil && step.Refused != codec.NotAuthorized {
				t.Errorf("as a method: %+v", step)
			}
		})
	}
}

// keySet is a JSON Web Key Set of one EC key.
func keySet(kid string, k *ecdsa.PrivateKey) string {
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}]}`, kid,
		base64URL(k.X.FillBytes(make([]byte, 32))), base64URL(k.Y.FillBytes(make([]byte, 32))))
}

func base64URL(b []byte) string {
	text, _ := json.Marshal(b)
	return strings.NewReplacer("+", "-", "/", "_", "=", "", `"`, "").Replace(string(text))
}

// TestTokenKeys is what keys of a URL may be: another one, away, slow, elsewhere, garbage; and a public key is
// never a secret.
func TestTokenKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := keySet("k1", key)
	token := sign(t, jwt.SigningMethodES256, key, "k1", nil)
	for _, tt := range []struct {
		name   string
		serve  http.HandlerFunc
		token  string
		want   auth.Verdict
		on     string
		inLog  string
		method codec.Reason
	}{
		{"good", text(good), token, auth.Allow, Closed, "", 0},
		{"unknown kid", text(good), sign(t, jwt.SigningMethodES256, key, "k2", nil), auth.Defer, Closed, "key is not known", 0},
		{"garbage", text("<html>"), token, auth.Ask, Closed, "not a JSON Web Key Set", codec.ServerUnavailable},
		{"error", status(500), token, auth.Ask, Closed, "status 500", codec.ServerUnavailable},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, token, auth.Ask, Closed, "redirect", codec.ServerUnavailable},
		{"slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, token, auth.Ask, Closed, "keys", codec.ServerUnavailable},
		{"open", status(500), token, auth.Allow, Open, "status 500", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := answers(t, tt.serve)
			b := begin(t, "", fmt.Sprintf("sources: [{name: k, on_failure: %s, jwt: {algorithms: [ES256], "+
				"jwks: {url: '%s/keys', timeout: 200ms}}}]", tt.on, url))
			b.want("alice", tt.token, tt.want)
			if !strings.Contains(b.log.String(), tt.inLog) {
				t.Errorf("the log is %q", b.log)
			}
			_, step := b.set.Methods["jwt"].Begin(t.Context(), login("alice", ""), []byte(tt.token))
			if tt.method != 0 && step.Refused != tt.method {
				t.Errorf("as a method: %+v", step)
			}
		})
	}
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	write(t, dir, "key.pem", string(public))
	b := begin(t, dir, "sources: [{name: k, jwt: {algorithms: [ES256], public_key_file: $/key.pem}}]")
	b.want("alice", token, auth.Allow)
	b.want("alice", sign(t, jwt.SigningMethodHS256, public, "", nil), auth.Defer)
	if err := b.reload(dir, "sources: [{name: k, jwt: {algorithms: [HS256], public_key_file: $/key.pem}}]"); err == nil {
		t.Error("a public key for HS256 is taken")
	}
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// TestTwoIssuers has each source of tokens take its own.
func TestTwoIssuers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", secret+"a")
	write(t, dir, "b", secret+"b")
	b := begin(t, dir, `
sources:
  - {name: a, jwt: {algorithms: [HS256], secret_file: $/a, topics: ["read a"]}}
  - {name: b, jwt: {algorithms: [HS256], secret_file: $/b, topics: ["read b"]}}`)
	for _, key := range []string{"a", "b", "c"} {
		l := login("alice", sign(t, jwt.SigningMethodHS256, []byte(secret+key), "", nil))
		p, r := b.policy().Admit(t.Context(), l)
		switch {
		case key == "c":
			if r != codec.NotAuthorized {
				t.Errorf("a token of nobody: %v", r)
			}
		case r != codec.Success || p.Source != key:
			t.Errorf("a token of %s: %v, %+v", key, r, p)
		}
	}
}

// TestKeeps ends who was let in by a key that is another one after a reload, and nobody else.
func TestKeeps(t *testing.T) {
	dir := t.TempDir()
	var asked atomic.Int64
	url, _ := answers(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	write(t, dir, "secret", secret)
	text := `
sources:
  - {name: t, jwt: {algorithms: [HS256], secret_file: $/secret, leeway: LEEWAY}}
  - {name: w, http: {url: '` + url + `'}}`
	b := begin(t, dir, strings.ReplaceAll(text, "LEEWAY", "0s"))
	p1, _ := b.policy().Admit(t.Context(), login("a", sign(t, jwt.SigningMethodHS256, []byte(secret), "", nil)))
	p2, _ := b.policy().Admit(t.Context(), login("b", "x"))
	if p1 == nil || p2 == nil {
		t.Fatal(p1, p2)
	}
	keeps := func(want1, want2 bool) {
		t.Helper()
		p := b.policy()
		if k1, k2 := p.Keeps(p1.Stay(""), "a"), p.Keeps(p2.Stay(""), "b"); k1 != want1 || k2 != want2 {
			t.Errorf("kept: %v and %v", k1, k2)
		}
	}
	keeps(true, true)
	if err := b.reload(dir, strings.ReplaceAll(text, "LEEWAY", "5s")); err != nil {
		t.Fatal(err)
	}
	keeps(true, true)
	write(t, dir, "secret", secret+"2")
	if err := b.reload(dir, strings.ReplaceAll(text, "LEEWAY", "5s")); err != nil {
		t.Fatal(err)
	}
	keeps(false, true)
	if err := b.reload(dir, "sources: []"); err != nil {
		t.Fatal(err)
	}
	keeps(false, false)
}
