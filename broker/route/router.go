package route

import (
	"fmt"

	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/mail"
	"noctule/broker/message"
	"noctule/internal/ring"
	"noctule/topictree"
	"noctule/wsnet"
)

// Receiver is who gets messages, mostly a pointer to a session.
type Receiver[C comparable] interface {
	fanout.Receiver[C]
	// Picks says as what it gets a message that has come to it by a filter, if it does. Where it is to get
	// one copy of what several filters bring it, once is where its place is noted until then.
	Picks(id topictree.FilterID, h fanout.Hit[C], m *message.Message) (
		mb fanout.Member[C], once *uint32, ok bool)
	// Take gives it a message by a subscription.
	Take(mb fanout.Member[C], m *message.Message)
	// TakeShared gives it a message that it was dealt, on its loop; false when it takes nothing any more.
	TakeShared(sh *fanout.Share[C], m *message.Message) bool
}

// Loop is the loop of a Router: *wsnet.Loop.
type Loop interface {
	// Again runs a task in the next turn, behind what others do.
	Again(t wsnet.Task)
	// MustPost runs a task, of whatever goroutine, behind those that were posted before.
	MustPost(t wsnet.Task)
	// Now is the time of this turn, in milliseconds.
	Now() int64
}

// Options are what a Router is made of.
type Options[C Receiver[C]] struct {
	Index   *topictree.Index
	Table   *fanout.Table[C] // the receivers of this loop
	Journal *durable.Journal // nil without a store
	Loop    Loop
	Number  int  // of the loop
	Slice   int  // how many receivers are served in one turn
	Once    bool // one copy, at the highest QoS, to who asks for that [MQTT-3.3.5-1]; may be changed

	// Only gives a message to the only subscriber of a filter, Deliver to one of several. They are called for
	// each delivery: plain functions.
	Only    func(c C, id topictree.FilterID, m *message.Message)
	Deliver fanout.Visit[C]

	// Halt stops and resumes reading the loop's sockets; halts nest.
	Halt func(on bool)
	// Hold has no more come from who publishes the message that is handled, until release is called; nil if
	// nobody does.
	Hold func() (release func())
	// Lost is told of a message for a shared subscription that has no members.
	Lost func()
}

// Routers are those of all loops. They are made before the first message is published.
type Routers[C Receiver[C]] struct{ list []*Router[C] }

// Router is how messages go from one loop to all receivers.
type Router[C Receiver[C]] struct {
	Options[C]
	all *Routers[C]

	// Owned by the loop:

	// Live is the message that is being given to receivers; it holds none at other times.
	Live message.Heads
	// Shares is the shared subscriptions that this loop deals.
	Shares   fanout.Shares[C]
	boxes    []mail.Box[*Router[C], order[C]] // one for each loop
	passages ring.Ring[*passage[C]]
	passed   uint32 // passages that have ended
	backlog  int    // jobs of crowds, and passages

	// Owned by the loop, scratch:
	matches topictree.Matches
	far     message.Message // loan of a message from another loop
	picked  picks[C]
	into    *picks[C] // where pick puts whom it picks
	pick    fanout.Visit[C]
}

// backlogMax is the number of jobs and passages under way at which a loop stops reading sockets.
const backlogMax = 16

// New makes the Router of the next loop.
func (a *Routers[C]) New(o Options[C]) *Router[C] {
	r := &Router[C]{Options: o, all: a}
	r.pick = func(id topictree.FilterID, h fanout.Hit[C], m *message.Message) {
		if mb, once, ok := h.C.Picks(id, h, m); ok {
			r.into.add(mb, once)
		}
	}
	a.list = append(a.list, r)
	return r
}

// Publish gives a message, which may be a loan, to all who have subscribed; false when no subscription
// matches. now is the loop's.
func (r *Router[C]) Publish(m *message.Message, now int64) (matched bool) {
	r.Index.Start(m.Topic, &r.matches)
	over := r.Index.More(m.Topic, &r.matches, steps)
	hits := r.matches.Hits
	if len(hits) == 0 && over {
		return false
	}
	r.Live.Reset(m, now)
	defer r.Live.Release()
	once := r.Once && len(hits) > 1
	if len(hits) >= manyFrom || !over || r.passages.Len() > 0 && r.behindPassage(m.Topic) ||
		once && r.crowded(hits) {
		r.publishMany(m)
		return true
	}
	if once {
		r.publishOnce(m, hits)
		return true
	}
	own := uint64(1) << r.Number
	for i := range hits {
		h := &hits[i]
		switch {
		case h.Shared:
			r.dealHit(m, h)
		case h.Loops == own:
			r.fanOut(h.ID, m, false)
		default:
			if h.Loops&own != 0 {
				r.fanOut(h.ID, m, false)
			}
			r.mailTo(m, h.ID, h.Loops&^own)
		}
	}
	return true
}

// fanOut delivers m to this loop's subscribers of one filter. r.Live holds m. owed says that the store has a
// transit of m to this loop for the filter, and later that slices pay for that when they are over.
func (r *Router[C]) fanOut(id topictree.FilterID, m *message.Message, owed bool) (later bool) {
	if c, ok := r.Table.Only(id); ok {
		r.Only(c, id, m)
		return false
	}
	if !r.Table.Deliver(id, m, r.Deliver) {
		return false
	}
	m = m.Keep()
	first := r.Table.Queue(id, m, owed || r.Journal.Owe(m, id, r.Number))
	r.begin()
	if first {
		r.Loop.Again(&sliceTask[C]{r, id})
	}
	return true
}

// sliceTask serves the next slice of a crowd.
type sliceTask[C Receiver[C]] struct {
	r  *Router[C]
	id topictree.FilterID
}

// Run implements wsnet.Task.
func (t *sliceTask[C]) Run(*wsnet.Loop) {
	r := t.r
	m := r.Table.Under(t.id)
	if m == nil {
		return
	}
	r.Live.Reset(m, r.Loop.Now())
	over, owed := r.Table.Serve(t.id, r.Deliver)
	r.Live.Release()
	if over {
		if owed {
			r.Journal.Paid(m, t.id)
		}
		r.end()
	}
	if !r.Table.Rest(t.id) {
		r.Loop.Again(t)
	}
}

// begin counts a job or a passage that goes on in later turns.
func (r *Router[C]) begin() {
	if r.backlog++; r.backlog == backlogMax {
		r.Halt(true)
	}
}

// end is the end of begin.
func (r *Router[C]) end() {
	if r.backlog--; r.backlog == backlogMax-1 {
		r.Halt(false)
	}
}

// Check holds the Router against what must be so between two tasks: its backlog is what is under way.
func (r *Router[C]) Check() error {
	if n := r.Table.Jobs() + r.passages.Len(); n != r.backlog {
		return fmt.Errorf("route: %d jobs and passages are under way, %d counted", n, r.backlog)
	}
	if len(r.picked.list) > 0 || r.into != nil {
		return fmt.Errorf("route: %d are picked and have got nothing", len(r.picked.list))
	}
	return nil
}
