// Package token takes JSON Web Tokens (RFC 7519) that clients send in the place of a password: it verifies
// them, and maps their claims to who the client is and what it may do.
//
// A token is not read before its signature is verified, but for its header, and that is bounded: bytes,
// levels. Nothing in a header is followed: jku, x5u, jwk and x5c are as not there, and crit is refused. What
// comes out in errors are Reasons, never anything of a token.
//
// Verify takes some 3 to 100 us of a core; with Remote keys it may wait for them, as their documentation
// says. It belongs off the event loops.
package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Config is which tokens are taken.
type Config struct {
	Algorithms []string      `yaml:"algorithms"` // HS256 to EdDSA; must be named
	Issuer     string        `yaml:"issuer"`     // "": any
	Audiences  []string      `yaml:"audiences"`  // one of them must be the token's; none: any
	Leeway     time.Duration `yaml:"leeway"`     // of exp, nbf and iat
	WithoutExp bool          `yaml:"without_exp"`
	IssuedAt   bool          `yaml:"issued_at"` // iat must not be in the future
	BytesMax   int           `yaml:"bytes_max"` // of a token; 8192
	// Now is the time; nil means the system's clock.
	Now func() time.Time `yaml:"-"`
}

// Limits.
const (
	bytesMaxDefault = 8192
	depthMax        = 32
	keysTried       = 16 // of a token without a kid
	yearEnd         = 253402300799
)

// Verifier verifies tokens, on any goroutine. It is immutable.
type Verifier struct {
	cfg    Config
	keys   Keys
	claims *jwt.Validator
}

// Algorithms are the names of the algorithms that there are.
func Algorithms() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA",
	}
}

// New makes a verifier. It refuses algorithms for which the keys cannot be, so that a public key is never
// taken for a secret.
func New(cfg Config, keys Keys) (*Verifier, error) {
	if len(cfg.Algorithms) == 0 {
		return nil, fmt.Errorf("algorithms must be named")
	}
	for _, a := range cfg.Algorithms {
		switch {
		case !slices.Contains(Algorithms(), a):
			return nil, fmt.Errorf("algorithm %q is not known: %s", a, strings.Join(Algorithms(), ", "))
		case !keys.Fits(a):
			return nil, fmt.Errorf("algorithm %q does not fit the key", a)
		}
	}
	if cfg.BytesMax == 0 {
		cfg.BytesMax = bytesMaxDefault
	}
	if cfg.Now == nil {
		cfg.Now = now
	}
	opts := []jwt.ParserOption{jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Now)}
	if !cfg.WithoutExp {
		opts = append(opts, jwt.WithExpirationRequired())
	}
	if cfg.IssuedAt {
		opts = append(opts, jwt.WithIssuedAt())
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if len(cfg.Audiences) > 0 {
		opts = append(opts, jwt.WithAudience(cfg.Audiences...))
	}
	return &Verifier{cfg: cfg, keys: keys, claims: jwt.NewValidator(opts...)}, nil
}

// Token is one that was verified.
type Token struct {
	ID      string         // jti; ""
	Expires time.Time      // exp, without the leeway; the zero Time without one
	Claims  map[string]any // as encoding/json makes them; read-only
}

// header is what is looked at in a token's first part.
type header struct {
	Algorithm string          `json:"alg"`
	Key       string          `json:"kid"`
	Critical  json.RawMessage `json:"crit"`
}

// Verify reads a token and checks signature and registered claims. An error is an *Error.
func (v *Verifier) Verify(ctx context.Context, raw []byte) (*Token, error) {
	if len(raw) > v.cfg.BytesMax {
		return nil, because(TooLong)
	}
	head, body, sum, ok := split(raw)
	if !ok {
		return nil, because(NoToken)
	}
	var h header
	if !decode(head, &h) {
		return nil, because(Malformed)
	}
	if h.Critical != nil { // RFC 7515, 4.1.11
		return nil, because(Critical)
	}
	if !slices.Contains(v.cfg.Algorithms, h.Algorithm) {
		return nil, because(Algorithm)
	}
	signature, err := encoding().DecodeString(string(sum))
	if err != nil {
		return nil, because(Signature)
	}
	if err := v.verify(ctx, &h, string(raw[:len(head)+1+len(body)]), signature); err != nil {
		return nil, err
	}
	claims := jwt.MapClaims{}
	if !decode(body, &claims) || claims == nil {
		return nil, because(Malformed)
	}
	return v.token(claims)
}

// verify tries the keys that a token may be signed with.
func (v *Verifier) verify(ctx context.Context, h *header, signed string, signature []byte) error {
	keys, err := v.keys.Find(ctx, h.Key, h.Algorithm)
	if err != nil {
		return err
	}
	method := jwt.GetSigningMethod(h.Algorithm)
	for _, k := range keys[:min(len(keys), keysTried)] {
		if fits(h.Algorithm, k) && method.Verify(signed, signature, k) == nil {
			return nil
		}
	}
	return because(Signature)
}

// token checks the registered claims. A time that is no second of a calendar is none: as a huge float it
// would become whatever the processor makes of it.
func (v *Verifier) token(claims jwt.MapClaims) (*Token, error) {
	for _, name := range [...]string{"exp", "nbf", "iat"} {
		x, there := claims[name]
		if s, ok := x.(float64); there && (!ok || s < 0 || s > yearEnd) {
			return nil, &Error{Claim, name}
		}
	}
	if err := v.claims.Validate(claims); err != nil {
		return nil, v.ofClaims(err, claims)
	}
	t := &Token{Claims: claims}
	if exp, ok := claims["exp"].(float64); ok {
		t.Expires = time.Unix(int64(exp), 0)
	}
	id, there := claims["jti"]
	if s, ok := id.(string); ok {
		t.ID = s
	} else if there {
		return nil, &Error{Claim, "jti"}
	}
	return t, nil
}

func encoding() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// split cuts a token into its parts. What is not base64url is not there: the library skips line ends.
func split(raw []byte) (head, body, sum []byte, ok bool) {
	for _, c := range raw {
		digit, upper, lower := c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z'
		if !digit && !upper && !lower && c != '.' && c != '-' && c != '_' {
			return nil, nil, nil, false
		}
	}
	parts := bytes.SplitN(raw, []byte("."), 4)
	if len(parts) != 3 || len(parts[0]) == 0 || len(parts[1]) == 0 {
		return nil, nil, nil, false
	}
	return parts[0], parts[1], parts[2], true
}

// decode reads one part into an object.
func decode(part []byte, into any) bool {
	text, err := encoding().DecodeString(string(part))
	return err == nil && shallow(text) && json.Unmarshal(text, into) == nil
}

// shallow reports that a text in JSON has at most depthMax levels.
func shallow(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > depthMax {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}
