package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// Keys are what signatures are verified with.
type Keys interface {
	// Find gives the keys that a token may be signed with, at least one: those of its kid, or all that fit
	// its algorithm if it names none. Otherwise the error is an *Error with UnknownKey or KeysUnavailable.
	Find(ctx context.Context, kid, algorithm string) ([]any, error)
	// Fits reports whether there can be a key for an algorithm.
	Fits(algorithm string) bool
}

// Bounds of keys.
const (
	secretMin = 16 // bytes
	rsaMin    = 2048
	rsaMax    = 8192
	keysMax   = 64 // of a set
)

// key is one key: a []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
type key struct {
	id        string // kid; ""
	algorithm string // the only one that it is for; "": all that fit
	value     any
}

// Set are keys that do not change. It is immutable.
type Set struct{ list []key }

// Secret is a key for HS256, HS384 and HS512.
func Secret(secret []byte) (*Set, error) {
	if len(secret) < secretMin {
		return nil, fmt.Errorf("a secret of less than %d bytes", secretMin)
	}
	return &Set{[]key{{value: secret}}}, nil
}

// PublicKeys reads keys, or certificates, in PEM: RSA, EC and Ed25519. There may be several, so that one can
// take the place of another without a moment in which neither is there.
func PublicKeys(text []byte) (*Set, error) {
	s := &Set{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		k, err := publicKey(pem.EncodeToMemory(block))
		if err != nil {
			return nil, err
		}
		if s.list = append(s.list, key{value: k}); len(s.list) > keysMax {
			return nil, fmt.Errorf("more than %d keys", keysMax)
		}
	}
	if len(s.list) == 0 {
		return nil, errors.New("no RSA, EC or Ed25519 public key")
	}
	return s, nil
}

// publicKey reads a key of any of the kinds.
func publicKey(block []byte) (any, error) {
	if k, err := jwt.ParseRSAPublicKeyFromPEM(block); err == nil {
		return k, strong(k)
	}
	if k, err := jwt.ParseECPublicKeyFromPEM(block); err == nil {
		return k, nil
	}
	if k, err := jwt.ParseEdPublicKeyFromPEM(block); err == nil {
		return k, nil
	}
	return nil, errors.New("no RSA, EC or Ed25519 public key")
}

// strong says whether an RSA key is neither too short to be safe (RFC 7518, 3.3) nor too long to be used.
func strong(k *rsa.PublicKey) error {
	if n := k.N.BitLen(); n < rsaMin || n > rsaMax {
		return fmt.Errorf("an RSA key of %d bits; %d to %d are taken", n, rsaMin, rsaMax)
	}
	return nil
}

// ReadSet reads a JSON Web Key Set (RFC 7517) of a file. Keys that are of no use here are left out: those for
// encryption, of other curves, too short; secrets are taken.
func ReadSet(text []byte) (*Set, error) { return readSet(text, true) }

// errNoSet says that a text is no JSON Web Key Set; what is in it is not repeated.
var errNoSet = errors.New("not a JSON Web Key Set")

func readSet(text []byte, secrets bool) (*Set, error) {
	var doc struct {
		Keys []jwkset.JWKMarshal `json:"keys"`
	}
	if !shallow(text) || json.Unmarshal(text, &doc) != nil {
		return nil, errNoSet
	}
	if len(doc.Keys) > keysMax {
		return nil, fmt.Errorf("more than %d keys", keysMax)
	}
	s := &Set{}
	for i := range doc.Keys {
		if k, ok := readKey(doc.Keys[i]); ok && (secrets || !symmetric(k.value)) {
			s.list = append(s.list, k)
		}
	}
	if len(s.list) == 0 {
		return nil, errors.New("a JSON Web Key Set without a key that is of use")
	}
	return s, nil
}

// readKey takes one key of a set. Certificates in it are not looked at: the set is what is trusted.
func readKey(m jwkset.JWKMarshal) (key, bool) {
	if m.USE != "" && m.USE != jwkset.UseSig {
		return key{}, false
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, false
	}
	m.X5C, m.X5T, m.X5TS256, m.X5U = nil, "", "", ""
	secret := m.KTY == jwkset.KtyOct
	options := jwkset.JWKMarshalOptions{Private: secret}
	j, err := jwkset.NewJWKFromMarshal(m, options, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, false
	}
	k := key{id: m.KID, algorithm: string(m.ALG), value: j.Key()}
	switch v := k.value.(type) {
	case []byte:
		return k, len(v) >= secretMin
	case *rsa.PublicKey:
		return k, strong(v) == nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k, true
	}
	return key{}, false
}

func symmetric(k any) bool {
	_, ok := k.([]byte)
	return ok
}

// Find implements Keys. Of several keys with one kid all are tried. Keys without a kid are everybody's.
func (s *Set) Find(_ context.Context, kid, algorithm string) ([]any, error) {
	if found := s.find(kid, algorithm); len(found) > 0 {
		return found, nil
	}
	return nil, because(UnknownKey)
}

func (s *Set) find(kid, algorithm string) []any {
	var found []any
	for i := range s.list {
		k := &s.list[i]
		if (kid == "" || k.id == "" || k.id == kid) && (k.algorithm == "" || k.algorithm == algorithm) &&
			fits(algorithm, k.value) {
			found = append(found, k.value)
		}
	}
	return found
}

// Fits implements Keys.
func (s *Set) Fits(algorithm string) bool {
	for i := range s.list {
		if k := &s.list[i]; (k.algorithm == "" || k.algorithm == algorithm) && fits(algorithm, k.value) {
			return true
		}
	}
	return false
}

// fits reports whether a key is of the kind that an algorithm takes: what keeps a public key from being a
// secret.
func fits(algorithm string, k any) bool {
	switch v := k.(type) {
	case []byte:
		return strings.HasPrefix(algorithm, "HS")
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		bits := map[string]int{"ES256": 256, "ES384": 384, "ES512": 521}
		return v.Curve.Params().BitSize == bits[algorithm]
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}
