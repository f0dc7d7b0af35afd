package grants

import (
	"context"
	"strconv"
	"sync/atomic"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
)

// retriesMax is how often a request begins again because its session has changed under it.
const retriesMax = 16

// hold makes a set on the loop that is planted and pinned; nil when ctx has ended, or x is empty.
func (t *Table[C]) hold(ctx context.Context, x *behalf.Set, bypass bool) *set[C] {
	if x.Len() == 0 {
		return nil
	}
	var st *set[C]
	var ready bool
	step := func() {
		if st == nil {
			st = t.pin(x, bypass)
		}
		ready = t.plant(st, plantStep)
	}
	for t.on(ctx, step) {
		if ready {
			return st
		}
	}
	t.unpinLater(&st) // behind step, if that still runs
	return nil
}

// letGo lets go of a set, from any goroutine.
func (t *Table[C]) letGo(x *set[C]) {
	if x != nil {
		t.loops.Post(t.at, func() { t.unpin(x) }) // bounded by hold
	}
}

// unpinLater lets go of a set that an earlier task may have pinned.
func (t *Table[C]) unpinLater(x **set[C]) {
	t.loops.Post(t.at, func() {
		if *x != nil {
			t.unpin(*x)
		}
	})
}

// Apply is that of behalf.Broker.
func (d *Doors[C]) Apply(ctx context.Context, r *behalf.Request) []behalf.Answer {
	if r.ClientID != "" {
		j := &applying[C]{d: d, r: r, t: d.tables[d.loops.Home(r.ClientID)], id: r.ClientID}
		a := j.run(ctx)
		if j.kept && !j.t.promised(ctx, r) {
			a = behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		return []behalf.Answer{a}
	}
	return d.applyUser(ctx, r)
}

// applyUser applies a request to all sessions of a user.
func (d *Doors[C]) applyUser(ctx context.Context, r *behalf.Request) []behalf.Answer {
	var out []behalf.Answer
	for _, t := range d.tables {
		var ids []string
		listed := t.on(ctx, func() {
			for _, c := range t.users[r.Username] {
				ids = append(ids, c.About().ID)
			}
		})
		if !listed {
			return append(out, behalf.Answer{Code: behalf.Busy})
		}
		kept := false
		for _, id := range ids {
			j := &applying[C]{d: d, r: r, t: t, id: id}
			if a := j.run(ctx); a.Code != behalf.NoSession {
				out = append(out, a)
			}
			kept = kept || j.kept
		}
		if kept && !t.promised(ctx, r) {
			return append(out, behalf.Answer{Code: behalf.Busy})
		}
	}
	if takesAway(r) {
		if gone := d.unwaitUser(ctx, r); len(out) == 0 {
			out = gone
		}
		return out
	}
	if r.Wait == 0 || len(out) > 0 && !r.Hold {
		return out
	}
	pending := behalf.Answer{Results: results(r.Topics, im.Pending)}
	taken := new(atomic.Bool)
	taken.Store(len(out) > 0)
	for _, t := range d.tables {
		if code, _ := d.wait(ctx, &keeping[C]{t: t, r: r, taken: taken}); code != behalf.Done {
			pending.Code, pending.Limit, pending.Results = code, limitOf(code), nil
		}
	}
	if len(out) == 0 {
		out = append(out, pending)
	}
	return out
}

// results is the same answer for all topics.
func results(x *behalf.Set, state behalf.State) []behalf.Result {
	list := make([]behalf.Result, 0, x.Len())
	for _, p := range x.Topics() {
		list = append(list, behalf.Result{Filter: p.Filter, Code: codec.Reason(p.QoS), State: state})
	}
	return list
}

// applying is a request on its way for one session.
type applying[C Client[C]] struct {
	d  *Doors[C]
	r  *behalf.Request
	t  *Table[C]
	id string

	// What the loop said:
	c       C
	found   bool    // there is a session, c
	old     *set[C] // pinned
	origin  bool    // the session has a grant of this origin
	terms   behalf.Terms
	online  bool
	code    behalf.Code
	limit   string // with code TooMuch
	turns   int    // how often it has gone from waiting to a session
	durable bool   // the session is; the loop's to write
	kept    bool   // the answer has to wait for the store
}

// run does it and returns when it is in effect.
func (j *applying[C]) run(ctx context.Context) behalf.Answer {
	for range retriesMax {
		if !j.t.on(ctx, j.look) {
			j.t.unpinLater(&j.old) // behind look, if that still runs
			return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		if j.code != behalf.Done {
			return behalf.Answer{ClientID: j.id, Code: j.code, Limit: j.limit}
		}
		if !j.found {
			return j.wait(ctx)
		}
		plan := behalf.NewPlan(j.old.contents(), j.r.Action, j.r.Topics, &j.terms)
		next := j.t.hold(ctx, plan.Want, j.r.Origin.Bypass)
		if next == nil && plan.Want.Len() > 0 {
			j.t.letGo(j.old)
			return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		var a behalf.Answer
		var ok bool
		finished := j.t.on(ctx, func() { a, ok = j.exchange(next, &plan) })
		if finished && ok && next != nil && len(next.shares) > 0 {
			// The loops that deal have heard of their new member once they have run what was posted.
			finished = j.d.everywhere(ctx)
		}
		j.t.letGo(next)
		j.t.letGo(j.old)
		if !finished {
			return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		if ok {
			j.kept = j.durable
			j.maybeKeep(ctx)
			return a
		}
	}
	return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
}

// look notes what the session has. On the loop.
func (j *applying[C]) look() {
	t := j.t
	j.old, j.code = nil, behalf.Done
	if j.c, j.found = t.host.Session(j.id); !j.found {
		return
	}
	a, l := j.c.About(), j.c.Given(false)
	if !a.isFor(j.r) {
		j.code = behalf.NotAllowed
		return
	}
	if rev := j.r.IfRevision; rev != nil && *rev != l.Revision() {
		j.code = behalf.WrongRevision
		return
	}
	if a.Durable && t.journal.Failing() {
		j.code, j.limit = behalf.TooMuch, "persistent state cannot be written"
		return
	}
	g := l.of(j.r.Origin.Name)
	j.origin = g != nil
	if g != nil && g.set != nil {
		j.old = g.set
		j.old.pins++
	}
	j.online = a.Online
	j.terms = t.terms(j.c, j.r.Origin)
	if t.short() {
		j.terms.Room = j.old.len()
	}
}

// exchange puts the new set in place of the old one; false when the session has changed. On the loop.
func (j *applying[C]) exchange(next *set[C], plan *behalf.Plan) (behalf.Answer, bool) {
	t, c := j.t, j.c
	if now, ok := t.host.Session(j.id); !ok || now != c {
		return behalf.Answer{}, false
	}
	g := c.Given(false).of(j.r.Origin.Name)
	if (g != nil) != j.origin || g != nil && g.set != j.old {
		return behalf.Answer{}, false
	}
	a := behalf.Answer{ClientID: j.id, Results: j.results(next, plan)}
	j.durable = c.About().Durable
	if g != nil || next != nil {
		asked := plan.Asked
		if j.r.Action == im.Unsubscribe || j.r.Origin.PerConnect { // asks for nothing anew
			asked = nil
		}
		if t.regrant(c, j.r.Origin, next, asked, j.r.Action == im.Subscribe) == nil {
			return tooManyOrigins(j.id), true
		}
		t.host.Changed(c)
	}
	a.Revision = c.Given(false).Revision()
	return a, true
}

// tooManyOrigins is the answer when a session has no room for another origin.
func tooManyOrigins(id string) behalf.Answer {
	return behalf.Answer{
		ClientID: id, Code: behalf.TooMuch,
		Limit: "the session has topics of " + strconv.Itoa(grantsMax) + " origins",
	}
}

// results says what becomes of each topic. On the loop, before the exchange.
func (j *applying[C]) results(next *set[C], plan *behalf.Plan) []behalf.Result {
	origin, l := j.r.Origin, j.c.Given(false)
	g := l.of(origin.Name)
	stood := func(f string) behalf.Effect {
		e := j.t.effect(j.c, f, origin.Name)
		// What is muted begins anew.
		e.Had = e.Had || j.old.contains(f) && (origin.PerConnect || !g.muted(f))
		return e
	}
	return append(plan.Results(&j.terms, next.contains, stood), plan.Removed(&j.terms)...)
}

// everywhere returns when all loops have run what was posted to them before; false when ctx has ended first.
func (d *Doors[C]) everywhere(ctx context.Context) bool {
	return d.loops.Await(ctx, 0, func(done func()) {
		left := new(atomic.Int32)
		left.Store(int32(len(d.tables)))
		for _, t := range d.tables {
			d.loops.Post(t.at, func() { // bounded by the requests, which wait
				if left.Add(-1) == 0 {
					done()
				}
			})
		}
	})
}
