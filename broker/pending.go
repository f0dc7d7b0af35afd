package broker

import (
	"container/heap"
	"context"
	"sync/atomic"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
	"noctule/wsnet"
)

// Requests on behalf of a client that is not connected wait on the loop that its session will live on;
// those on behalf of a user on every loop. What one origin asks for one client is folded into one list, which
// is planted already, so that the CONNECT only takes it over.

// pendingRequest is what one origin wants a client, or all sessions of a user, to have.
type pendingRequest struct {
	r     *behalf.Request // the last one: origin, time, whom to tell
	set   *set            // pinned
	whole bool            // the list replaces what the session has; else it adds to it
	until int64           // Unix ms
	bytes int64           // as counted against the limit
	at    int             // place in the heap
	taken *atomic.Bool    // by some session, of a user whatever its loop
}

// byUsername reports whether it is for all sessions of a user.
func (p *pendingRequest) byUsername() bool { return p.r.ClientID == "" }

// pendingList is what waits on one loop.
type pendingList struct {
	byClient, byUser map[string][]*pendingRequest
	byTime           pendingHeap
}

// pendingHeap has the one that expires first in front.
type pendingHeap []*pendingRequest

// Len implements heap.Interface.
func (h pendingHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h pendingHeap) Less(i, j int) bool { return h[i].until < h[j].until }

// Swap implements heap.Interface.
func (h pendingHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *pendingHeap) Push(x any) {
	p := x.(*pendingRequest)
	p.at = len(*h)
	*h = append(*h, p)
}

// Pop implements heap.Interface.
func (h *pendingHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}

// pendingCost is what an entry counts beside its filters, in bytes.
const pendingCost = 256

// table is the map that requests like r are in, and its key.
func (l *pendingList) table(r *behalf.Request) (map[string][]*pendingRequest, string) {
	if r.ClientID != "" {
		return l.byClient, r.ClientID
	}
	return l.byUser, r.Username
}

// find is what waits already of the same origin for the same target.
func (l *pendingList) find(r *behalf.Request) *pendingRequest {
	m, key := l.table(r)
	for _, p := range m[key] {
		if p.r.Origin.Name == r.Origin.Name && p.r.Username == r.Username {
			return p
		}
	}
	return nil
}

func (l *pendingList) add(p *pendingRequest) {
	if l.byClient == nil {
		l.byClient = make(map[string][]*pendingRequest)
		l.byUser = make(map[string][]*pendingRequest)
	}
	m, key := l.table(p.r)
	m[key] = append(m[key], p)
	heap.Push(&l.byTime, p)
}

