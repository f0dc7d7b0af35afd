package presub

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWTConfig is a claim of the token that the client sends as its password: an array of topics, or of objects
// as in a list. The signature is verified.
type JWTConfig struct {
	Claim         string   `yaml:"claim"` // presub
	Algorithms    []string `yaml:"algorithms"`
	SecretFile    string   `yaml:"secret_file"`     // HS256, HS384, HS512
	PublicKeyFile string   `yaml:"public_key_file"` // PEM: RS, PS, ES, EdDSA
	Issuer        string   `yaml:"issuer"`
	Audience      string   `yaml:"audience"`
	SubjectIs     string   `yaml:"subject_is"` // username or clientid: the sub claim must be it
	Leeway        Duration `yaml:"leeway"`
	// WithoutExp lets tokens in that have no exp claim: they are good for ever.
	WithoutExp bool `yaml:"without_exp"`
}

func (j *JWTConfig) check(path string) error {
	setString(&j.Claim, "presub")
	if len(j.Algorithms) == 0 {
		return wrong(path, "algorithms must be named")
	}
	if (j.SecretFile == "") == (j.PublicKeyFile == "") {
		return wrong(path, "either secret_file or public_key_file is needed")
	}
	for i, a := range j.Algorithms {
		m := jwt.GetSigningMethod(a)
		if m == nil || a == "none" || strings.HasPrefix(a, "HS") != (j.SecretFile != "") {
			return wrong(fmt.Sprintf("%s.algorithms[%d]", path, i), "algorithm %q does not fit the key", a)
		}
	}
	if j.SubjectIs == "" {
		return nil
	}
	return oneOf(path+".subject_is", j.SubjectIs, "username", "clientid")
}

// jwtSource reads tokens.
type jwtSource struct {
	cfg    *JWTConfig
	key    any
	parser *jwt.Parser
}

func newJWTSource(cfg *JWTConfig, f files) (*jwtSource, error) {
	s := &jwtSource{cfg: cfg}
	name, path := cfg.SecretFile, ".jwt.secret_file"
	if name == "" {
		name, path = cfg.PublicKeyFile, ".jwt.public_key_file"
	}
	raw, err := f.read(path, name)
	if err != nil {
		return nil, err
	}
	if cfg.SecretFile != "" {
		secret := []byte(strings.TrimRight(string(raw), "\r\n"))
		if len(secret) < 16 {
			return nil, &fileError{path, fmt.Errorf("%s: a secret of less than 16 bytes", name)}
		}
		s.key = secret
	} else if s.key, err = publicKey(raw); err != nil {
		return nil, &fileError{path, fmt.Errorf("%s: %w", name, err)}
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(
			cfg.Algorithms,
		), jwt.WithLeeway(time.Duration(cfg.Leeway)), jwt.WithTimeFunc(now),
	}
	if !cfg.WithoutExp {
		opts = append(opts, jwt.WithExpirationRequired())
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		opts = append(opts, jwt.WithAudience(cfg.Audience))
	}
	s.parser = jwt.NewParser(opts...)
	return s, nil
}

// publicKey reads a key of any of the kinds.
func publicKey(pem []byte) (crypto.PublicKey, error) {
	if k, err := jwt.ParseRSAPublicKeyFromPEM(pem); err == nil {
		return k, nil
	}
	if k, err := jwt.ParseECPublicKeyFromPEM(pem); err == nil {
		return k, nil
	}
	if k, err := jwt.ParseEdPublicKeyFromPEM(pem); err == nil {
		return k, nil
	}
	return nil, errors.New("no RSA, EC or Ed25519 public key")
}

func (s *jwtSource) close() {}

// topics implements source.
func (s *jwtSource) topics(_ context.Context, c *Client) ([]Topic, error) {
	if len(c.Password) == 0 {
		return nil, errNoToken
	}
	claims := jwt.MapClaims{}
	_, err := s.parser.ParseWithClaims(
		string(c.Password),
		claims,
		func(*jwt.Token) (any, error) { return s.key, nil },
	)
	if err != nil {
		return nil, err
	}
	if s.cfg.SubjectIs != "" {
		want := c.Username
		if s.cfg.SubjectIs == "clientid" {
			want = c.ID
		}
		if sub, err := claims.GetSubject(); err != nil || sub == "" || sub != want {
			return nil, fmt.Errorf("the token's subject is not the %s", s.cfg.SubjectIs)
		}
	}
	raw, ok := claims[s.cfg.Claim]
	if !ok {
		return nil, nil
	}
	return topicsOfClaim(raw)
}

// topicsOfClaim reads an array of strings and objects.
func topicsOfClaim(raw any) ([]Topic, error) {
	items, ok := raw.([]any)
	if !ok {
		return nil, errors.New("the claim is no array")
	}
	list := make([]Topic, 0, len(items))
	for i, item := range items {
		if name, ok := item.(string); ok {
			list = append(list, Topic{Topic: name})
			continue
		}
		again, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		part, err := parseList([]byte(`{"topics":[` + string(again) + `]}`))
		if err != nil {
			return nil, fmt.Errorf("item %d of the claim: %w", i+1, err)
		}
		list = append(list, part...)
	}
	return list, nil
}
