package source

import (
	"context"
	"fmt"
	"strings"

	"noctule/broker/auth"
	"noctule/broker/auth/token"
	"noctule/broker/lookup"
	"noctule/codec"
)

// openTokens reads the keys of tokens, or begins to fetch them.
func (r *running) openTokens() error {
	j := r.cfg.JWT
	keys, path, err := r.readKeys()
	if err != nil {
		return err
	}
	if r.tokens, err = token.New(j.Config, keys); err != nil {
		return &lookup.FileError{Path: path, Err: err}
	}
	r.markKeys()
	return nil
}

// readKeys are the keys, and the path of the setting that names them.
func (r *running) readKeys() (token.Keys, string, error) {
	j := r.cfg.JWT
	if j.Remote != nil {
		const path = ".jwt.jwks"
		c := *j.Remote
		c.Tell = func(err error) {
			if err != nil {
				r.failing.Add(fmt.Sprintf("Logins: source %s: %v", r.cfg.Name, err))
			}
		}
		remote, err := token.NewRemote(c)
		if err != nil {
			return nil, path, &lookup.FileError{Path: path, Err: err}
		}
		r.keys = remote
		return remote, path, nil
	}
	for _, x := range []struct {
		name, path string
		read       func([]byte) (*token.Set, error)
	}{
		{j.SecretFile, ".jwt.secret_file", func(raw []byte) (*token.Set, error) {
			return token.Secret([]byte(strings.TrimRight(string(raw), "\r\n")))
		}},
		{j.KeyFile, ".jwt.public_key_file", token.PublicKeys},
		{j.SetFile, ".jwt.jwks_file", token.ReadSet},
	} {
		if x.name == "" {
			continue
		}
		raw, err := r.files.Read(x.path, x.name)
		if err != nil {
			return nil, x.path, err
		}
		set, err := x.read(raw)
		if err != nil {
			return nil, x.path, &lookup.FileError{Path: x.path, Err: fmt.Errorf("%s: %w", x.name, err)}
		}
		return set, x.path, nil
	}
	return nil, ".jwt", fmt.Errorf("no key")
}

// admitToken decides by the token that a client sends as its password.
func (r *running) admitToken(ctx context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	t, err := r.tokens.Verify(ctx, l.Password)
	var s *token.Subject
	if err == nil {
		s, err = r.cfg.JWT.Subject(t, l.ClientID, l.Username, l.HasUsername)
	}
	if err != nil {
		return r.refusedToken(l, err)
	}
	p := &auth.Pass{
		Username: s.Username, HasUsername: s.HasUsername, ClientID: s.ClientID, Kind: s.Kind,
		Groups: s.Groups, TokenID: s.ID, Expires: s.Expires, NoWill: r.cfg.JWT.NoWill, Rules: s.Rules,
		PreSubscribe: s.PreSubscribe, Source: r.cfg.Name, Mark: r.mark,
	}
	if r.topics != nil {
		p.Rules = r.e.asking.hold(r, who{s.ClientID, s.Username}, p.Rules)
	}
	return auth.Allow, p
}

// refusedToken is what a token comes to that is not taken. One that may be another source's leaves it to
// that, which has to say yes.
func (r *running) refusedToken(l *auth.Login, err error) (auth.Verdict, *auth.Pass) {
	reason, _ := token.ReasonOf(err)
	if reason == token.KeysUnavailable {
		return r.failed(l, err)
	}
	if reason != token.NoToken {
		const text = "Logins: source %s refuses the token of client %q: %v"
		r.failing.Add(fmt.Sprintf(text, r.cfg.Name, l.ClientID, err))
	}
	switch reason {
	case token.NoToken, token.TooLong, token.UnknownKey, token.Issuer, token.Audience, token.Algorithm,
		token.Signature:
		if !l.HasUsername && reason == token.NoToken {
			return auth.Ignore, nil
		}
		if l.HasUsername {
			return auth.Defer, nil
		}
	default:
	}
	return auth.Deny, nil
}

// step is what a token comes to that a client sends in AUTH, or as Authentication Data of CONNECT.
func (m *method) step(ctx context.Context, l *auth.Login, data []byte) auth.Step {
	r := m.e.acquire(m.key)
	if r == nil || r.tokens == nil {
		if r != nil {
			m.e.release(r)
		}
		return auth.Step{Refused: codec.ServerUnavailable, Why: "its source has no tokens any more"}
	}
	defer m.e.release(r)
	as := *l
	as.Password, as.HasPassword = data, data != nil
	switch v, p := r.admitToken(ctx, &as); v {
	case auth.Allow:
		return auth.Step{Pass: p}
	case auth.Ask:
		return auth.Step{Refused: codec.ServerUnavailable, Why: "nobody says whether the token is good"}
	default:
		return auth.Step{Refused: codec.NotAuthorized, Why: "the token is not taken"}
	}
}
