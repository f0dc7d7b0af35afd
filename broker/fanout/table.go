package fanout

import (
	"noctule/broker/message"
	"noctule/internal/ring"
	"noctule/topictree"
)

// Receiver is who gets messages, mostly a pointer to a session. The zero value stands for nobody.
type Receiver[C comparable] interface {
	comparable
	// Subscribed is what the only subscriber of a filter has subscribed with.
	Subscribed(id topictree.FilterID) Member[C]
	// Placed notes its place among those who have subscribed to a filter.
	Placed(id topictree.FilterID, at int)
	// PlacedIn notes its place in a set.
	PlacedIn(x *Set[C], at int)
}

// Member is one subscription as the fan-out sees it.
type Member[C any] struct {
	C       C // nobody: left while a slice is under way
	SubID   uint32
	Options Options
}

// Hit is a receiver that a message reaches by one filter.
type Hit[C comparable] struct {
	Member[C]
	By   *Set[C] // set: it is a member of a set that has the filter; nil: it has subscribed itself
	Left bool    // it has gone from By to another set since the message was published
}

// Visit takes a hit of one message.
type Visit[C comparable] func(id topictree.FilterID, h Hit[C], m *message.Message)

// Table is the receivers of one loop, by filter.
type Table[C Receiver[C]] struct {
	// Set by New, then read-only:
	index *topictree.Index
	loop  int
	slice int

	// Owned by the loop:
	only   map[topictree.FilterID]C // subscribers of filters that have no other on this loop
	crowds map[topictree.FilterID]*crowd[C]
}

// crowd is two subscribers or more, or sets and taps that have the filter.
type crowd[C comparable] struct {
	list []Member[C]
	more *extra[C]         // nil mostly
	jobs ring.Ring[job[C]] // messages under way in slices, oldest first
	left int32             // marked members in list
	over uint32            // jobs that have ended
}

// extra is what a crowd has beside members of its own.
type extra[C comparable] struct {
	sets []Ref[C]
	taps []*Tap
}

// Tap is a receiver that is no session.
type Tap struct {
	Take func(m *message.Message) // on the loop; m may be a loan
}

// New makes the table of a loop, whose turns serve slices of so many receivers. Filters that it gives up are
// removed from index.
func New[C Receiver[C]](index *topictree.Index, loop, slice int) *Table[C] {
	return &Table[C]{
		index: index, loop: loop, slice: slice,
		only: make(map[topictree.FilterID]C), crowds: make(map[topictree.FilterID]*crowd[C]),
	}
}

// Join adds a subscriber to a filter that has been added to the index, and returns its place.
func (t *Table[C]) Join(id topictree.FilterID, mb Member[C]) int {
	if one, ok := t.only[id]; ok {
		delete(t.only, id)
		t.crowds[id] = &crowd[C]{list: []Member[C]{one.Subscribed(id), mb}}
		return 1
	}
	cr := t.crowds[id]
	if cr == nil {
		t.only[id] = mb.C
		return 0
	}
	cr.list = append(cr.list, mb)
	return len(cr.list) - 1
}

// Change changes the subscriber at a place. An only one is asked for what it has subscribed with.
func (t *Table[C]) Change(id topictree.FilterID, at int, mb Member[C]) {
	if cr := t.crowds[id]; cr != nil {
		cr.list[at] = mb
	}
}

// Leave removes the subscriber at a place. While messages pass through the crowd in slices the place is only
// marked.
func (t *Table[C]) Leave(id topictree.FilterID, at int) {
	cr := t.crowds[id]
	if cr == nil {
		t.forget(id)
		return
	}
	if cr.jobs.Len() > 0 {
		cr.list[at] = Member[C]{}
		cr.left++
		return
	}
	last := len(cr.list) - 1
	t.place(id, cr, last, at)
	cr.list[last] = Member[C]{}
	cr.list = cr.list[:last]
	if last == 0 {
		t.settle(id, cr)
	}
}

// place moves the member at from to place to.
func (t *Table[C]) place(id topictree.FilterID, cr *crowd[C], from, to int) {
	if from == to {
		return
	}
	mb := cr.list[from]
	cr.list[to] = mb
	mb.C.Placed(id, to)
}

// Attach makes the members of a set receivers of a filter that has been added to the index.
func (t *Table[C]) Attach(id topictree.FilterID, r Ref[C]) {
	x := t.extraOf(id)
	x.sets = append(x.sets, r)
}

// Detach ends that.
func (t *Table[C]) Detach(id topictree.FilterID, x *Set[C]) {
	cr := t.crowds[id]
	refs := cr.more.sets
	for i := range refs {
		if refs[i].Set == x {
			last := len(refs) - 1
			refs[i] = refs[last]
			refs[last] = Ref[C]{}
			cr.more.sets = refs[:last]
			break
		}
	}
	t.settle(id, cr)
}

// AddTap gives a tap the messages of a filter that has been added to the index.
func (t *Table[C]) AddTap(id topictree.FilterID, p *Tap) {
	x := t.extraOf(id)
	x.taps = append(x.taps, p)
}

// DropTap ends that.
func (t *Table[C]) DropTap(id topictree.FilterID, p *Tap) {
	cr := t.crowds[id]
	if cr == nil || cr.more == nil {
		return
	}
	for i, x := range cr.more.taps {
		if x == p {
			cr.more.taps = append(cr.more.taps[:i], cr.more.taps[i+1:]...)
			t.settle(id, cr)
			return
		}
	}
}

