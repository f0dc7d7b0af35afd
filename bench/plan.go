//go:build linux

package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"noctule/codec"
)

// Target is the broker and the way to speak to it.
type Target struct {
	Address       string        // host:port, or the path of a unix socket
	Unix          bool          // Address is a path
	WebSocket     bool          // MQTT in binary frames, sub-protocol mqtt
	Path          string        // of the upgrade request; "/mqtt" if empty
	TLS           *tls.Config   // nil: no TLS
	Version       codec.Version // V311 if 0
	Username      string
	Password      string
	KeepAlive     uint16 // seconds; 0: off
	Persistent    bool   // Clean Start off; in MQTT 5 the session never expires
	ReceiveMax    uint16 // MQTT 5; 0: not sent
	Prefix        string // of client ids; "bench" if empty
	Sources       []netip.Addr
	PerSource     int // connections per source address; 0: 25000
	SendBuffer    int // SO_SNDBUF and SO_RCVBUF in bytes; 0: the system's
	ReceiveBuffer int
	Will          *Will  // nil: none
	Users         []User // client i is the one with i modulo their number; empty: Username and Password
}

// User is a user name with its password.
type User struct{ Name, Password string }

// Will is what the broker publishes for a client that goes without DISCONNECT. Its payload is the client id.
type Will struct {
	Topic  string // %i is the client's number in the plan
	QoS    uint8
	Retain bool
}

// Payload sizes. A payload of at least HeaderSize bytes is numbered and stamped.
const (
	HeaderSize  = 16
	DefaultSize = 64
)

// Span is a range of publishers by their number in the plan.
type Span struct{ First, Count int }

// Group is a number of clients that do the same. Functions get the client's index within the group and
// are called once, while clients are made.
type Group struct {
	Name  string
	Count int

	// Receiving:
	Filters func(i int) []string // nil: none
	SubQoS  uint8
	Hears   func(i int) Span // publishers whose every message client i is to get
	Jointly bool             // the group together is to get each message once, in any order
	ReadMax int              // bytes a client reads per second; 0: as they come
	Aside   bool             // counted apart, in Report.Aside, and not in latency, loss and receipt
	Granted int              // topics that the broker is to give each, see RunPresub; 0: nobody looks
	Collect uint32           // retained messages each is to get; all SUBSCRIBE once all are connected

	// Churn is the time in which each client is cut once, in turn, every other time without DISCONNECT, and
	// comes back at once. 0: none.
	Churn time.Duration

	// Sending:
	Topic  func(i int) string // nil: does not publish
	QoS    uint8
	Clear  bool // no payload: deletes the retained message
	Retain bool
	Rate   float64 // messages per second and client, sent when due; 0: as fast as Window lets
	Window int     // messages outstanding per client: undelivered, or if nobody hears them unacknowledged
	Size   int     // bytes of payload; 0: DefaultSize
	Limit  uint32  // messages per client; 0: no limit

	TopicOf func(i int, seq uint32) string // of each message; nil: Topic

	heard func(topic, payload []byte) // each message, on the loop, as a loan; nil: nobody looks at them
}

// Plan is a whole run.
type Plan struct {
	Name   string
	Groups []Group

	ConnectRate int           // connections per second; 0: as fast as Concurrent lets
	Concurrent  int           // connections being made at a time; 0: 200
	Warmup      time.Duration // publishing, not measured
	Duration    time.Duration // measured; 0: only connect
	Drain       time.Duration // longest wait for what is under way at the end; 0: 10 s
	Hold        time.Duration // connected clients rest before publishing
	Threads     int           // event loops; 0: 1
	UntilDone   bool          // end when every publisher has reached its limit, at last after Duration
	Storm       *Storm        // instead of publishing; nil: none
	OwnFiles    bool          // a table of open files per loop, for more connections than a table holds

	presub *presubRun // nil: none
}

// Storm is the cut of every client at the same time and their return.
type Storm struct {
	Rate    int           // connections per second; 0: all at once. Tries after the first are not held to it
	Retries int           // further tries of a client that could not connect; 0: none
	Backoff time.Duration // before the first of them, doubled for each, at most MaxBackoff; 0: 100 ms
	Timeout time.Duration // of one try; 0: the system's
}

// MaxBackoff is the longest wait between two tries of a client.
const MaxBackoff = 10 * time.Second

// withDefaults fills in what is empty and checks the rest.
func (p Plan) withDefaults() (Plan, error) {
	if p.Threads <= 0 {
		p.Threads = 1
	}
	if p.Concurrent <= 0 {
		p.Concurrent = 200
	}
	if p.Drain <= 0 {
		p.Drain = 10 * time.Second
	}
	groups := make([]Group, len(p.Groups))
	for i, g := range p.Groups {
		if g.Size <= 0 {
			g.Size = DefaultSize
		}
		if err := g.check(); err != nil {
			return p, err
		}
		groups[i] = g
	}
	if p.clients() > maxPublishers {
		return p, fmt.Errorf("bench: more than %d clients", maxPublishers)
	}
	if len(groups) == 0 {
		return p, errors.New("bench: nothing to do")
	}
	p.Groups = groups
	return p, nil
}

// check tells what is wrong with a group.
func (g *Group) check() error {
	switch {
	case g.Count < 1:
		return fmt.Errorf("bench: group %s has no clients", g.Name)
	case g.QoS > 2 || g.SubQoS > 2:
		return fmt.Errorf("bench: group %s: QoS is more than 2", g.Name)
	case g.Topic != nil && g.Rate <= 0 && g.Window <= 0:
		return fmt.Errorf("bench: group %s publishes with neither rate nor window", g.Name)
	case g.Topic != nil && g.Rate <= 0 && g.Size < HeaderSize:
		return fmt.Errorf("bench: group %s: a window needs payloads of %d bytes", g.Name, HeaderSize)
	case g.Collect > 0 && (g.Filters == nil || g.Hears != nil || g.Topic != nil):
		return fmt.Errorf("bench: group %s: who collects does nothing else", g.Name)
	case g.Window > 60000:
		return fmt.Errorf("bench: group %s: window is more than 60000", g.Name)
	case g.Churn > 0 && (g.Topic != nil || g.Hears != nil):
		return fmt.Errorf("bench: group %s: clients that churn neither publish nor hear", g.Name)
	case g.Churn > 0 && g.Churn < time.Duration(g.Count)*time.Microsecond:
		return fmt.Errorf("bench: group %s: churn of %v is too fast for %d clients", g.Name, g.Churn, g.Count)
	}
	return nil
}

// clients is the number of all clients.
func (p *Plan) clients() int {
	n := 0
	for _, g := range p.Groups {
		n += g.Count
	}
	return n
}
