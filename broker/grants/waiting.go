package grants

import (
	"container/heap"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
)

// Requests on behalf of a client that is not connected wait on the loop that its session will live on;
// those on behalf of a user on every loop. What one origin asks for one client is folded into one list, which
// is planted already, so that the CONNECT only takes it over.

// request is what one origin wants a client, or all sessions of a user, to have.
type request[C comparable] struct {
	r     *behalf.Request // the last one: origin, time, whom to tell
	set   *set[C]         // pinned
	whole bool            // the list replaces what the session has; else it adds to it
	until int64           // Unix ms
	bytes int64           // as counted against the limit
	at    int             // place in the heap
	taken *atomic.Bool    // by some session, of a user whatever its loop
	// tell are to hear what becomes of it: who has asked for a part of it and has not been answered again.
	tell []func(behalf.Answer)
}

// joined are those of a request, nil for none, who are still to hear what becomes of it.
func (p *request[C]) joined() []func(behalf.Answer) {
	if p == nil || p.taken.Load() {
		return nil
	}
	return p.tell
}

// tellAll tells them.
func (p *request[C]) tellAll(a behalf.Answer) {
	for _, tell := range p.tell {
		tell(a)
	}
}

// withdrawn tells them that nothing is left to wait for.
func (t *Table[C]) withdrawn(p *request[C]) {
	if p.taken.Load() || p.byUsername() && t.at != 0 { // it waits on every loop
		return
	}
	list := results(p.set.contents(), im.Removed)
	for i := range list {
		list[i].Code = codec.Success
	}
	p.tellAll(behalf.Answer{ClientID: p.r.ClientID, Code: behalf.NoSession, Results: list})
}

// byUsername reports whether it is for all sessions of a user.
func (p *request[C]) byUsername() bool { return p.r.ClientID == "" }

// waitingList is what waits on one loop.
type waitingList[C comparable] struct {
	byClient, byUser map[string][]*request[C]
	byTime           heapByTime[C]
}

// heapByTime has the one that expires first in front.
type heapByTime[C comparable] []*request[C]

// Len implements heap.Interface.
func (h heapByTime[C]) Len() int { return len(h) }

// Less implements heap.Interface.
func (h heapByTime[C]) Less(i, j int) bool { return h[i].until < h[j].until }

// Swap implements heap.Interface.
func (h heapByTime[C]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *heapByTime[C]) Push(x any) {
	p := x.(*request[C])
	p.at = len(*h)
	*h = append(*h, p)
}

// Pop implements heap.Interface.
func (h *heapByTime[C]) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}

// pendingCost is what an entry counts beside its filters, in bytes.
const pendingCost = 256

// table is the map that requests like r are in, and its key.
func (l *waitingList[C]) table(r *behalf.Request) (map[string][]*request[C], string) {
	if r.ClientID != "" {
		return l.byClient, r.ClientID
	}
	return l.byUser, r.Username
}

// find is what waits already of the same origin for the same target.
func (l *waitingList[C]) find(r *behalf.Request) *request[C] {
	m, key := l.table(r)
	for _, p := range m[key] {
		if p.r.Origin.Name == r.Origin.Name && p.r.Username == r.Username {
			return p
		}
	}
	return nil
}

func (l *waitingList[C]) add(p *request[C]) {
	if l.byClient == nil {
		l.byClient = make(map[string][]*request[C])
		l.byUser = make(map[string][]*request[C])
	}
	m, key := l.table(p.r)
	m[key] = append(m[key], p)
	heap.Push(&l.byTime, p)
}

func (l *waitingList[C]) remove(p *request[C]) {
	m, key := l.table(p.r)
	list := m[key]
	for i := range list {
		if list[i] == p {
			last := len(list) - 1
			list[i] = list[last]
			list[last] = nil
			m[key] = list[:last]
			break
		}
	}
	if len(m[key]) == 0 {
		delete(m, key)
	}
	heap.Remove(&l.byTime, p.at)
}

// endPending takes a request off the list.
func (t *Table[C]) endPending(p *request[C]) {
	t.loop.MustBeHere()
	t.waiting.remove(p)
	t.pendingCount.Add(-1)
	t.pendingBytes.Add(-p.bytes)
	t.shares.give(ownerOf(p.r), p.bytes)
	if p.set != nil {
		t.unpin(p.set)
	}
}

// Expire drops what has waited long enough, and says so, and has topics ended whose time it is.
func (t *Table[C]) Expire(now int64) {
	t.loop.MustBeHere()
	t.endDue(now)
	l := &t.waiting
	for len(l.byTime) > 0 && l.byTime[0].until <= now {
		p := l.byTime[0]
		t.count.Expired++
		if p.tell != nil && !p.taken.Load() && (!p.byUsername() || t.at == 0) {
			list := results(p.set.contents(), im.Absent)
			for i := range list {
				list[i].Code = codec.UnspecifiedError
			}
			p.tellAll(behalf.Answer{ClientID: p.r.ClientID, Code: behalf.NoSession, Results: list})
		}
		t.endPending(p)
	}
}

