package token

import (
	"errors"
	"strconv"

	"github.com/golang-jwt/jwt/v5"
)

// Reason is why a token is not taken. It is fit for a log line and for a metric: it holds nothing that the
// client has sent.
type Reason uint8

// The reasons.
const (
	NoToken         Reason = iota // there is no password, or it is not three parts of base64url
	TooLong                       // longer than Config.BytesMax
	Malformed                     // a part is not the JSON that it has to be, or deeper than 32 levels
	Critical                      // the header names an extension that must be understood, and none is
	Algorithm                     // none, one that is not configured, or one that does not fit the key
	UnknownKey                    // no key has the token's kid, or none fits its algorithm
	KeysUnavailable               // the keys could not be fetched, or not for too long
	Signature                     // the signature is another's
	Expired                       // exp is over
	NotYet                        // nbf or iat are still to come
	NoExpiry                      // there is no exp
	Issuer                        // iss is missing or another
	Audience                      // aud is missing or names others
	Claim                         // a claim that is needed is missing, or is not what it has to be
	Mismatch                      // what CONNECT says is not what the token says
	numReasons
)

// String is the reason in words.
func (r Reason) String() string {
	words := [numReasons]string{
		"the password is no token", "the token is too long", "the token is malformed",
		"the token needs an extension that is not known", "the token's algorithm is not allowed",
		"the token's key is not known", "the keys for tokens are not available",
		"the token's signature is wrong", "the token has expired", "the token is not valid yet",
		"the token has no exp", "the token is of another issuer", "the token is for another audience",
		"a claim of the token is not usable", "the token is for another client",
	}
	if r < numReasons {
		return words[r]
	}
	return "reason " + strconv.Itoa(int(r))
}

// Error is a token that is not taken. It holds nothing of the token.
type Error struct {
	Reason Reason
	Detail string // the name of a claim, as configured; or ""
}

// Error is the reason in words, and the claim.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Reason.String()
	}
	return e.Reason.String() + ": " + e.Detail
}

// because is an Error.
func because(r Reason) error { return &Error{Reason: r} }

// ReasonOf is why a token is not taken, by an error of this package.
func ReasonOf(err error) (Reason, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason, true
	}
	return 0, false
}

// ofClaims says which of the registered claims a token fails by. The library's own errors are not passed on:
// some quote what they have read.
func (v *Verifier) ofClaims(err error, claims jwt.MapClaims) error {
	for _, row := range [...]struct {
		err     error
		reason  Reason
		missing string // the claim without which this is the reason too, if it is needed
		needed  bool
	}{
		{jwt.ErrTokenExpired, Expired, "", false},
		{jwt.ErrTokenNotValidYet, NotYet, "", false},
		{jwt.ErrTokenUsedBeforeIssued, NotYet, "", false},
		{jwt.ErrTokenInvalidIssuer, Issuer, "iss", v.cfg.Issuer != ""},
		{jwt.ErrTokenInvalidAudience, Audience, "aud", len(v.cfg.Audiences) > 0},
		{nil, NoExpiry, "exp", !v.cfg.WithoutExp},
	} {
		if row.err != nil && errors.Is(err, row.err) || row.needed && claims[row.missing] == nil {
			return because(row.reason)
		}
	}
	return &Error{Reason: Claim, Detail: "exp, nbf, iat, iss or aud"}
}
