package grants

import (
	"context"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/retained"
	"noctule/topictree"
)

// Client is a session as what it has been given sees it, mostly a pointer to it. It is asked on its loop.
type Client[C comparable] interface {
	fanout.Receiver[C]
	// Given is what it has been given. It may be nil, but not with add, which says that something is coming.
	Given(add bool) *List[C]
	// Own reports whether it has subscribed to a filter itself.
	Own(id topictree.FilterID) bool
	// About is what counts of the session, as it is now.
	About() About
}

// About is what counts of a session when it is given something.
type About struct {
	Bounds
	ID, Username  string
	Number        uint64 // of the session in the store
	Subscriptions int    // of its own
	Durable       bool
	Online        bool
}

// isFor reports whether the session is of the user that a request names beside its client id, if it does.
func (a *About) isFor(r *behalf.Request) bool { return r.Username == "" || r.Username == a.Username }

// Bounds are what a client is held to by its rights and by the listener where it came in; that of one that is
// offline is not known.
type Bounds struct {
	Mount  string
	MaxQoS uint8
	Rights Rights // nil: everything is allowed
}

// Rights say what a client may be subscribed to.
type Rights interface {
	MayBeGiven(filter string) bool
}

// Free are the bounds of a client that nothing is known of.
func Free() Bounds { return Bounds{MaxQoS: 2} }

// terms are those for requests of an origin, with any number of topics.
func (b Bounds) terms(o *behalf.Origin) behalf.Terms {
	t := behalf.Terms{Room: -1, MaxQoS: b.MaxQoS, Mount: b.Mount}
	if b.Rights != nil && !o.Bypass {
		t.May = b.Rights.MayBeGiven
	}
	return t
}

// Host has the sessions of a loop. It is asked on the loop.
type Host[C any] interface {
	// Session is the session of a client id; false if there is none.
	Session(id string) (C, bool)
	// Replays is what a client is still to be sent of retained messages, to add to it; and the round of other
	// loops' mail that what is added has to wait for, 0 if it need not wait.
	Replays(c C, wait bool) (q *retained.Queue, round uint64)
	// Changed says that what a client has been given has changed, beside its CONNECT: its retained messages
	// may be sent, and it may want to hear of it.
	Changed(c C)
}

// Shares has messages dealt to members of shared subscriptions. It is asked on the loop.
type Shares[C comparable] interface {
	// Join makes a client a member.
	Join(c C, group, filter []byte, o fanout.Options, subID uint32) (*fanout.Share[C], error)
	// Leave ends that.
	Leave(c C, m *fanout.Share[C])
}

// Loop is the event loop that a Table belongs to.
type Loop interface {
	// MustBeHere panics if it is called elsewhere, in builds that check it.
	MustBeHere()
	// Now is the time of this turn, in Unix milliseconds.
	Now() int64
	// Again runs f in a later turn.
	Again(f func())
}

// Loops are the event loops of a broker, by number. Any goroutine.
type Loops interface {
	// Home is the loop on which the session of a client id lives.
	Home(clientID string) int
	// Post runs f on a loop.
	Post(loop int, f func())
	// Await runs f on a loop and waits until it has called done, at once or later; false when ctx or the
	// broker has ended first, and f then may or may not still run.
	Await(ctx context.Context, loop int, f func(done func())) bool
}
