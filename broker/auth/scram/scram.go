// Package scram is the authentication method SCRAM-SHA-256 of MQTT 5 (RFC 5802, 7677): the password is not
// sent, the broker does not have it, and it proves to the client that it knows the user.
//
// What is stored is what RFC 5803 and PostgreSQL have (hash.Scram). Other forms are not used, though $7$
// would give the keys of SCRAM-SHA-512: who steals such a file could log in by it without any guessing. A
// user that is unknown, or has another form, gets a challenge like others, always the same, and is refused at
// its end.
package scram

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/xdg-go/scram"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/codec"
)

// Name is the Authentication Method.
const Name = "SCRAM-SHA-256"

// dataMax bounds a message of the client.
const dataMax = 4096

// Store knows how passwords are stored: auth.Passwords does.
type Store interface {
	// Stored is what is stored for a username; nil if it is not known.
	Stored(username string) *hash.Hash
}

// Method implements auth.Method. It is immutable; a password file that is read again needs a new one.
type Method struct {
	server *scram.Server
	store  Store
}

// New makes the method of a store. nonce is for tests; nil means random ones.
func New(s Store, nonce func() string) (*Method, error) {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	server, err := scram.SHA256.NewServer(func(username string) (scram.StoredCredentials, error) {
		return lookUp(s, seed[:], username), nil
	})
	if err != nil {
		return nil, err
	}
	if nonce != nil {
		server = server.WithNonceGenerator(nonce)
	}
	return &Method{server, s}, nil
}

// lookUp is what is stored for a user, or what is like it: with a salt that is always the same for a name,
// and keys that no password has.
func lookUp(s Store, seed []byte, username string) scram.StoredCredentials {
	if h := s.Stored(username); h != nil {
		if k, ok := h.Scram(); ok {
			return scram.StoredCredentials{
				KeyFactors: scram.KeyFactors{Salt: string(k.Salt), Iters: k.Iterations},
				StoredKey:  k.Stored, ServerKey: k.Server,
			}
		}
	}
	of := func(what string) []byte {
		mac := hmac.New(sha256.New, seed)
		mac.Write([]byte(what + username))
		return mac.Sum(nil)
	}
	salt := string(of("salt")[:hash.ScramSaltBytes])
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: salt, Iters: hash.ScramIterations},
		StoredKey:  of("stored"), ServerKey: of("server"),
	}
}

// Name implements auth.Method.
func (m *Method) Name() string { return Name }

// exchange is one conversation.
type exchange struct {
	store     Store
	c         *scram.ServerConversation
	user      string // CONNECT's; it must be the conversation's
	named     bool
	challenge bool // has been made
}

// Begin implements auth.Method. A client may leave its first message for the first challenge (RFC 5802, 5):
// that is empty then.
func (m *Method) Begin(ctx context.Context, l *auth.Login, data []byte) (auth.Exchange, auth.Step) {
	x := &exchange{store: m.store, c: m.server.NewConversation(), user: l.Username, named: l.HasUsername}
	if len(data) == 0 {
		return x, auth.Step{Data: []byte{}}
	}
	return x, x.Continue(ctx, data)
}

// Continue implements auth.Exchange.
func (x *exchange) Continue(_ context.Context, data []byte) auth.Step {
	if len(data) > dataMax {
		return refused("a message is too long")
	}
	out, err := x.c.Step(string(data))
	switch {
	case err != nil && x.challenge:
		return refused("the proof is wrong")
	case err != nil:
		return refused("a message is malformed, or wants what there is not")
	case x.c.AuthzID() != "" && x.c.AuthzID() != x.c.Username():
		return refused("it asks to be another user")
	case x.named && x.user != x.c.Username():
		return refused("the username is not that of CONNECT")
	case !x.challenge:
		x.challenge = true
		return auth.Step{Data: []byte(out)}
	case !x.c.Valid():
		return refused("the proof is wrong")
	}
	pass := &auth.Pass{
		Username: x.c.Username(), HasUsername: true, Source: Name, Mark: mark(x.store, x.c.Username()),
	}
	return auth.Step{Data: []byte(out), Pass: pass}
}

// mark changes with what is stored of a user; 0 if nothing is.
func mark(s Store, username string) uint64 {
	if h := s.Stored(username); h != nil {
		return h.Mark()
	}
	return 0
}

// Keeps says whether a client stays when settings are replaced: its user must have what it had.
func (m *Method) Keeps(s *auth.Stay, username string) bool {
	return s.Mark != 0 && mark(m.store, username) == s.Mark
}

func refused(why string) auth.Step {
	return auth.Step{Refused: codec.NotAuthorized, Why: "SCRAM: " + why}
}
