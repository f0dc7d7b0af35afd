package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// noon is the time of these tests.
func noon() time.Time { return time.Unix(1_800_000_000, 0) }

// keyring is a private key of each family, made once a test.
type keyring struct {
	secret []byte
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
}

func newKeyring(t testing.TB) *keyring {
	t.Helper()
	k := &keyring{secret: []byte("a secret of thirty-two bytes....")}
	var err1, err2, err3 error
	k.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	k.ec, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, err3 = ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	return k
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func mustKeys(t testing.TB) func(s *Set, err error) *Set {
	return func(s *Set, err error) *Set {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func mustNew(t testing.TB, cfg Config, keys Keys) *Verifier {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = noon
	}
	v, err := New(cfg, keys)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims are those of a good token, with some changed; nil takes one away.
func claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": "alice", "iss": "https://id", "aud": []any{"mqtt", "web"}, "jti": "t1",
		"exp": float64(noon().Unix() + 60), "nbf": float64(noon().Unix() - 60), "iat": float64(noon().Unix() - 60),
	}
	for k, v := range change {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, c jwt.MapClaims) []byte {
	t.Helper()
	x := jwt.NewWithClaims(method, c)
	if kid != "" {
		x.Header["kid"] = kid
	}
	s, err := x.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

// forge signs any two texts with a secret.
func forge(t testing.TB, secret []byte, head, body string) []byte {
	t.Helper()
	signed := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(body))
	sum, err := jwt.SigningMethodHS256.Sign(signed, secret)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(signed + "." + base64.RawURLEncoding.EncodeToString(sum))
}

func checkReason(t *testing.T, name string, v *Verifier, raw []byte, want Reason) {
	t.Helper()
	tok, err := v.Verify(t.Context(), raw)
	got, ok := ReasonOf(err)
	if !ok || got != want || tok != nil {
		t.Errorf("%s: %v, want %q", name, err, want)
		return
	}
	for part := range strings.SplitSeq(string(raw), ".") {
		if len(part) > 8 && strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: %q shows the token", name, err)
		}
	}
}

func TestAlgorithms(t *testing.T) {
	k := newKeyring(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method jwt.SigningMethod
		key    any
		public *Set
	}{
		{jwt.SigningMethodHS256, k.secret, mustKeys(t)(Secret(k.secret))},
		{jwt.SigningMethodHS512, k.secret, mustKeys(t)(Secret(k.secret))},
		{jwt.SigningMethodRS256, k.rsa, mustKeys(t)(PublicKeys(publicPEM(t, k.rsa.Public())))},
		{jwt.SigningMethodPS384, k.rsa, mustKeys(t)(PublicKeys(publicPEM(t, k.rsa.Public())))},
		{jwt.SigningMethodES256, k.ec, mustKeys(t)(PublicKeys(publicPEM(t, k.ec.Public())))},
		{jwt.SigningMethodES384, p384, mustKeys(t)(PublicKeys(publicPEM(t, p384.Public())))},
		{jwt.SigningMethodEdDSA, k.ed, mustKeys(t)(PublicKeys(publicPEM(t, k.ed.Public())))},
	} {
		alg := c.method.Alg()
		v := mustNew(t, Config{
			Algorithms: []string{alg}, Issuer: "https://id", Audiences: []string{"x", "mqtt"}, IssuedAt: true,
		}, c.public)
		tok, err := v.Verify(t.Context(), sign(t, c.method, c.key, "", claims(nil)))
		if err != nil || tok.ID != "t1" || tok.Expires.Unix() != noon().Unix()+60 || tok.Claims["sub"] != "alice" {
			t.Errorf("%s: %+v, %v", alg, tok, err)
		}
		for _, other := range Algorithms() {
			if _, err := New(Config{Algorithms: []string{other}}, c.public); (err == nil) != c.public.Fits(other) {
				t.Errorf("the key of %s with %s: %v", alg, other, err)
			}
		}
	}
	set := mustKeys(t)(Secret(k.secret))
	for _, bad := range [][]string{nil, {"none"}, {"None"}, {"HS257"}, {""}, {"HS256", "RS256"}} {
		if _, err := New(Config{Algorithms: bad}, set); err == nil {
			t.Errorf("algorithms %q are taken", bad)
		}
	}
}

// What attackers send, and what they hear.
func TestAttacks(t *testing.T) {
	k := newKeyring(t)
	public := publicPEM(t, k.rsa.Public())
	hs := mustNew(t, Config{Algorithms: []string{"HS256"}, Issuer: "https://id", Audiences: []string{"mqtt"}, IssuedAt: true},
		mustKeys(t)(Secret(k.secret)))
	rs := mustNew(t, Config{Algorithms: []string{"RS256"}}, mustKeys(t)(PublicKeys(public)))
	good := sign(t, jwt.SigningMethodHS256, k.secret, "", claims(nil))
	if _, err := hs.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	h := func(change map[string]any) []byte {
		return sign(t, jwt.SigningMethodHS256, k.secret, "", claims(change))
	}
	at := func(seconds int64) any { return float64(noon().Unix() + seconds) }
	none := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", claims(nil))
	deep := `{"alg":"HS256","x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}"
	jwk := fmt.Sprintf(`{"alg":"HS256","jwk":{"kty":"oct","k":%q},"jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/"}`,
		base64.RawURLEncoding.EncodeToString([]byte("another secret of 32 bytes......")))
	for _, c := range []struct {
		name string
		v    *Verifier
		raw  []byte
		want Reason
	}{
		{"empty", hs, nil, NoToken},
		{"a password", hs, []byte("secret"), NoToken},
		{"two parts", hs, []byte("e30.e30"), NoToken},
		{"four parts", hs, append(good[:len(good):len(good)], ".e30"...), NoToken},
		{"five parts, encrypted", hs, []byte("e30.e30.e30.e30.e30"), NoToken},
		{"padding", hs, append(good[:len(good):len(good)], '='), NoToken},
		{"a line end", hs, append(good[:len(good):len(good)], '\n'), NoToken},
		{"a line end within", hs, []byte(string(good[:5]) + "\r\n" + string(good[5:])), NoToken},
		{"no signature", hs, good[:strings.LastIndexByte(string(good), '.')+1], Signature},
		{"half a signature", hs, good[:len(good)-6], Signature},
		{"oversized", hs, h(map[string]any{"x": strings.Repeat("x", 8192)}), TooLong},
		{"no JSON", hs, forge(t, k.secret, "x", "{}"), Malformed},
		{"a header that is an array", hs, forge(t, k.secret, "[]", "{}"), Malformed},
		{"an algorithm that is a number", hs, forge(t, k.secret, `{"alg":256}`, "{}"), Malformed},
		{"deep header", hs, forge(t, k.secret, deep, "{}"), Malformed},
		{"deep claims", hs, forge(t, k.secret, `{"alg":"HS256"}`, deep), Malformed},
		{"claims that are an array", hs, forge(t, k.secret, `{"alg":"HS256"}`, "[]"), Malformed},
		{"claims that are null", hs, forge(t, k.secret, `{"alg":"HS256"}`, "null"), Malformed},
		{"crit", hs, forge(t, k.secret, `{"alg":"HS256","crit":["b64"],"b64":false}`, "{}"), Critical},
		{"empty crit", hs, forge(t, k.secret, `{"alg":"HS256","crit":[]}`, "{}"), Critical},
		{"none", hs, none, Algorithm},
		{"none with RSA", rs, none, Algorithm},
		{"None", hs, forge(t, k.secret, `{"alg":"None"}`, "{}"), Algorithm},
		{"no algorithm", hs, forge(t, k.secret, `{}`, "{}"), Algorithm},
		{"HS with a public key", rs, sign(t, jwt.SigningMethodHS256, public, "", claims(nil)), Algorithm},
		{"another of the family", hs, sign(t, jwt.SigningMethodHS512, k.secret, "", claims(nil)), Algorithm},
		{"RSA with a secret", hs, sign(t, jwt.SigningMethodRS256, k.rsa, "", claims(nil)), Algorithm},
		{"PSS with an RS key", rs, sign(t, jwt.SigningMethodPS256, k.rsa, "", claims(nil)), Algorithm},
		{"another secret", hs, sign(t, jwt.SigningMethodHS256, []byte("another secret of 32 bytes......"), "", claims(nil)), Signature},
		{"a key in the header", hs, forge(t, []byte("another secret of 32 bytes......"), jwk, "{}"), Signature},
		{"expired", hs, h(map[string]any{"exp": at(-1)}), Expired},
		{"expires now", hs, h(map[string]any{"exp": at(0)}), Expired},
		{"no exp", hs, h(map[string]any{"exp": nil}), NoExpiry},
		{"exp is text", hs, h(map[string]any{"exp": "9999999999"}), Claim},
		{"exp is no second", hs, h(map[string]any{"exp": 1e300}), Claim},
		{"exp is negative", hs, h(map[string]any{"exp": -1}), Claim},
		{"exp is null", hs, forge(t, k.secret, `{"alg":"HS256"}`, `{"exp":null,"iss":"https://id","aud":"mqtt"}`), Claim},
		{"nbf to come", hs, h(map[string]any{"nbf": at(1)}), NotYet},
		{"iat to come", hs, h(map[string]any{"iat": at(1)}), NotYet},
		{"another issuer", hs, h(map[string]any{"iss": "https://evil"}), Issuer},
		{"no issuer", hs, h(map[string]any{"iss": nil}), Issuer},
		{"another audience", hs, h(map[string]any{"aud": "web"}), Audience},
		{"no audience", hs, h(map[string]any{"aud": nil}), Audience},
		{"jti is a number", hs, h(map[string]any{"jti": 7}), Claim},
	} {
		checkReason(t, c.name, c.v, c.raw, c.want)
	}
	lenient := mustNew(t, Config{Algorithms: []string{"HS256"}, Leeway: time.Minute, WithoutExp: true}, mustKeys(t)(Secret(k.secret)))
	for name, change := range map[string]map[string]any{
		"within the leeway": {"exp": at(-59), "nbf": at(59)}, "without exp": {"exp": nil}, "any issuer": {"iss": "x", "aud": "y"},
	} {
		if _, err := lenient.Verify(t.Context(), h(change)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkReason(t, "beyond the leeway", lenient, h(map[string]any{"exp": at(-60)}), Expired)
}

// jwks is a key set of public keys by kid.
func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rsaJWK(kid string, k *rsa.PublicKey, more map[string]any) map[string]any {
	m := map[string]any{
		"kty": "RSA", "kid": kid, "n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()), "e": "AQAB",
	}
	maps.Copy(m, more)
	return m
}

func octJWK(kid string, secret []byte) map[string]any {
	return map[string]any{"kty": "oct", "kid": kid, "k": base64.RawURLEncoding.EncodeToString(secret)}
}

// A set of keys: each is for its kid, its algorithm and its kind, and what is of no use is left out.
func TestSets(t *testing.T) {
	k := newKeyring(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short := map[string]any{"kty": "RSA", "kid": "short", "n": "vw", "e": "AQAB"}
	set := mustKeys(t)(ReadSet(jwks(t,
		rsaJWK("a", &k.rsa.PublicKey, nil), rsaJWK("b", &other.PublicKey, map[string]any{"alg": "RS512", "use": "sig"}),
		octJWK("s", k.secret), octJWK("weak", []byte("short")), short, map[string]any{"kty": "future"},
		map[string]any{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
		rsaJWK("enc", &other.PublicKey, map[string]any{"use": "enc"}),
		rsaJWK("ops", &other.PublicKey, map[string]any{"key_ops": []string{"encrypt"}}),
		rsaJWK("x5c", &other.PublicKey, map[string]any{"x5c": []string{"AAAA"}, "x5u": "http://127.0.0.1:1/"}),
	)))
	if len(set.list) != 4 {
		t.Errorf("%d keys", len(set.list))
	}
	v := mustNew(t, Config{Algorithms: []string{"RS256", "RS512", "HS256"}}, set)
	for name, raw := range map[string][]byte{
		"by kid":                          sign(t, jwt.SigningMethodRS256, k.rsa, "a", claims(nil)),
		"by kid and algorithm":            sign(t, jwt.SigningMethodRS512, other, "b", claims(nil)),
		"a secret":                        sign(t, jwt.SigningMethodHS256, k.secret, "s", claims(nil)),
		"no kid":                          sign(t, jwt.SigningMethodRS256, k.rsa, "", claims(nil)),
		"with a certificate that is none": sign(t, jwt.SigningMethodRS256, other, "x5c", claims(nil)),
	} {
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkReason(t, "unknown kid", v, sign(t, jwt.SigningMethodRS256, k.rsa, "z", claims(nil)), UnknownKey)
	checkReason(t, "kid of another key", v, sign(t, jwt.SigningMethodRS256, other, "a", claims(nil)), Signature)
	checkReason(t, "another algorithm than the key's", v, sign(t, jwt.SigningMethodRS256, other, "b", claims(nil)), UnknownKey)
	checkReason(t, "a key for encryption", v, sign(t, jwt.SigningMethodRS256, other, "enc", claims(nil)), UnknownKey)
	checkReason(t, "HS with the kid of a public key", v, sign(t, jwt.SigningMethodHS256, k.secret, "a", claims(nil)), UnknownKey)
	if _, err := readSet(jwks(t, octJWK("s", k.secret)), false); err == nil {
		t.Error("a set that anybody can fetch has secrets")
	}
	many := make([]map[string]any, keysMax+1)
	for i := range many {
		many[i] = rsaJWK("a", &k.rsa.PublicKey, nil)
	}
	for name, text := range map[string][]byte{
		"none": nil, "text": []byte("<html>"), "an array": []byte("[]"), "no keys": []byte("{}"), "empty": []byte(`{"keys":[]}`),
		"too many": jwks(t, many...), "deep": []byte(strings.Repeat("[", 100000)), "weak ones": jwks(t, short),
	} {
		if _, err := ReadSet(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PublicKeys(publicPEM(t, weak.Public())); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a weak RSA key: %v", err)
	}
	if _, err := PublicKeys([]byte("x")); err == nil {
		t.Error("no PEM is taken")
	}
	if _, err := Secret(make([]byte, secretMin-1)); err == nil {
		t.Error("a short secret is taken")
	}
	two := mustKeys(t)(PublicKeys(append(publicPEM(t, other.Public()), publicPEM(t, k.rsa.Public())...)))
	if _, err := mustNew(t, Config{Algorithms: []string{"RS256"}}, two).Verify(t.Context(),
		sign(t, jwt.SigningMethodRS256, k.rsa, "", claims(nil))); err != nil {
		t.Errorf("the second key of a file: %v", err)
	}
}

// TestReasonsHaveWords: each is another sentence.
func TestReasonsHaveWords(t *testing.T) {
	seen := map[string]bool{}
	for r := range numReasons {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d: %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if Reason(200).String() != "reason 200" {
		t.Error(Reason(200).String())
	}
}

// FuzzVerify: no token makes a panic, and what is refused is an *Error.
func FuzzVerify(f *testing.F) {
	secret := []byte("a secret of thirty-two bytes....")
	set, err := Secret(secret)
	if err != nil {
		f.Fatal(err)
	}
	v := mustNew(f, Config{Algorithms: []string{"HS256"}}, set)
	f.Add(`{"alg":"HS256"}`, `{"exp":1900000000,"sub":"a"}`)
	f.Add(`{"alg":"HS256","crit":null}`, `{"exp":1e99}`)
	f.Add(`{"alg":"none"}`, `{}`)
	m := Mapping{Username: "sub", Groups: "a.b", Topics: []string{"read x/%u/%{a.b}"}, TopicsClaim: "t"}
	f.Fuzz(func(t *testing.T, head, body string) {
		tok, err := v.Verify(context.Background(), forge(t, secret, head, body))
		if err == nil {
			_, err = m.Subject(tok, "c", "u", true)
		}
		if _, ok := ReasonOf(err); err != nil && !ok {
			t.Fatalf("%v", err)
		}
	})
}

// BenchmarkVerify is what one login costs.
func BenchmarkVerify(b *testing.B) {
	k := newKeyring(b)
	for _, c := range []struct {
		method jwt.SigningMethod
		key    any
		public *Set
	}{
		{jwt.SigningMethodHS256, k.secret, mustKeys(b)(Secret(k.secret))},
		{jwt.SigningMethodRS256, k.rsa, mustKeys(b)(PublicKeys(publicPEM(b, k.rsa.Public())))},
		{jwt.SigningMethodES256, k.ec, mustKeys(b)(PublicKeys(publicPEM(b, k.ec.Public())))},
		{jwt.SigningMethodEdDSA, k.ed, mustKeys(b)(PublicKeys(publicPEM(b, k.ed.Public())))},
	} {
		v := mustNew(b, Config{Algorithms: []string{c.method.Alg()}}, c.public)
		raw := sign(b, c.method, c.key, "", claims(nil))
		b.Run(c.method.Alg(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(context.Background(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
