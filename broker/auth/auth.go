// Package auth decides who may connect and what a client may do: password files, ACL files, the
// order in which several of them are asked, and a pool that hashes passwords away from the event loops.
//
// What is loaded is immutable: a reload makes new values and swaps the Policy as a whole. Checks of topics
// allocate nothing and may run on any goroutine; Authenticate may take long, since hashing passwords is
// slow on purpose, and belongs in a Pool.
package auth

import (
	"context"
	"net/netip"
)

// Access is a set of things that a client may do with a topic or a filter.
type Access uint8

// The kinds of access. A check asks for one of them.
const (
	Read        Access = 1 << iota // a message is delivered to the client
	Write                          // the client publishes
	Subscribe                      // the client subscribes to a filter
	Unsubscribe                    // the client gives a filter up
)

// Number is what Mosquitto's plug-ins call a kind of access when they ask elsewhere: 1 to read, 2 to write,
// and 4 for what is about a filter.
func (a Access) Number() int {
	switch a {
	case Read:
		return 1
	case Write:
		return 2
	default:
		return 4
	}
}

// Verdict is the answer of one of several that are asked.
type Verdict uint8

// The verdicts.
const (
	Ignore Verdict = iota // no opinion: as if it had not been asked
	Defer                 // no opinion, but somebody must say Allow
	Deny                  // no
	Allow                 // yes
	Ask                   // only Asker.Ask knows; of Rules that are Askers. Where nobody can wait it is no
)

// String is the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Ignore:
		return "ignore"
	case Defer:
		return "defer"
	case Deny:
		return "deny"
	case Ask:
		return "ask"
	default:
		return "allow"
	}
}

// Login is what a client presents in CONNECT. Who gets one keeps nothing of it.
type Login struct {
	ClientID    string
	Username    string
	Password    []byte
	HasUsername bool
	HasPassword bool
	// Will is the topic of its will, as Rules see it; nil: none, or nobody asks. Who has to be asked about
	// it can be asked now, and not when it is sent.
	Will []byte
	// Identified says that a TLS certificate or a pre-shared key vouches for the username: no password is
	// checked.
	Identified bool
	// Address is where the client connects from, or what a proxy said; the zero Addr for unix sockets.
	Address netip.Addr
	// Local says that the client's own socket is of this machine: nobody has claimed that.
	Local bool
}

// Authenticator checks logins, on any goroutine. It may be slow; one that is not always slow also has
//
//	Slow(*Login) bool
//
// which says whether Authenticate would be, for this login.
type Authenticator interface {
	Authenticate(l *Login) Verdict
}

// Rules is what one client may do. It is immutable and may be used on any goroutine.
type Rules interface {
	// Check decides about one kind of access; topic is a filter for Subscribe and Unsubscribe. It allocates
	// nothing.
	Check(a Access, topic []byte) Verdict
	// Covers reports that every topic which filter matches may be read. False is always safe: then each
	// message is checked.
	Covers(filter []byte) bool
}

// Asker is Rules that cannot decide everything at once: about some things their Check says Ask, and then who
// can wait calls Ask. A broker does so when a client publishes, subscribes or unsubscribes, and holds that
// client's connection meanwhile. It does not for what is delivered: Read is decided by Check, and an Ask
// there is no, as it is for a will.
type Asker interface {
	Rules
	// Ask decides what Check has left open: Allow or Deny; anything else, or the end of ctx, is no answer. It
	// runs on a goroutine of its own and may block; topic is the caller's, not to be kept.
	Ask(ctx context.Context, a Access, topic []byte) Verdict
}

// Authorizer knows the rules of each client.
type Authorizer interface {
	// Rules may return nil: no opinion on anything.
	Rules(clientID, username string, hasUsername bool) Rules
}

// Policy is the security settings of one listener, or of all. It is immutable: a reload swaps it as a
// whole.
type Policy struct {
	// AllowAnonymous admits clients without a username; without any Authenticator it admits all.
	AllowAnonymous bool
	// Authenticators are asked in order; the first Allow or Deny decides. One that does not know a username
	// says Defer: the next one may know it, and if none does it is no.
	Authenticators []Authenticator
	// Authorizers say what may be done, as Combine says.
	Authorizers []Authorizer
	// Combine is what several Authorizers, and the Rules of a Pass, come to.
	Combine Combine
	// Methods are those of enhanced authentication. A client that uses one is not asked for a password.
	Methods Methods
}

// Combine is what the verdicts of several Rules come to.
type Combine uint8

// The ways to combine.
const (
	// Every of them has to grant a right: one Deny is no, and a Defer without an Allow. So one more source
	// never gives what another one does not.
	Every Combine = iota
	// First is as Mosquitto has it: the first Allow or Deny decides, in the order of the sources.
	First
)

// Slow reports whether Authenticate would take long for this login, so that it must not run on a loop.
func (p *Policy) Slow(l *Login) bool {
	if l.Identified {
		return false
	}
	for _, a := range p.Authenticators {
		if slow(a, l) {
			return true
		}
	}
	return false
}

func slow(a Authenticator, l *Login) bool {
	s, ok := a.(interface{ Slow(l *Login) bool })
	return !ok || s.Slow(l)
}

// Authenticate decides whether a client may connect. Who is identified by certificate or key may. Then the
// authenticators are asked; if nobody decides, clients without a username follow AllowAnonymous, and those
// with one get in only if no authenticator deferred and AllowAnonymous holds.
func (p *Policy) Authenticate(l *Login) bool {
	if l.Identified {
		return true
	}
	deferred := false
	for _, a := range p.Authenticators {
		switch a.Authenticate(l) {
		case Allow:
			return true
		case Deny, Ask: // an Authenticator may take its time itself
			return false
		case Defer:
			deferred = true
		case Ignore:
		}
	}
	if deferred && l.HasUsername {
		return false
	}
	return p.AllowAnonymous
}

// Mark is a number that stays while what the authenticators have for a username stays; 0 where nobody has
// anything. An Authenticator takes part with
//
//	Mark(username string) uint64
func (p *Policy) Mark(username string) uint32 {
	var sum uint64
	for _, a := range p.Authenticators {
		if m, ok := a.(interface{ Mark(username string) uint64 }); ok {
			sum = sum*31 + m.Mark(username)
		}
	}
	if sum == 0 {
		return 0
	}
	return max(1, uint32(sum^sum>>32)) // each client keeps one
}

// StillValid reports whether a client that was let in, with a Mark then, would be let in now, as far as that
// can be told without its password: a username must have what it had.
func (p *Policy) StillValid(username string, hasUsername bool, mark uint32) bool {
	switch {
	case !hasUsername:
		return p.Authenticate(&Login{})
	case len(p.Authenticators) == 0:
		return p.AllowAnonymous
	}
	return mark != 0 && p.Mark(username) == mark
}
