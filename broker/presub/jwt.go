package presub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"noctule/broker/auth/token"
	"noctule/broker/lookup"
)

// JWTConfig is a claim of the token that the client sends as its password: an array of topics, or of objects
// as in a list. The signature is verified.
type JWTConfig struct {
	Claim         string          `yaml:"claim"` // presub
	Algorithms    []string        `yaml:"algorithms"`
	SecretFile    string          `yaml:"secret_file"`     // HS256, HS384, HS512
	PublicKeyFile string          `yaml:"public_key_file"` // PEM: RS, PS, ES, EdDSA
	Issuer        string          `yaml:"issuer"`
	Audience      string          `yaml:"audience"`
	SubjectIs     string          `yaml:"subject_is"` // username or clientid: the sub claim must be it
	Leeway        lookup.Duration `yaml:"leeway"`
	// WithoutExp lets tokens in that have no exp claim: they are good for ever.
	WithoutExp bool `yaml:"without_exp"`
}

func (j *JWTConfig) check(path string) error {
	lookup.SetString(&j.Claim, "presub")
	if len(j.Algorithms) == 0 {
		return lookup.Wrong(path, "algorithms must be named")
	}
	if (j.SecretFile == "") == (j.PublicKeyFile == "") {
		return lookup.Wrong(path, "either secret_file or public_key_file is needed")
	}
	for i, a := range j.Algorithms {
		if !slices.Contains(token.Algorithms(), a) || strings.HasPrefix(a, "HS") != (j.SecretFile != "") {
			at := fmt.Sprintf("%s.algorithms[%d]", path, i)
			return lookup.Wrong(at, "algorithm %q does not fit the key", a)
		}
	}
	if j.SubjectIs == "" {
		return nil
	}
	return lookup.OneOf(path+".subject_is", j.SubjectIs, "username", "clientid")
}

// jwtSource reads tokens.
type jwtSource struct {
	cfg    *JWTConfig
	tokens *token.Verifier
}

// tokenBytesMax is what fits into a password.
const tokenBytesMax = 65535

func newJWTSource(cfg *JWTConfig, f lookup.Files) (*jwtSource, error) {
	name, path := cfg.SecretFile, ".jwt.secret_file"
	if name == "" {
		name, path = cfg.PublicKeyFile, ".jwt.public_key_file"
	}
	raw, err := f.Read(path, name)
	if err != nil {
		return nil, err
	}
	var keys *token.Set
	if cfg.SecretFile != "" {
		keys, err = token.Secret([]byte(strings.TrimRight(string(raw), "\r\n")))
	} else {
		keys, err = token.PublicKeys(raw)
	}
	if err != nil {
		return nil, &lookup.FileError{Path: path, Err: fmt.Errorf("%s: %w", name, err)}
	}
	c := token.Config{
		Algorithms: cfg.Algorithms, Issuer: cfg.Issuer, Leeway: time.Duration(cfg.Leeway),
		WithoutExp: cfg.WithoutExp, BytesMax: tokenBytesMax, Now: now,
	}
	if cfg.Audience != "" {
		c.Audiences = []string{cfg.Audience}
	}
	tokens, err := token.New(c, keys)
	if err != nil {
		return nil, &lookup.FileError{Path: path, Err: fmt.Errorf("%s: %w", name, err)}
	}
	return &jwtSource{cfg, tokens}, nil
}

// topics implements source.
func (s *jwtSource) topics(ctx context.Context, c *Client) ([]Topic, error) {
	if len(c.Password) == 0 {
		return nil, errNoToken
	}
	t, err := s.tokens.Verify(ctx, c.Password)
	if err != nil {
		return nil, err
	}
	if s.cfg.SubjectIs != "" {
		want := c.Username
		if s.cfg.SubjectIs == "clientid" {
			want = c.ID
		}
		if sub, _ := t.Claims["sub"].(string); sub == "" || sub != want {
			return nil, fmt.Errorf("the token's subject is not the %s", s.cfg.SubjectIs)
		}
	}
	raw, ok := t.Claims[s.cfg.Claim]
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