func (l *pendingList) remove(p *pendingRequest) {
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
func (s *shard) endPending(p *pendingRequest) {
	s.loop.MustBeHere()
	s.waiting.remove(p)
	s.b.pendingCount.Add(-1)
	s.b.pendingSize.Add(-p.bytes)
	if p.set != nil {
		s.unpin(p.set)
	}
}

// expirePending drops what has waited long enough, and says so.
func (s *shard) expirePending(now int64) {
	s.loop.MustBeHere()
	l := &s.waiting
	for len(l.byTime) > 0 && l.byTime[0].until <= now {
		p := l.byTime[0]
		s.count.pendingExpired++
		if p.r.Later != nil && !p.taken.Load() && (!p.byUsername() || s.index == 0) {
			list := results(p.set.contents(), im.Absent)
			for i := range list {
				list[i].Code = codec.UnspecifiedError
			}
			p.r.Later(behalf.Answer{ClientID: p.r.ClientID, Code: behalf.NoSession, Results: list})
		}
		s.endPending(p)
	}
}

// takePending gives a client that connects what waits for it.
func (s *shard) takePending(cl *client) {
	s.loop.MustBeHere()
	if len(s.waiting.byTime) == 0 {
		return
	}
	for _, p := range append([]*pendingRequest(nil), s.waiting.byClient[cl.id]...) {
		if !cl.isOf(p.r) { // whom it is for may still come
			continue
		}
		s.take(cl, p)
		if !p.r.Hold {
			s.endPending(p)
		}
	}
	if cl.rare != nil && cl.rare.username != "" {
		for _, p := range s.waiting.byUser[cl.rare.username] {
			s.take(cl, p)
		}
	}
}

// isOf reports whether the client is of the user that a request names beside its client id, if it does.
func (c *client) isOf(r *behalf.Request) bool {
	return r.Username == "" || c.rare != nil && c.rare.username == r.Username
}

// take gives a client one list.
func (s *shard) take(cl *client, p *pendingRequest) {
	s.loop.MustBeHere()
	o := p.r.Origin
	g := cl.grantOf(o.Name)
	t := s.terms(cl, o)
	if p.r.Later == nil && t.None() && (p.whole || g == nil || g.set == nil) { // it is all there already
		s.regrant(cl, o, p.set, nil, false)
		p.taken.Store(true)
		return
	}
	w := behalf.Waiting{List: p.set.contents(), Whole: p.whole}
	plan := w.Plan(g.contents(), &t)
	x := p.set
	if plan.Want != w.List {
		s.tellCut(cl, o, &plan)
		x = s.ready(plan.Want, o.Bypass)
	}
	var list []behalf.Result
	if p.r.Later != nil {
		list = plan.Results(&t, x.contains, func(f string) bool {
			return g != nil && g.set.contains(f) || cl.hasGranted(f, o.Name) || s.has(cl, []byte(f))
		})
	}
	a := behalf.Answer{ClientID: cl.id, Results: list}
	if s.regrant(cl, o, x, nil, false) == nil {
		a = tooManyOrigins(cl.id)
	}
	a.Revision = cl.revision()
	p.taken.Store(true)
	if p.r.Later != nil {
		s.whenDurable(cl, func() { p.r.Later(a) })
	}
}

// ready is a planted set, pinned until unpinLoose.
func (s *shard) ready(x *behalf.Set, bypass bool) *set {
	if x.Len() == 0 {
		return nil
	}
	st := s.pin(x, bypass)
	s.plant(st, x.Len())
	s.loose = append(s.loose, st)
	return st
}

// unpinLoose lets go of what ready has made, once the grants hold what they took.
func (s *shard) unpinLoose() {
	for i, x := range s.loose {
		s.unpin(x)
		s.loose[i] = nil
	}
	s.loose = s.loose[:0]
}

// keeping is a request on its way into the list of one loop.
type keeping struct {
	s       *shard
	r       *behalf.Request
	taken   *atomic.Bool // shared by the loops that a request for a user waits on
	absent  bool         // only while there is no session
	old     *pendingRequest
	oldSet  *set // pinned
	session bool // there is a session
}

// look notes what waits already. On the loop.
func (k *keeping) look() {
	k.old, k.oldSet = k.s.waiting.find(k.r), nil
	if k.old != nil && k.old.set != nil {
		k.oldSet = k.old.set
		k.oldSet.pins++
	}
}

// waits is what waits already, nil if nothing does. Off the loop.
func (k *keeping) waits() *behalf.Waiting {
	if k.old == nil {
		return nil
	}
	return &behalf.Waiting{List: k.oldSet.contents(), Whole: k.old.whole}
}

// put enters what is to wait, planted as set; false when something has changed. On the loop.
func (k *keeping) put(next *behalf.Waiting, set *set) (code behalf.Code, ok bool) {
	s := k.s
	if k.absent && s.sessionOf([]byte(k.r.ClientID)) != nil {
		k.session = true
		return behalf.Done, true
	}
	old := s.waiting.find(k.r)
	if old != k.old || old != nil && old.set != k.oldSet {
		return 0, false
	}
	bytes := int64(0)
	if next != nil {
		bytes = pendingCost + int64(next.List.Bytes())
		if !s.mayWait(old, bytes) { // then old goes on waiting: it has been promised
			return behalf.TooMuch, true
		}
	}
	if old != nil {
		s.endPending(old)
	}
	if next == nil {
		return behalf.Done, true
	}
	p := &pendingRequest{
		r: k.r, set: set, whole: next.Whole, bytes: bytes, taken: k.taken,
		until: s.loop.Now() + min(k.r.Wait, waitMax).Milliseconds(),
	}
	if p.taken == nil {
		p.taken = new(atomic.Bool)
	}
	if old != nil && k.r.Action == im.Unsubscribe {
		p.r, p.until = old.r, old.until
	}
	if set != nil {
		set.pins++
	}
	s.waiting.add(p)
	return behalf.Done, true
}

// mayWait counts a request of so many bytes that is to take the place of old, nil for none, which is still
// counted; false if there is no room, and nothing is counted.
func (s *shard) mayWait(old *pendingRequest, bytes int64) bool {
	b, one, freed := s.b, int64(0), int64(0)
	if old != nil {
		one, freed = 1, old.bytes
	}
	count, size := b.pendingCount.Add(1)-one, b.pendingSize.Add(bytes)-freed
	if one == 0 && count > int64(s.opts.MaxPending) || bytes > freed && size > s.opts.MaxPendingBytes {
		b.pendingCount.Add(-1)
		b.pendingSize.Add(-bytes)
		return false
	}
	return true
}

// wait folds a request into what waits on a loop. absent says that it may only wait if there is no session;
// if there is one, session is true and nothing was done.
func (b *Broker) wait(ctx context.Context, k *keeping) (code behalf.Code, session bool) {
	for range retriesMax {
		if !b.onLoop(ctx, k.s, k.look) {
			k.s.loop.MustPost(unpinTask{&k.oldSet})
			return behalf.Busy, false
		}
		next := k.waits().Fold(k.r.Action, k.r.Topics)
		var want *behalf.Set
		if next != nil {
			want = next.List
		}
		st := b.hold(ctx, k.s, want, k.r.Origin.Bypass)
		if st == nil && want.Len() > 0 {
			k.s.letGo(k.oldSet)
			return behalf.Busy, false
		}
		var put behalf.Code // not a result: the loop may still write it after a return
		ok := false
		finished := b.onLoop(ctx, k.s, func() { put, ok = k.put(next, st) })
		k.s.letGo(st)
		k.s.letGo(k.oldSet)
		if !finished {
			return behalf.Busy, false
		}
		if ok {
			return put, k.session
		}
	}
	return behalf.Busy, false
}

// limitOf names the limit that put has refused by, if it has.
func limitOf(code behalf.Code) string {
	if code != behalf.TooMuch {
		return ""
	}
	return "too many requests wait for clients"
}

// wait answers a request for a client that has no session.
func (j *applying) wait(ctx context.Context) behalf.Answer {
	r := j.r
	none := behalf.Answer{ClientID: j.id, Code: behalf.NoSession}
	if r.Username != "" && r.ClientID == "" { // the session has ended meanwhile
		return none
	}
	switch {
	case takesAway(r) && j.b.pendingCount.Load() > 0:
		return j.unwait(ctx)
	case takesAway(r) || r.Wait <= 0:
		return none
	case r.IfRevision != nil && *r.IfRevision != 0:
		none.Code = behalf.WrongRevision
		return none
	}
	code, session := j.b.wait(ctx, &keeping{s: j.s, r: r, absent: true})
	if session {
		return j.again(ctx)
	}
	a := behalf.Answer{ClientID: j.id, Code: code, Limit: limitOf(code)}
	if code == behalf.Done {
		a.Results = results(r.Topics, im.Pending)
	}
	return a
}

// takesAway reports whether a request asks for no topic, so that there is nothing of it to wait for anybody.
func takesAway(r *behalf.Request) bool {
	return r.Action == im.Unsubscribe || r.Action == im.Replace && r.Topics.Len() == 0
}

// again begins anew, since the client has come meanwhile.
func (j *applying) again(ctx context.Context) behalf.Answer {
	if j.turns++; j.turns > retriesMax {
		return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
	}
	return j.run(ctx)
}

// unwait takes topics out of what waits for a client, all of them for a replace by nothing.
func (j *applying) unwait(ctx context.Context) behalf.Answer {
	k := &keeping{s: j.s, r: j.r, absent: true}
	list, code := j.b.unwait(ctx, k)
	switch {
	case k.session:
		return j.again(ctx)
	case code == behalf.Done && list == nil:
		return behalf.Answer{ClientID: j.id, Code: behalf.NoSession}
	}
	return behalf.Answer{ClientID: j.id, Code: code, Results: list}
}

// unwaitUser does the same for all sessions of a user; nil when nothing waited.
func (b *Broker) unwaitUser(ctx context.Context, r *behalf.Request) []behalf.Answer {
	if b.pendingCount.Load() == 0 {
		return nil
	}
	var out []behalf.Answer
	for _, s := range b.shards { // the same waits on each of them
		list, code := b.unwait(ctx, &keeping{s: s, r: r})
		switch {
		case code != behalf.Done:
			return []behalf.Answer{{Code: code}}
		case list != nil && out == nil:
			out = []behalf.Answer{{Results: list}}
		}
	}
	return out
}

// unwait takes topics out of what waits on a loop, and says what has become of them; nil when nothing waits.
func (b *Broker) unwait(ctx context.Context, k *keeping) ([]behalf.Result, behalf.Code) {
	var set *set // not k's: the loop may still write it after a return
	if !b.onLoop(ctx, k.s, func() {
		if old := k.s.waiting.find(k.r); old != nil && old.set != nil {
			set = old.set
			set.pins++
		}
	}) {
		k.s.loop.MustPost(unpinTask{&set})
		return nil, behalf.Busy
	}
	have := set.contents()
	k.s.letGo(set)
	if have.Len() == 0 {
		return nil, behalf.Done
	}
	code, session := b.wait(ctx, k)
	if code != behalf.Done || session {
		return nil, code
	}
	asked := k.r.Topics
	if k.r.Action == im.Replace {
		asked = have
	}
	terms := (*rights)(nil).terms(k.r.Origin)
	plan := behalf.NewPlan(have, im.Unsubscribe, asked, &terms)
	return plan.Results(&terms, nil, nil), behalf.Done
}

// maybeKeep also keeps a request that has taken effect for the client's next CONNECT, if it may wait and the
// client is offline, or Hold says so; else it only follows in what waits already. If there is no room, it is
// not kept.
func (j *applying) maybeKeep(ctx context.Context) {
	r := *j.r
	r.Later = nil
	switch {
	case r.Action != im.Unsubscribe && r.Wait > 0 && (r.Hold || !j.online):
	case j.b.pendingCount.Load() == 0:
		return
	default:
		waits := false
		if !j.b.onLoop(ctx, j.s, func() { waits = j.s.waiting.find(&r) != nil }) || !waits {
			return
		}
	}
	_, _ = j.b.wait(ctx, &keeping{s: j.s, r: &r})
}

// unpinTask lets go of a set that an earlier task may have pinned.
type unpinTask struct{ at **set }

// Run implements wsnet.Task.
func (t unpinTask) Run(l *wsnet.Loop) {
	if *t.at != nil {
		l.Handler().(*shard).unpin(*t.at)
	}
}
