package grants

import (
	"container/heap"
	"context"
	"maps"
	"slices"

	"noctule/broker/behalf"
)

// Topics may end by themselves. A set in which some do waits, while sessions have it, in the heap of its
// loop, by when the first of them ends. Then its members get another set, without those: it is put together
// and planted off the loop as that of a request is, one set of a loop at a time, and members are moved in
// pieces, so that a loop is not held up however many end at the same moment. Sets in which nothing ends are
// in no heap. Waiting requests are not either: what has ended of them is left out when they are taken, and
// their time is over with their last topic.

// ending is what a set has of which something ends.
type ending[C comparable] struct {
	topics *behalf.Set // all of the set
	first  int64       // when the first ends, in seconds
	at     int         // place in the heap; -1: none
	busy   bool        // its members are being moved
}

// endingOf is that of a set with these contents, nil if nothing ends.
func endingOf[C comparable](x *behalf.Set) *ending[C] {
	first := x.FirstEnd()
	if first == 0 {
		return nil
	}
	return &ending[C]{topics: x, first: first, at: -1}
}

// of is the contents of the set, without those that the index had no room for.
func (e *ending[C]) of(x *set[C]) *behalf.Set {
	if x.len() == e.topics.Len() {
		return e.topics
	}
	return e.topics.Where(x.contains)
}

// due reports whether something in the set has ended at a time, in seconds.
func (x *set[C]) due(now int64) bool { return x != nil && x.ending != nil && x.ending.first <= now }

// endings is the sets of a loop that sessions have and in which something ends: a heap, the next in front.
type endings[C comparable] struct {
	sets []*set[C]
	busy bool           // a goroutine sees to those that are due
	past []behalf.Ended // what has ended while there was no broker, to be told
}

// Len implements heap.Interface.
func (h *endings[C]) Len() int { return len(h.sets) }

// Less implements heap.Interface.
func (h *endings[C]) Less(i, j int) bool { return h.sets[i].ending.first < h.sets[j].ending.first }

// Swap implements heap.Interface.
func (h *endings[C]) Swap(i, j int) {
	h.sets[i], h.sets[j] = h.sets[j], h.sets[i]
	h.sets[i].ending.at, h.sets[j].ending.at = i, j
}

// Push implements heap.Interface.
func (h *endings[C]) Push(x any) {
	st := x.(*set[C])
	st.ending.at = len(h.sets)
	h.sets = append(h.sets, st)
}

// Pop implements heap.Interface.
func (h *endings[C]) Pop() any {
	last := len(h.sets) - 1
	st := h.sets[last]
	h.sets[last] = nil
	h.sets = h.sets[:last]
	st.ending.at = -1
	return st
}

// watch enters a set that sessions have; once.
func (h *endings[C]) watch(x *set[C]) {
	if x.ending.at < 0 && !x.ending.busy {
		heap.Push(h, x)
	}
}

// forget takes a set out that no session has any more.
func (h *endings[C]) forget(x *set[C]) {
	if x.ending.at >= 0 {
		heap.Remove(h, x.ending.at)
	}
}

// seconds is the time of this turn.
func (t *Table[C]) seconds() int64 { return t.loop.Now() / 1000 }

// endDue sees to the sets that are due at a time, in milliseconds. On the loop.
func (t *Table[C]) endDue(now int64) {
	e := &t.ends
	if past := e.past; past != nil {
		e.past = nil
		t.aside(func() { t.tellEnded(past) })
	}
	if !e.busy && len(e.sets) > 0 && e.sets[0].due(now/1000) {
		e.busy = true
		t.aside(t.endAll)
	}
}

// endAll sees to one set after the other until none is due. Off the loop.
func (t *Table[C]) endAll() {
	ctx := context.Background() // Await ends with the broker
	for {
		var m *endingNow[C]
		if !t.on(ctx, func() { m = t.nextDue() }) || m == nil {
			return
		}
		left := m.from.ending.topics.After(m.now)
		if m.to = t.hold(ctx, left, m.from.key.bypass); m.to == nil && left.Len() > 0 {
			return
		}
		for more := true; more; {
			if !t.on(ctx, func() { more = m.step() }) {
				return
			}
		}
		t.letGo(m.to)
		t.letGo(m.from)
		t.tellEnded(slices.Collect(maps.Values(m.told)))
	}
}

// tellEnded tells who wants to hear of it.
func (t *Table[C]) tellEnded(list []behalf.Ended) {
	if t.ended == nil {
		return
	}
	for _, x := range list {
		t.ended(x)
	}
}

// nextDue is the next set that is due, pinned; nil if none is.
func (t *Table[C]) nextDue() *endingNow[C] {
	e := &t.ends
	if len(e.sets) == 0 || !e.sets[0].due(t.seconds()) {
		e.busy = false
		return nil
	}
	x := heap.Pop(e).(*set[C])
	x.pins++
	x.ending.busy = true
	return &endingNow[C]{
		t: t, from: x, now: t.seconds(), at: x.members.Len(), told: map[string]behalf.Ended{},
	}
}

// endingNow is a set on its way to what is left of it.
type endingNow[C Client[C]] struct {
	t     *Table[C]
	from  *set[C]
	to    *set[C] // nil: nothing is left
	now   int64   // seconds
	at    int     // members below this place are still to be moved
	moved bool    // some were, since it began at the end
	told  map[string]behalf.Ended
}

// step moves some members; more says that it has not come to the end. On the loop.
func (m *endingNow[C]) step() (more bool) {
	x := m.from
	var nobody C
	m.at = min(m.at, x.members.Len())
	for left := moveStep; m.at > 0 && left > 0; left-- {
		m.at--
		if c := x.members.At(m.at); c != nobody {
			m.end(c)
			m.moved = true
		}
	}
	if m.at > 0 {
		return true
	}
	if x.grants > 0 && m.moved { // others have come meanwhile
		m.at, m.moved = x.members.Len(), false
		return true
	}
	if x.ending.busy = false; x.grants > 0 {
		m.t.ends.watch(x)
	}
	return false
}

// end gives a member what is left, by whatever origins it has the set.
func (m *endingNow[C]) end(c C) {
	for g := c.Given(false).head(); g != nil; g = g.next {
		if g.set != m.from {
			continue
		}
		late := g.late // the list that is still to come is another
		m.t.regrant(c, g.origin, m.to, nil, false)
		g.late = late
		e := m.told[g.origin.Name]
		e.Origin, e.ClientID = g.origin.Name, c.About().ID
		e.Sessions++
		e.Topics += m.from.len() - m.to.len()
		m.told[e.Origin] = e
	}
	m.t.host.Changed(c)
}

// endedMeanwhile is for a grant of which so many topics have ended while there was no broker: what the client
// had unsubscribed from of them is forgotten.
func (t *Table[C]) endedMeanwhile(c C, g *grant[C], topics int) {
	g.revision = t.revision.Add(1)
	if g.extra != nil {
		maps.DeleteFunc(g.extra.muted, func(f string, _ struct{}) bool { return !g.set.contains(f) })
		g.settle()
	}
	at := slices.IndexFunc(t.ends.past, func(e behalf.Ended) bool { return e.Origin == g.origin.Name })
	if at < 0 {
		at = len(t.ends.past)
		t.ends.past = append(t.ends.past, behalf.Ended{Origin: g.origin.Name})
	}
	e := &t.ends.past[at]
	e.Topics += topics
	e.Sessions++
	e.ClientID = c.About().ID
}
