package durable

import (
	"slices"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/topictree"
)

// PendingMax is how many bytes may be not yet durable before no socket is read: the disk is too slow.
const PendingMax = 64 << 20

// Options are what all journals of a broker have in common.
type Options struct {
	Committer *store.Committer
	Gates     bool          // what promises something waits
	Routes    *Routes       // who has durable subscribers
	NextID    func() uint64 // of messages; from any goroutine
}

// Ticket is what an acknowledgement waits for: a post of a source.
type Ticket struct {
	Source int    // the loop
	Number uint64 // from 1; 0 none
}

// Journal is what one loop has changed of durable state, and who waits for that. A nil Journal is that of a
// broker without a store: it owes nothing and fails never. It belongs to its loop.
type Journal struct {
	// Set by New, then read-only:
	Options
	source int
	settle func(*store.Batch) // settleRefs

	// Owned by the loop:
	Batch   store.Batch // the operations of this turn
	posted  uint64      // number of the last post
	reached uint64      // number of the last post that is durable
	touched int         // changes of this turn that are not in Batch
	mark    int         // changes of this turn before the current packet
	wanted  bool        // somebody waits for the next post
	full    bool        // too much is not durable
	waiting []waiting
	told    []told                     // oldest first
	unrefs  []*message.Stored          // needed once less when this turn is posted
	members map[topictree.FilterID]int // durable subscribers of this loop, and sets that such have
}

// Waiter is who has a Gate.
type Waiter interface {
	// Opens tells that what g holds for posts up to one may leave. It is called even if the waiter has
	// given g up meanwhile.
	Opens(g *Gate, post uint64)
}

// waiting is a gate that waits for a post.
type waiting struct {
	of   Waiter
	gate *Gate
	post uint64
}

// told is somebody who is told when a post is durable.
type told struct {
	post uint64
	f    func()
}

// New is the journal of one loop.
func New(source int, o Options) *Journal {
	j := &Journal{Options: o, source: source, members: make(map[topictree.FilterID]int)}
	j.settle = j.settleRefs
	return j
}

// changes counts what this turn has changed so far.
func (j *Journal) changes() int { return j.Batch.Len() + j.touched + len(j.unrefs) }

// Begin notes that the handling of a packet begins.
func (j *Journal) Begin() {
	if j != nil {
		j.mark = j.changes()
	}
}

// Changed reports whether the handling of the packet has changed anything so far that its answer promises.
func (j *Journal) Changed() bool { return j != nil && j.changes() != j.mark }

// Touch notes a change of this turn that is not in Batch.
func (j *Journal) Touch() { j.touched++ }

// Post hands what this turn has changed to the committer. behind says that from now on too much is not
// durable, until CaughtUp says otherwise.
func (j *Journal) Post() (behind bool) {
	if j == nil || j.changes() == 0 && !j.wanted {
		return false
	}
	j.posted++
	var last func(*store.Batch)
	if len(j.unrefs) > 0 {
		last = j.settle
	}
	j.Committer.Post(j.source, j.posted, &j.Batch, last)
	j.touched, j.mark, j.wanted = 0, 0, false
	if !j.full && j.Committer.Pending() > PendingMax && !j.Committer.Failing() {
		j.full = true
		return true
	}
	return false
}

// CaughtUp reports once that Post's behind is over: the disk has caught up, or what needs it is refused
// anyway.
func (j *Journal) CaughtUp() bool {
	if !j.full || j.Committer.Pending() > PendingMax/2 && !j.Committer.Failing() {
		return false
	}
	j.full = false
	return true
}

// Failing reports whether the store cannot keep anything at the moment.
func (j *Journal) Failing() bool { return j != nil && j.Committer.Failing() }

// settleRefs gives up what this turn has not needed any more, and deletes what nobody needs. It does so
// when the post that says why gets its place: on another loop the last reference may go, or a new one
// come, meanwhile, and a message must go neither before all that refers to it nor after it was put again.
func (j *Journal) settleRefs(b *store.Batch) {
	for _, st := range j.unrefs {
		if st.Unref() {
			b.DeleteMessage(st.ID)
		}
	}
	clear(j.unrefs)
	j.unrefs = j.unrefs[:0]
}

// Stored is what the store knows of m, which is kept for it.
func (j *Journal) Stored(m *message.Message) *message.Stored {
	k := m.Keep()
	if k.Stored == nil {
		k.Stored = message.NewStored(j.NextID(), k)
	}
	return k.Stored
}

// Ref notes one reference more to m, which is put into the store with the first.
func (j *Journal) Ref(m *message.Message) (id uint64) {
	st := j.Stored(m)
	if st.Ref() {
		j.Batch.PutMessage(st.ID, m)
	}
	return st.ID
}

// Unref notes one less, from the end of the turn on, to what may not be in memory.
func (j *Journal) Unref(st *message.Stored) { j.unrefs = append(j.unrefs, st) }

// Ticket is that of the post of this turn, which is made even if nothing changes any more.
func (j *Journal) Ticket() Ticket {
	j.wanted = true
	return Ticket{Source: j.source, Number: j.posted + 1}
}

// Reached is the last post that is durable.
func (j *Journal) Reached() uint64 { return j.reached }

// Wait makes what goes into g from now on wait for the post of this turn.
func (j *Journal) Wait(of Waiter, g *Gate) {
	if t := j.Ticket(); g.wait(t.Number) {
		j.waiting = append(j.waiting, waiting{of: of, gate: g, post: t.Number})
	}
}

// Tell calls f once the post of this turn is durable.
func (j *Journal) Tell(f func()) { j.told = append(j.told, told{j.Ticket().Number, f}) }

// Durably returns when what the loop has changed so far is durable, for other goroutines: await runs a
// function on the loop and waits until that has called done. False is await's, which has given up. Without a
// store, and where nothing waits for it, there is nothing to wait for.
func (j *Journal) Durably(await func(f func(done func())) bool) bool {
	return j == nil || !j.Gates || await(j.Tell)
}

// keepWaiting is the longest list of waiting gates whose memory is kept.
const keepWaiting = 4096

// Durable notes that posts up to one are durable, and lets out what has waited for them.
func (j *Journal) Durable(post uint64) {
	j.reached = post
	n := 0
	for ; n < len(j.waiting) && j.waiting[n].post <= post; n++ {
		w := &j.waiting[n]
		w.of.Opens(w.gate, post)
	}
	left := copy(j.waiting, j.waiting[n:])
	clear(j.waiting[left:])
	j.waiting = j.waiting[:left]
	if left == 0 && cap(j.waiting) > keepWaiting {
		j.waiting = nil
	}
}

// Answer tells those who wait for posts up to the last durable one.
func (j *Journal) Answer() {
	n := 0
	for n < len(j.told) && j.told[n].post <= j.reached {
		n++
	}
	if n == 0 {
		return
	}
	ready := slices.Clone(j.told[:n])
	j.told = slices.Delete(j.told, 0, n)
	for i := range ready {
		ready[i].f()
	}
}
