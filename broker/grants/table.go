package grants

import (
	"context"
	"slices"
	"sync/atomic"

	"noctule/broker/behalf"
	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/retained"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/topictree"
)

// Doors take requests from any goroutine but a loop's. They have the tables of all loops.
type Doors[C Client[C]] struct {
	// Set by NewDoors and Open, then read-only:
	common
	loops  Loops
	tables []*Table[C]
}

// common is what the tables of all loops share.
type common struct {
	// Set by NewDoors, then read-only:
	index    *topictree.Index
	retained *retained.Index
	short    func() bool // memory is short

	// Guarded by the committer's lock:
	kept map[store.SetKey]int // lists of topics in the store, and how many sets of loops have them

	// Atomic:
	revision     atomic.Uint64 // the last that was given out
	pendingCount atomic.Int64  // requests that wait for their clients
	pendingBytes atomic.Int64  // of their filters
	shares       waitingShares // of those
}

// Config is what a Table is made of.
type Config[C Client[C]] struct {
	Loop      Loop
	Host      Host[C]
	Shares    Shares[C]
	Receivers *fanout.Table[C]
	Journal   *durable.Journal // nil without a store
	ByUser    bool             // sessions are looked for by username
	// Go runs f on a goroutine of its own, which may use Loops.
	Go func(f func())
	// Ended hears of topics that have ended by themselves, on such a goroutine; nil: nobody wants to.
	Ended func(behalf.Ended)
	Warn  func(format string, args ...any)
}

// Limits are the settings that may change.
type Limits struct {
	Subscriptions int   // most of a session, its own included; 0: any number
	Pending       int   // requests that may wait, of all loops
	PendingBytes  int64 // and bytes of their filters
	Retained      bool  // there are retained messages
}

// Count is a table's part of the broker's numbers.
type Count struct {
	Topics  int64 // given to sessions, a topic once for each that has it
	Plain   int64 // those of Topics that are no shared subscriptions
	Sets    int64 // lists
	Expired int64 // requests that have waited in vain; only goes up
}

// Table is what the sessions of one loop have been given, and what waits for those that are to come. It
// belongs to the loop.
type Table[C Client[C]] struct {
	// Set by Open, then read-only:
	*common
	loops     Loops
	at        int // number of the loop
	loop      Loop
	host      Host[C]
	dealers   Shares[C]
	receivers *fanout.Table[C]
	journal   *durable.Journal
	warn      func(format string, args ...any)
	aside     func(f func())
	ended     func(behalf.Ended)

	// Owned by the loop:
	limits  Limits
	sets    map[setKey]*set[C]
	loose   []*set[C] // pinned while grants are given
	waiting waitingList[C]
	ends    endings[C]
	users   map[string][]C // by username, if anybody asks by it
	count   Count
	census  *Census[C] // nil until somebody counts
}

// NewDoors makes doors for tables that are opened later. short reports whether memory is short.
func NewDoors[C Client[C]](x *topictree.Index, r *retained.Index, loops Loops, short func() bool) *Doors[C] {
	d := &Doors[C]{loops: loops}
	d.index, d.retained, d.short, d.kept = x, r, short, map[store.SetKey]int{}
	return d
}

// Open makes the table of the next loop. No door is used before all are open.
func (d *Doors[C]) Open(c Config[C], l Limits) *Table[C] {
	t := &Table[C]{
		common: &d.common, loops: d.loops, at: len(d.tables), loop: c.Loop, host: c.Host, dealers: c.Shares,
		receivers: c.Receivers, journal: c.Journal, warn: c.Warn, aside: c.Go, ended: c.Ended,
		limits: l,
	}
	if c.ByUser {
		t.users = make(map[string][]C)
	}
	d.tables = append(d.tables, t)
	return t
}

// Limit replaces the limits.
func (t *Table[C]) Limit(l Limits) {
	t.loop.MustBeHere()
	t.limits = l
}

// Count is the numbers as they are now.
func (t *Table[C]) Count() Count {
	t.loop.MustBeHere()
	c := t.count
	c.Sets = int64(len(t.sets))
	return c
}

// Waits is the number of requests that wait for their clients.
func (d *Doors[C]) Waits() int64 { return d.pendingCount.Load() }

// Begin sets the revision that those given out come behind, if it is higher than what was set before. No loop
// runs yet.
func (d *Doors[C]) Begin(revision uint64) { d.revision.Store(max(d.revision.Load(), revision)) }

// Rename notes that a session of the user before is one of another now; "" is nobody.
func (t *Table[C]) Rename(c C, before, now string) {
	t.loop.MustBeHere()
	if t.users == nil || before == now {
		return
	}
	if before != "" {
		t.unlist(c, before)
	}
	if now != "" {
		t.users[now] = append(t.users[now], c)
	}
}

// Of is the sessions of users, each once if no user is named twice; known is false if nobody has asked for
// the index, or for those without a username, who are not in it.
func (t *Table[C]) Of(users []string) (list []C, known bool) {
	t.loop.MustBeHere()
	if t.users == nil || slices.Contains(users, "") {
		return nil, false
	}
	for _, name := range users {
		list = append(list, t.users[name]...)
	}
	return list, true
}

func (t *Table[C]) unlist(c C, name string) {
	var nobody C
	list := t.users[name]
	for i := range list {
		if list[i] == c {
			last := len(list) - 1
			list[i] = list[last]
			list[last] = nobody
			list = list[:last]
			break
		}
	}
	if len(list) == 0 {
		delete(t.users, name)
		return
	}
	t.users[name] = list
}

// effect is how a filter, plain or shared, stands with a client but for what one origin has given it. The
// client's own subscription comes first, then the earliest origin's; of shared ones the last counts.
func (t *Table[C]) effect(c C, filter, but string) behalf.Effect {
	if id, ok := t.lookup(filter); ok && c.Own(id) {
		if _, _, shared := codec.SplitShare([]byte(filter)); shared { // its options are with who deals
			return behalf.Effect{Had: true}
		}
		return behalf.Effect{Had: true, First: true, QoS: c.Subscribed(id).Options.QoS()}
	}
	e := behalf.Effect{Had: c.Given(false).Has(filter, but)}
	for g := c.Given(false).head(); e.Had && g != nil && g.origin.Name != but; g = g.next {
		if g.set == nil {
			continue
		}
		if i, ok := g.set.find(filter); ok && !g.muted(filter) {
			e.First, e.QoS = true, g.set.topics[i].Options.QoS()
			break
		}
	}
	return e
}

func (t *Table[C]) lookup(filter string) (topictree.FilterID, bool) {
	if group, name, shared := codec.SplitShare([]byte(filter)); shared {
		return t.index.LookupShared(group, name)
	}
	return t.index.Lookup([]byte(filter))
}

// terms are what a client is held to by requests of an origin.
func (t *Table[C]) terms(c C, o *behalf.Origin) behalf.Terms {
	t.loop.MustBeHere()
	a := c.About()
	terms := a.terms(o)
	if full := t.limits.Subscriptions; full > 0 {
		l := c.Given(false)
		terms.Room = max(0, full-a.Subscriptions-l.Topics()+l.of(o.Name).len())
	}
	return terms
}

// on runs f on the table's loop and waits for it; false when ctx has ended first, and f then may or may not
// still run.
func (t *Table[C]) on(ctx context.Context, f func()) bool {
	return t.loops.Await(ctx, t.at, func(done func()) {
		f()
		done()
	})
}

// has reports whether there is a session of a client id.
func (t *Table[C]) has(clientID string) bool {
	_, ok := t.host.Session(clientID)
	return ok
}
