package auth

import (
	"context"
	"math"
	"time"

	"noctule/codec"
)

// Pass is what a source of logins, or a Method, knows of a client that it has let in, beside that it may
// come. It is immutable once it is given.
type Pass struct {
	// Username takes the place of CONNECT's, if HasUsername says so. Without it a source of logins leaves
	// CONNECT's; a Method lets only clients in then that have none.
	Username    string
	HasUsername bool
	ClientID    string    // takes the place of CONNECT's; "": that stays
	Kind        string    // of terminal; "" if the source does not know
	Groups      []string  // that the client is in
	TokenID     string    // for the table of denials; ""
	Expires     time.Time // the right to be here ends, by the system's clock; the zero Time: never
	// NoWill says that its will is not sent when that time ends the connection.
	NoWill bool
	// Rules are one more source of rules, which has to grant as the others have to (Policy.Combine).
	// nil: none.
	Rules Rules
	// PreSubscribe are topics to be subscribed to, as package presub reads them; nil: none.
	PreSubscribe any
	Source       string // its name: "jwt", "sql: users"; for operators
	// Mark is a number that changes when what the source has of the user does; for its Keeps.
	Mark uint64
}

// PassSource is an Authenticator that has more to say than a Verdict. It is asked off the loops, where it may
// take its time: its Slow must not say no, and its Authenticate is not called for CONNECT.
type PassSource interface {
	Authenticator
	// Admit is Authenticate: Defer or Ignore if it does not know the user, Allow, with a Pass or without, or
	// Deny. Ask says that it cannot tell now, which ends the CONNECT as ServerUnavailable: no other source
	// is asked in its place. ctx ends when nobody waits any more; Compute is for its hashing.
	Admit(ctx context.Context, l *Login) (Verdict, *Pass)
}

// Admit is Authenticate for who can wait: Success, perhaps with a Pass, NotAuthorized, or ServerUnavailable
// if one of the sources cannot tell. Authenticators that are no PassSource run where Compute says.
func (p *Policy) Admit(ctx context.Context, l *Login) (*Pass, codec.Reason) {
	if l.Identified {
		return nil, codec.Success
	}
	deferred := false
	for i, a := range p.Authenticators {
		v, pass, r := admitBy(ctx, a, l, i == len(p.Authenticators)-1)
		switch {
		case r != codec.Success:
			return nil, r
		case v == Allow:
			return pass, codec.Success
		case v == Deny:
			return nil, codec.NotAuthorized
		case v == Ask:
			return nil, codec.ServerUnavailable
		case v == Defer:
			deferred = true
		}
	}
	if deferred && l.HasUsername || !p.AllowAnonymous {
		return nil, codec.NotAuthorized
	}
	return nil, codec.Success
}

// admitBy asks one source; last says that its not knowing a user is a failed login.
func admitBy(
	ctx context.Context, a Authenticator, l *Login, last bool,
) (v Verdict, pass *Pass, r codec.Reason) {
	if x, ok := a.(PassSource); ok {
		v, pass = x.Admit(ctx, l)
		return v, pass, codec.Success
	}
	if !slow(a, l) {
		return plain(a.Authenticate(l)), nil, codec.Success
	}
	r = Compute(ctx, l, func() (failed bool) {
		v = plain(a.Authenticate(l))
		return v == Deny || last && v == Defer
	})
	return v, nil, r
}

// plain is the verdict of an Authenticator that is no PassSource: it may take its time itself, so Ask is no.
func plain(v Verdict) Verdict {
	if v == Ask {
		return Deny
	}
	return v
}

// Admits reports whether some of the sources are a PassSource.
func (p *Policy) Admits() bool {
	for _, a := range p.Authenticators {
		if _, ok := a.(PassSource); ok {
			return true
		}
	}
	return false
}

// computer runs what hashes for a login, and waits: see Compute.
type computer func(ctx context.Context, l *Login, work func() (failed bool)) codec.Reason

// computerKey is where a context has its computer.
type computerKey struct{}

// WithComputer is a context in which Compute hands its work to run.
func WithComputer(
	ctx context.Context, run func(ctx context.Context, l *Login, work func() (failed bool)) codec.Reason,
) context.Context {
	return context.WithValue(ctx, computerKey{}, computer(run))
}

// Compute runs work, which compares a password with a hash for a login, where that is done: in a broker in
// its Pool, in which few of them run at a time and addresses take turns; failed, its result, slows down the
// address of who guesses. It returns when work has, with Success, or without running it, with the reason for
// that, which is then the answer to the login.
func Compute(ctx context.Context, l *Login, work func() (failed bool)) codec.Reason {
	if run, ok := ctx.Value(computerKey{}).(computer); ok {
		return run(ctx, l, work)
	}
	work()
	return codec.Success
}

// Stay is what of a Pass outlives CONNECT. It is immutable; nil is that of who has come without one.
type Stay struct {
	Expires int64  // Unix ms by the system's clock; 0: never
	TokenID string // ""
	Method  string // by which the client has come; "": without
	Source  string
	Groups  []string
	Kind    string
	Rules   Rules // nil: none
	Mark    uint64
	NoWill  bool
}

// Stay is what outlives CONNECT; method is the Authentication Method by which the client has come, ""
// without. p may be nil.
func (p *Pass) Stay(method string) *Stay {
	if p == nil {
		return nil
	}
	s := &Stay{
		TokenID: p.TokenID, Method: method, Source: p.Source, Groups: p.Groups, Kind: p.Kind,
		Rules: p.Rules, Mark: p.Mark, NoWill: p.NoWill,
	}
	if !p.Expires.IsZero() {
		s.Expires = min(max(1, p.Expires.UnixMilli()), math.MaxInt64/2)
	}
	return s
}

// Left is how long a client may stay, in milliseconds, at a time of the system's clock: below 1 no longer.
func (s *Stay) Left(now int64) int64 {
	if s == nil || s.Expires == 0 {
		return math.MaxInt64
	}
	return s.Expires - now
}

// SendsWill says whether the will is sent when the time is over.
func (s *Stay) SendsWill() bool { return s == nil || !s.NoWill }

// rules are those of the pass; s may be nil.
func (s *Stay) rules() Rules {
	if s == nil {
		return nil
	}
	return s.Rules
}

// Keeps reports whether a client that came with a Pass would be let in now, as far as that can be told
// without asking: who gave it, or what is in its place after a reload, has to say so. A PassSource, or a
// Method, takes part with
//
//	Keeps(s *Stay, username string) bool
//
// which is called on the loops; one without it keeps nobody.
func (p *Policy) Keeps(s *Stay, username string) bool {
	type keeper interface {
		Keeps(s *Stay, username string) bool
	}
	if s.Method != "" {
		k, ok := p.Methods[s.Method].(keeper)
		return ok && k.Keeps(s, username)
	}
	for _, a := range p.Authenticators {
		if k, ok := a.(keeper); ok && k.Keeps(s, username) {
			return true
		}
	}
	return false
}
