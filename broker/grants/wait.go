package grants

import (
	"context"
	"sync/atomic"
	"time"

	"noctule/broker/behalf"
	"noctule/codec/im"
)

// waitMax is the longest time that a request may wait for its client.
const waitMax = 24 * time.Hour

// keeping is a request on its way into the list of one loop.
type keeping[C Client[C]] struct {
	t       *Table[C]
	r       *behalf.Request
	taken   *atomic.Bool // shared by the loops that a request for a user waits on
	absent  bool         // only while there is no session
	bytes   int64        // of the filters of what is to wait
	old     *request[C]
	oldSet  *set[C] // pinned
	session bool    // there is a session
}

// look notes what waits already. On the loop.
func (k *keeping[C]) look() {
	k.old, k.oldSet = k.t.waiting.find(k.r), nil
	if k.old != nil && k.old.set != nil {
		k.oldSet = k.old.set
		k.oldSet.pins++
	}
}

// waits is what waits already, nil if nothing does. Off the loop.
func (k *keeping[C]) waits() *behalf.Waiting {
	if k.old == nil {
		return nil
	}
	return &behalf.Waiting{List: k.oldSet.contents(), Whole: k.old.whole}
}

// put enters what is to wait, planted as set; false when something has changed. On the loop.
func (k *keeping[C]) put(next *behalf.Waiting, set *set[C]) (code behalf.Code, ok bool) {
	t := k.t
	if k.absent && t.has(k.r.ClientID) {
		k.session = true
		return behalf.Done, true
	}
	old := t.waiting.find(k.r)
	if old != k.old || old != nil && old.set != k.oldSet {
		return 0, false
	}
	bytes, tell := int64(0), old.joined()
	if k.r.Later != nil && k.r.Action != im.Unsubscribe {
		tell = append(tell, k.r.Later) // old is on its way out, or keeps its length
	}
	if next != nil {
		bytes = pendingCost*int64(max(1, len(tell))) + k.bytes
		if !t.mayWait(k.r, old, bytes) { // then old goes on waiting: it has been promised
			return behalf.TooMuch, true
		}
	}
	if old != nil {
		if next == nil {
			t.withdrawn(old)
		}
		t.endPending(old)
	}
	if next == nil {
		return behalf.Done, true
	}
	p := &request[C]{
		r: k.r, set: set, whole: next.Whole, bytes: bytes, taken: k.taken, tell: tell,
		until: t.loop.Now() + min(k.r.Wait, waitMax).Milliseconds(),
	}
	if p.taken == nil {
		p.taken = new(atomic.Bool)
	}
	if old != nil && k.r.Action == im.Unsubscribe {
		p.r, p.until = old.r, old.until
	}
	if last := next.List.LastEnd(); last != 0 { // and then nothing is left of it
		p.until = min(p.until, last*1000)
	}
	if set != nil {
		set.pins++
	}
	t.waiting.add(p)
	return behalf.Done, true
}

// wait folds a request into what waits on a loop. absent says that it may only wait if there is no session;
// if there is one, session is true and nothing was done.
func (d *Doors[C]) wait(ctx context.Context, k *keeping[C]) (code behalf.Code, session bool) {
	for range retriesMax {
		if !k.t.on(ctx, k.look) {
			k.t.unpinLater(&k.oldSet)
			return behalf.Busy, false
		}
		next := k.waits().Fold(k.r.Action, k.r.Topics)
		var want *behalf.Set
		if next != nil {
			want = next.List
			k.bytes = int64(want.Bytes())
		}
		st := k.t.hold(ctx, want, k.r.Origin.Bypass)
		if st == nil && want.Len() > 0 {
			k.t.letGo(k.oldSet)
			return behalf.Busy, false
		}
		var put behalf.Code // not a result: the loop may still write it after a return
		ok := false
		finished := k.t.on(ctx, func() { put, ok = k.put(next, st) })
		k.t.letGo(st)
		k.t.letGo(k.oldSet)
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
func (j *applying[C]) wait(ctx context.Context) behalf.Answer {
	r := j.r
	none := behalf.Answer{ClientID: j.id, Code: behalf.NoSession}
	if r.Username != "" && r.ClientID == "" { // the session has ended meanwhile
		return none
	}
	switch {
	case takesAway(r) && j.d.pendingCount.Load() > 0:
		return j.unwait(ctx)
	case takesAway(r) || r.Wait <= 0:
		return none
	case r.IfRevision != nil && *r.IfRevision != 0:
		none.Code = behalf.WrongRevision
		return none
	}
	code, session := j.d.wait(ctx, &keeping[C]{t: j.t, r: r, absent: true})
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
func (j *applying[C]) again(ctx context.Context) behalf.Answer {
	if j.turns++; j.turns > retriesMax {
		return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
	}
	return j.run(ctx)
}

// unwait takes topics out of what waits for a client, all of them for a replace by nothing.
func (j *applying[C]) unwait(ctx context.Context) behalf.Answer {
	k := &keeping[C]{t: j.t, r: j.r, absent: true}
	list, code := j.d.unwait(ctx, k)
	switch {
	case k.session:
		return j.again(ctx)
	case code == behalf.Done && list == nil:
		return behalf.Answer{ClientID: j.id, Code: behalf.NoSession}
	}
	return behalf.Answer{ClientID: j.id, Code: code, Results: list}
}

// unwaitUser does the same for all sessions of a user; nil when nothing waited.
func (d *Doors[C]) unwaitUser(ctx context.Context, r *behalf.Request) []behalf.Answer {
	if d.pendingCount.Load() == 0 {
		return nil
	}
	var out []behalf.Answer
	for _, t := range d.tables { // the same waits on each of them
		list, code := d.unwait(ctx, &keeping[C]{t: t, r: r})
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
func (d *Doors[C]) unwait(ctx context.Context, k *keeping[C]) ([]behalf.Result, behalf.Code) {
	var set *set[C] // not k's: the loop may still write it after a return
	if !k.t.on(ctx, func() {
		if old := k.t.waiting.find(k.r); old != nil && old.set != nil {
			set = old.set
			set.pins++
		}
	}) {
		k.t.unpinLater(&set)
		return nil, behalf.Busy
	}
	have := set.contents()
	k.t.letGo(set)
	if have.Len() == 0 {
		return nil, behalf.Done
	}
	code, session := d.wait(ctx, k)
	if code != behalf.Done || session {
		return nil, code
	}
	asked := k.r.Topics
	if k.r.Action == im.Replace {
		asked = have
	}
	terms := Free().terms(k.r.Origin)
	plan := behalf.NewPlan(have, im.Unsubscribe, asked, &terms)
	return plan.Results(&terms, nil, nil), behalf.Done
}

// maybeKeep also keeps a request that has taken effect for the client's next CONNECT, if it may wait and the
// client is offline, or Hold says so; else it only follows in what waits already. If there is no room, it is
// not kept.
func (j *applying[C]) maybeKeep(ctx context.Context) {
	r := *j.r
	r.Later = nil
	switch {
	case r.Action != im.Unsubscribe && r.Wait > 0 && (r.Hold || !j.online):
	case j.d.pendingCount.Load() == 0:
		return
	default:
		waits := false
		if !j.t.on(ctx, func() { waits = j.t.waiting.find(&r) != nil }) || !waits {
			return
		}
	}
	_, _ = j.d.wait(ctx, &keeping[C]{t: j.t, r: &r})
}