// extraOf makes sure that a filter has a crowd, with room for sets and taps.
func (t *Table[C]) extraOf(id topictree.FilterID) *extra[C] {
	cr := t.crowds[id]
	if cr == nil {
		cr = &crowd[C]{}
		if one, ok := t.only[id]; ok {
			cr.list = []Member[C]{one.Subscribed(id)}
			delete(t.only, id)
		}
		t.crowds[id] = cr
	}
	if cr.more == nil {
		cr.more = &extra[C]{}
	}
	return cr.more
}

// settle gives up what a crowd does not need, and the crowd itself when it is empty.
func (t *Table[C]) settle(id topictree.FilterID, cr *crowd[C]) {
	if cr.more != nil && len(cr.more.sets) == 0 && len(cr.more.taps) == 0 {
		cr.more = nil
	}
	if len(cr.list) == 0 && cr.more == nil && cr.jobs.Len() == 0 {
		t.forget(id)
	}
}

// forget gives up a filter that has no receiver on this loop any more.
func (t *Table[C]) forget(id topictree.FilterID) {
	delete(t.only, id)
	delete(t.crowds, id)
	t.index.Remove(id, t.loop)
}

// Len is the number of filters.
func (t *Table[C]) Len() int { return len(t.only) + len(t.crowds) }

// Jobs is the number of messages under way in slices. It walks through all crowds: for tests and checks.
func (t *Table[C]) Jobs() (n int) {
	for _, cr := range t.crowds {
		n += cr.jobs.Len()
	}
	return n
}

// Load is Size, and whether jobs of the filter are under way.
func (t *Table[C]) Load(id topictree.FilterID) (n int, busy bool) {
	cr := t.crowds[id]
	if cr == nil {
		return t.Size(id), false
	}
	return cr.size(), cr.jobs.Len() > 0
}

// Size is the number of receivers of a filter, members of sets among them.
func (t *Table[C]) Size(id topictree.FilterID) int {
	if cr := t.crowds[id]; cr != nil {
		return cr.size()
	}
	if _, ok := t.only[id]; ok {
		return 1
	}
	return 0
}

func (cr *crowd[C]) size() int {
	n := len(cr.list)
	if cr.more != nil {
		for i := range cr.more.sets {
			n += len(cr.more.sets[i].Set.members)
		}
	}
	return n
}

// Only is the subscriber of a filter that has no other receiver: the shortest way for the most frequent kind.
func (t *Table[C]) Only(id topictree.FilterID) (c C, ok bool) {
	c, ok = t.only[id]
	return c, ok
}

// Deliver shows a message to the receivers of a filter, of which Only knows nobody, at once if they are few
// enough for a slice. Else it does nothing and reports that the message is to be queued.
func (t *Table[C]) Deliver(id topictree.FilterID, m *message.Message, visit Visit[C]) (queue bool) {
	cr := t.crowds[id]
	if cr == nil {
		return false
	}
	if len(m.Payload) >= message.ShareFrom {
		m.Keep()
	}
	if cr.jobs.Len() > 0 || cr.size() > t.slice {
		return true
	}
	cr.each(id, m, visit)
	return false
}

// Each shows a message to all receivers of a filter at once, however many they are.
func (t *Table[C]) Each(id topictree.FilterID, m *message.Message, visit Visit[C]) {
	if one, ok := t.only[id]; ok {
		visit(id, Hit[C]{Member: one.Subscribed(id)}, m)
	} else if cr := t.crowds[id]; cr != nil {
		cr.each(id, m, visit)
	}
}

func (cr *crowd[C]) each(id topictree.FilterID, m *message.Message, visit Visit[C]) {
	var nobody C
	for _, mb := range cr.list {
		if mb.C != nobody {
			visit(id, Hit[C]{Member: mb}, m)
		}
	}
	if cr.more == nil {
		return
	}
	for i := range cr.more.sets {
		r := &cr.more.sets[i]
		for _, c := range r.Set.members {
			if c != nobody {
				visit(id, r.hit(c), m)
			}
		}
	}
	cr.more.tap(m)
}

func (x *extra[C]) tap(m *message.Message) {
	for _, t := range x.taps {
		t.Take(m)
	}
}

// Page shows some receivers of a filter from a place on; nobody stands for one that has left while a slice is
// under way. It shows fewer than limit at the end only.
func (t *Table[C]) Page(id topictree.FilterID, from, limit int, show func(c C, o Options)) {
	cr := t.crowds[id]
	if cr == nil {
		if one, ok := t.only[id]; ok && from == 0 && limit > 0 {
			show(one, one.Subscribed(id).Options)
		}
		return
	}
	for ; from < len(cr.list) && limit > 0; from, limit = from+1, limit-1 {
		show(cr.list[from].C, cr.list[from].Options)
	}
	if cr.more == nil {
		return
	}
	from -= len(cr.list)
	for i := range cr.more.sets {
		r := &cr.more.sets[i]
		for ; from < len(r.Set.members) && limit > 0; from, limit = from+1, limit-1 {
			show(r.Set.members[from], r.Options)
		}
		from = max(0, from-len(r.Set.members))
	}
}
