// Package behalf says what it is to subscribe a session on its behalf: the words that the broker, which does
// it, and those who ask for it share, and what a request comes to (NewPlan), a matter of lists alone.
// Its values are immutable once made and may be used from any goroutine.
package behalf

import (
	"context"
	"errors"
	"time"

	"noctule/codec"
	"noctule/codec/im"
)

// Policy says what becomes of an UNSUBSCRIBE of a client for a subscription that it has not made itself.
type Policy uint8

// The policies.
const (
	Allow  Policy = iota // it ends, for as long as the session lasts or until it is asked for anew
	Sticky               // it ends for this connection; the next CONNECT brings it back
	Deny                 // the client is refused: Not authorized
)

// Origin says who a subscription comes from. Subscriptions of one origin are reconciled with each other and
// never with those of another.
type Origin struct {
	Name        string // "presub:NAME" or "api:PRINCIPAL"; "client" is the client itself
	Owner       string // who shares what may wait with others; "": the origin does itself
	Unsubscribe Policy
	// Bypass leaves the access rules of the client out of account.
	Bypass bool
	// PerConnect says that each CONNECT makes the list anew: what no CONNECT repeats is revoked.
	PerConnect bool
}

// Client is the name of the origin that every client is itself.
const Client = "client"

// Action is what a request asks for.
type Action = im.Action

// State is what has become of a topic.
type State = im.State

// Request asks for subscriptions of one session, or of all sessions of a user.
type Request struct {
	ClientID string // or
	Username string // all its sessions; with ClientID, whose session it has to be when it takes effect
	Action   Action
	Origin   *Origin
	Topics   *Set
	// Wait is how long the request may wait for a client that is not connected; 0: not at all.
	Wait time.Duration
	// Hold keeps the request for that long even though the client is connected, for its next CONNECT.
	Hold bool
	// IfRevision, when not nil, is the revision that the session must have.
	IfRevision *uint64
	// Promises, when not nil, makes Apply return when the request is in effect, though it may not be stored
	// yet: whoever is answered must be answered after Promises.Wait.
	Promises *Promises
	// Later, when not nil, is told when a request that was pending has taken effect, or has been dropped. It
	// is called on an event loop and must not block.
	Later func(Answer)
}

// Result is the answer for one topic.
type Result struct {
	Filter string
	Code   codec.Reason // as in SUBACK or UNSUBACK of MQTT 5
	State  State
}

// Answer is the answer for one session.
type Answer struct {
	ClientID string
	Code     Code
	// Limit says in words which limit it was, with TooMuch.
	Limit    string
	Revision uint64
	Results  []Result
}

// Code is what has come of a request as a whole: Done, or why nothing has been done. Its numbers are those
// that answers have in JSON and in the binary form; they are no reason codes of MQTT.
type Code uint8

// The codes.
const (
	Done          Code = 0x00 // each topic has its own code
	WrongRevision Code = 0x80 // the session's is not IfRevision
	NotAllowed    Code = 0x87 // who asks has no right to
	Unavailable   Code = 0x88 // who knows the list could not be asked
	Busy          Code = 0x89 // there was no answer in time: it may still be done
	NoSession     Code = 0x92 // there is no such session, and the request does not wait for one
	TooMuch       Code = 0x97 // waits already, or has been given to the session; or it could not be stored
	Malformed     Code = 0x99 // it is not a request
)

// String is what answers say of a code in words.
func (c Code) String() string {
	switch c {
	case Done:
		return "Success"
	case WrongRevision:
		return "the session's revision is another"
	case NotAllowed:
		return "Not authorized"
	case Unavailable:
		return "Server unavailable"
	case Busy:
		return "Server busy"
	case NoSession:
		return "no such session"
	case TooMuch:
		return "too much"
	case Malformed:
		return "Payload format invalid"
	default:
		return codec.Reason(c).String()
	}
}

// Errors of List.
var (
	ErrNoSession = errors.New("behalf: no such session")
	ErrNoAnswer  = errors.New("behalf: no answer in time")
)

// Grant is the subscriptions of one origin for a client that connects.
type Grant struct {
	Origin *Origin
	Topics *Set // empty: none
	// Keep leaves what the session has of this origin as it is; Topics is not used.
	Keep bool
	// Late, when not nil, says that this is not the client's list yet, which somebody goes on asking for. It
	// is called on an event loop when the client is in, and must not block.
	Late func()
	// Refused, when not nil, hears of the topics that the client may not have, by filter as the broker has
	// it, before CONNACK and off the event loops.
	Refused func(filters map[string]codec.Reason)
}

// Holding is the subscriptions of one origin that a session has.
type Holding struct {
	Origin   string
	Bypass   bool
	Revision uint64
	Topics   []Topic
	// Ends is when each of Topics ends, in Unix seconds, 0 never; nil: none does.
	Ends []int64
	// Muted are filters of Topics that the client has unsubscribed from, in no order.
	Muted []string
	// Late says that the list has not come yet.
	Late bool
}

// Pending is a request that waits for its client, or for the sessions of a user.
type Pending struct {
	ClientID, Username string
	Origin             string
	Whole              bool // its topics replace those of the origin; else they are added
	Until              time.Time
	Count              int
	Topics             []Topic // Count of them, or nil
	Ends               []int64 // as those of a Holding
}

// Ended is topics that have ended by themselves.
type Ended struct {
	Origin   string
	Topics   int // in all sessions together
	Sessions int
	ClientID string // of one of the sessions
}

// Listing is all subscriptions of a session.
type Listing struct {
	ClientID, Username string
	Connected          bool
	Revision           uint64
	Holdings           []Holding
	// Pending is what waits for the client's next CONNECT.
	Pending []Pending
	// Mount is the mount point that is part of all filters here.
	Mount string
	// MayRead says what access rules allow; nil: everything. It may be used on any goroutine.
	MayRead func(topic []byte) bool
}

// Broker is what a broker can do on behalf of sessions. Its methods may be called from any goroutine but a
// loop's.
type Broker interface {
	// Apply does what r asks for and returns when it is in effect, and stored if the session is: one answer
	// for a client id, one for each session of a user.
	Apply(ctx context.Context, r *Request) []Answer
	// List returns the subscriptions of a session, and what waits for its client. The errors are
	// ErrNoSession, beside which there may be what waits, and ErrNoAnswer if ctx or the broker has ended
	// before it was known whether there is a session.
	List(ctx context.Context, clientID string) (Listing, error)
	// Move gives all sessions whose list of an origin is from the list to, and returns their number.
	Move(ctx context.Context, o *Origin, from, to *Set) (int, error)
}
