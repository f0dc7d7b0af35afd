package goauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"noctule/broker/auth"
	"noctule/broker/auth/token"
)

// tokens is the backend jwt: the username is a token. Whoever is let in has the username that is in it from
// then on, so that the token itself is in no log line, list or topic.
type tokens struct {
	cfg    *JWT
	strict *token.Verifier // nil: the webservice alone looks at it
	late   *token.Verifier // takes what has expired
	web    *web            // of Remote
	db     *database       // of Local
	list   *access         // of ACLs
}

// ages is a leeway by which every token that has expired is one that has not.
const ages = 200 * 365 * 24 * time.Hour

func (c *Chain) openJWT(b *Backend) (backend, error) {
	t := &tokens{cfg: b.JWT}
	if b.JWT.Mode != Remote || b.JWT.Parse {
		keys, err := token.Secret([]byte(b.JWT.Secret))
		if err != nil {
			return nil, fmt.Errorf("auth_opt_jwt_secret: %w", err)
		}
		cfg := token.Config{Algorithms: []string{"HS256", "HS384", "HS512"}, WithoutExp: true}
		if t.strict, err = token.New(cfg, keys); err != nil {
			return nil, err
		}
		cfg.Leeway = ages
		if t.late, err = token.New(cfg, keys); err != nil {
			return nil, err
		}
	}
	var err error
	switch b.JWT.Mode {
	case Remote:
		t.web = newWeb(&b.JWT.HTTP, c, b.Name)
	case Local:
		t.db, err = newDatabase(b.JWT.SQL, c, b)
	default:
		if t.list, err = loadAccess(b.JWT.ACL, nil); err == nil {
			c.warnings = append(c.warnings, t.list.warnings...)
		}
	}
	return t, err
}

// verify checks a token: its claims, and whether it has expired. ok is false for one that is none, or another
// backend's user.
func (t *tokens) verify(ctx context.Context, text string) (tok *token.Token, expired, ok bool) {
	tok, err := t.strict.Verify(ctx, []byte(text))
	if err == nil {
		return tok, false, true
	}
	if r, is := token.ReasonOf(err); is && r == token.Expired && t.cfg.ExpiredUser {
		if tok, err = t.late.Verify(ctx, []byte(text)); err == nil {
			return tok, true, true
		}
	}
	return nil, false, false
}

func (t *tokens) login(ctx context.Context, _ *auth.Login, q *question) (f found, err error) {
	raw := q.user
	who := question{client: q.client, from: q.from, token: raw}
	var tok *token.Token
	if t.strict != nil {
		var expired, ok bool
		if tok, expired, ok = t.verify(ctx, raw); !ok {
			return found{}, nil
		}
		name, ok := tok.Claims[t.cfg.NameClaim].(string)
		if !ok || auth.ValidName(name) == "" {
			return found{}, nil
		}
		who.user, f.name = name, name
		if !t.cfg.ExpiredACL {
			f.expires, f.barred = tok.Expires, expired
		}
		if expired {
			f.expires = time.Time{}
		}
	}
	switch {
	case t.web != nil:
		host, ok := t.host(tok)
		if !ok {
			return found{}, nil
		}
		f.yes, err = ask(ctx, t.web.users, q.from, who.user, raw, host)
	case t.db != nil:
		f.yes, err = t.db.exists(ctx, &who)
	default:
		f.yes = true
	}
	if err != nil || !f.yes {
		return found{}, err
	}
	if f.name == "" {
		f.name = subject(raw, t.cfg.NameClaim)
	}
	q.token = raw
	return f, nil
}

// host is where a token is shown: "" is where the options say. ok is false if its issuer may not be asked.
func (t *tokens) host(tok *token.Token) (host string, ok bool) {
	if t.cfg.HTTP.Host != "" {
		return "", true
	}
	if tok != nil {
		host, _ = tok.Claims["iss"].(string)
	}
	return host, slices.Contains(t.cfg.Hosts, host)
}

// subject is a name for who has come with a token that a webservice has found good: the one in it, or if it
// has none a part of its hash.
func subject(raw, claim string) string {
	if parts := strings.Split(raw, "."); len(parts) == 3 {
		var claims map[string]any
		body, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(body, &claims) == nil {
			if name, ok := claims[claim].(string); ok && auth.ValidName(name) != "" {
				return name
			}
		}
	}
	sum := sha256.Sum256([]byte(raw))
	return "token-" + hex.EncodeToString(sum[:8])
}

// shown is what a webservice is told of a client.
func (t *tokens) shown(ctx context.Context, q *question) (user, host string, ok bool) {
	if q.token == "" {
		return "", "", false // it has come without one
	}
	if t.strict == nil {
		return "", "", true
	}
	tok, _, ok := t.verify(ctx, q.token)
	if !ok && t.cfg.ExpiredACL {
		var err error
		tok, err = t.late.Verify(ctx, []byte(q.token))
		ok = err == nil
	}
	if !ok {
		return "", "", false
	}
	host, ok = t.host(tok)
	return q.user, host, ok
}

func (t *tokens) superuser(ctx context.Context, q *question) (bool, error) {
	switch {
	case q.token == "":
		return false, nil
	case t.db != nil:
		return t.db.superuser(ctx, q)
	case t.web == nil || t.cfg.HTTP.Superuser == "":
		return false, nil
	}
	user, host, ok := t.shown(ctx, q)
	if !ok {
		return false, nil
	}
	return ask(ctx, t.web.supers, q.from, user, q.token, host)
}

func (t *tokens) grant(ctx context.Context, q *question) (*grant, error) {
	switch {
	case q.token == "": // whom another backend has let in is none of its users
		return &grant{rules: nothing(), subs: nothing()}, nil
	case t.db != nil:
		return t.db.grant(ctx, q)
	case t.list != nil:
		return t.list.of(names{q.user, q.client}), nil
	}
	return nil, nil //nolint:nilnil // as backend says
}

func (t *tokens) topic(ctx context.Context, q *question, access int, topic string) (bool, error) {
	user, host, ok := t.shown(ctx, q)
	if !ok {
		return false, nil
	}
	return ask(ctx, t.web.topics, q.from, user, q.token, host, q.client, topic, fmt.Sprint(access))
}

func (t *tokens) close() {
	if t.web != nil {
		t.web.close()
	}
	if t.db != nil {
		t.db.close()
	}
}
