package fanout

import (
	"iter"
	"maps"
	"math"
	"sync/atomic"

	"noctule/broker/message"
	"noctule/topictree"
)

// Share is one receiver's part in a shared subscription (MQTT 5, 4.8.2; Mosquitto offers it to MQTT 3 clients
// too). One loop deals a shared subscription, whatever loops its members live on.
type Share[C comparable] struct {
	// Set by who makes it, then read-only:
	C     C
	ID    topictree.FilterID
	Home  int        // the loop that deals
	Loop  int        // the receiver's
	Mark  uint8      // of the shared subscription, on what comes by it
	Ready *Readiness // the receiver's

	// Owned by the receiver's loop:
	Options Options
	SubID   uint32
	Gone    bool // it has left
}

// State is how a member of shared subscriptions is.
type State uint32

// The states, best first.
const (
	Idle    State = iota // a message would be sent at once
	Full                 // online, but its window or its output is full
	Offline              // a message would be queued, or dropped
	Stuffed              // its queue is full
	states
)

// Readiness is how a receiver tells those who deal how it is, so that they never wait for it. The zero value
// is Idle. Any goroutine.
type Readiness struct{ v atomic.Uint32 }

const (
	stateBits = 2              // the state; above it is the largest packet that the receiver takes, 0 for any
	over      = math.MaxUint32 // the receiver has ended and still is in groups
	ranks     = 2 * uint32(states)
)

// Set tells of a state and the receiver's Maximum Packet Size, 0 if it has none. No packet is larger than
// 2^28 bytes and a few.
func (r *Readiness) Set(s State, most uint32) {
	v := uint32(s) | min(most, over>>stateBits-1)<<stateBits
	if r.v.Load() != v {
		r.v.Store(v)
	}
}

// End has nothing dealt any more.
func (r *Readiness) End() { r.v.Store(over) }

// rank is how well a message that has at most so many bytes can be taken, the lower the better: who takes
// none as large comes last. From ranks on it is not dealt.
func (r *Readiness) rank(size int) uint32 {
	v := r.v.Load()
	if v == over {
		return ranks
	}
	if most := v >> stateBits; most != 0 && size > int(most) {
		return v&(1<<stateBits-1) + uint32(states)
	}
	return v & (1<<stateBits - 1)
}

// sizeMost is how many bytes m has at most as a PUBLISH: its parts, and 32 for header, lengths and what is
// the receiver's own.
func sizeMost(m *message.Message) int {
	return 32 + len(m.Topic) + len(m.Properties) + len(m.Payload)
}

// Shares is the shared subscriptions that one loop deals. The zero value is ready; it belongs to the loop.
type Shares[C comparable] struct {
	groups map[topictree.FilterID]*Group[*Share[C]]
	early  map[topictree.FilterID][]Early
}

// Early is a message for a shared subscription of which no member is known on the loop that deals.
type Early struct {
	Message *message.Message
	Owed    bool // the store has a transit of it
}

// Group is the members of a shared subscription, nil if there are none.
func (s *Shares[C]) Group(id topictree.FilterID) *Group[*Share[C]] { return s.groups[id] }

// All is the shared subscriptions, in no order.
func (s *Shares[C]) All() iter.Seq[topictree.FilterID] { return maps.Keys(s.groups) }

// Join adds a member.
func (s *Shares[C]) Join(m *Share[C]) {
	g := s.groups[m.ID]
	if g == nil {
		if s.groups == nil {
			s.groups = make(map[topictree.FilterID]*Group[*Share[C]])
		}
		g = &Group[*Share[C]]{}
		s.groups[m.ID] = g
	}
	g.Join(m)
}

// Leave takes a member out.
func (s *Shares[C]) Leave(m *Share[C]) {
	g := s.groups[m.ID]
	if g.Leave(m); g.Len() == 0 {
		delete(s.groups, m.ID)
	}
}

// Deal finds who gets m: the next member that is ready, else the next that is online, else the next that has
// room in its queue, else the next one; one that takes no message as large only if there is no other. nil if
// all have gone.
func (s *Shares[C]) Deal(id topictree.FilterID, m *message.Message) *Share[C] {
	g := s.groups[id]
	if g == nil {
		return nil
	}
	size := sizeMost(m)
	mb, _ := g.Deal(ranks, func(mb *Share[C]) uint32 { return mb.Ready.rank(size) })
	return mb
}

// Begun reports whether messages can be dealt at once: there are members, and nothing is early.
func (s *Shares[C]) Begun(id topictree.FilterID) bool {
	return s.groups[id] != nil && s.early[id] == nil
}

// Defer has a message wait for Deferred; first says that nobody does.
func (s *Shares[C]) Defer(id topictree.FilterID, e Early) (first bool) {
	if s.early == nil {
		s.early = make(map[topictree.FilterID][]Early)
	}
	s.early[id] = append(s.early[id], e)
	return len(s.early[id]) == 1
}

// Deferred takes what has waited, in its order.
func (s *Shares[C]) Deferred(id topictree.FilterID) []Early {
	list := s.early[id]
	delete(s.early, id)
	return list
}