// takePending gives a client that connects what waits for it.
func (t *Table[C]) takePending(c C) {
	t.loop.MustBeHere()
	if len(t.waiting.byTime) == 0 {
		return
	}
	a := c.About()
	for _, p := range append([]*request[C](nil), t.waiting.byClient[a.ID]...) {
		if !a.isFor(p.r) { // whom it is for may still come
			continue
		}
		t.take(c, p)
		if !p.r.Hold {
			t.endPending(p)
		}
	}
	if a.Username != "" {
		for _, p := range t.waiting.byUser[a.Username] {
			t.take(c, p)
		}
	}
}

// take gives a client one list.
func (t *Table[C]) take(c C, p *request[C]) {
	t.loop.MustBeHere()
	o, l := p.r.Origin, c.Given(false)
	g := l.of(o.Name)
	terms := t.terms(c, o)
	now := t.seconds()
	if p.tell == nil && terms.None() && !p.set.due(now) && (p.whole || g == nil || g.set == nil) {
		// It is all there already.
		t.regrant(c, o, p.set, nil, false)
		p.taken.Store(true)
		return
	}
	all := p.set.contents()
	w := behalf.Waiting{List: all.After(now), Whole: p.whole}
	plan := w.Plan(g.contents(), &terms)
	x := p.set
	if plan.Want != all {
		t.tellCut(c, o, &plan)
		x = t.ready(plan.Want, o.Bypass)
	}
	var list []behalf.Result
	if p.tell != nil {
		list = plan.Results(&terms, x.contains, func(f string) behalf.Effect {
			e := t.effect(c, f, o.Name)
			e.Had = e.Had || g != nil && g.set.contains(f)
			return e
		})
		for _, x := range all.Without(w.List).Topics() { // it has ended before
			r := behalf.Result{Filter: x.Filter, Code: codec.UnspecifiedError, State: im.Absent}
			list = append(list, r)
		}
	}
	about := c.About()
	a := behalf.Answer{ClientID: about.ID, Results: list}
	if t.regrant(c, o, x, nil, false) == nil {
		a = tooManyOrigins(about.ID)
	}
	a.Revision = c.Given(false).Revision()
	p.taken.Store(true)
	if p.tell != nil {
		t.whenDurable(&about, func() { p.tellAll(a) })
	}
}

// mayWait counts a request of so many bytes that is to take the place of old, nil for none, which is still
// counted; false if there is no room, and nothing is counted.
func (t *Table[C]) mayWait(r *behalf.Request, old *request[C], bytes int64) bool {
	one, freed := int64(0), int64(0)
	if old != nil {
		one, freed = 1, old.bytes
	}
	if !t.shares.take(ownerOf(r), one, freed, bytes, &t.limits) {
		return false
	}
	count, size := t.pendingCount.Add(1)-one, t.pendingBytes.Add(bytes)-freed
	if one == 0 && count > int64(t.limits.Pending) || bytes > freed && size > t.limits.PendingBytes {
		t.pendingCount.Add(-1)
		t.pendingBytes.Add(-bytes)
		t.shares.give(ownerOf(r), bytes)
		return false
	}
	return true
}

// Pending returns what waits for clients, of origins for which of says true: without the topics, whose number
// it has. It is in no order.
func (d *Doors[C]) Pending(ctx context.Context, of func(origin string) bool) ([]behalf.Pending, error) {
	var all []behalf.Pending
	for _, t := range d.tables {
		var list []behalf.Pending // the loop may still write it after a return
		if !t.on(ctx, func() {
			for _, p := range t.waiting.byTime { // Limits.Pending of them at most
				// Those of users wait on every loop.
				if of(p.r.Origin.Name) && (!p.byUsername() || t.at == 0) {
					list = append(list, t.told(p))
				}
			}
		}) {
			return nil, behalf.ErrNoAnswer
		}
		all = append(all, list...)
	}
	return all, nil
}

// told is a request as it is told, but for its topics.
func (t *Table[C]) told(p *request[C]) behalf.Pending {
	out := behalf.Pending{
		ClientID: p.r.ClientID, Username: p.r.Username, Origin: p.r.Origin.Name, Whole: p.whole,
		Until: time.UnixMilli(p.until), Count: p.set.len(),
	}
	if p.set.due(t.seconds()) {
		out.Count = p.set.contents().After(t.seconds()).Len()
	}
	return out
}

// Waiting adds to a listing what waits for its client, by name, and by username if that is known.
func (t *Table[C]) Waiting(out *behalf.Listing) {
	if len(t.waiting.byTime) == 0 {
		return
	}
	lists := [][]*request[C]{t.waiting.byClient[out.ClientID], nil}
	if out.Username != "" {
		lists[1] = t.waiting.byUser[out.Username]
	}
	for _, p := range slices.Concat(lists...) {
		w, left := t.told(p), p.set.contents().After(t.seconds())
		w.Topics, w.Ends = left.Topics(), left.Ends()
		out.Pending = append(out.Pending, w)
	}
}
