package broker

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/codec"
	"noctule/codec/im"
	"noctule/wsnet"
)

// A request on behalf of a session is worked on off the loops: the loop says what the session has of the
// request's origin, the new list is put together, it is planted on the loop in pieces, and then the loop
// exchanges one set for the other, if nothing has changed meanwhile; else it begins again. So a loop never
// does more than plantStep topics at a time, whatever the size of the list.

// Broker implements behalf.Broker.
var _ behalf.Broker = (*Broker)(nil)

// retriesMax is how often a request begins again because its session has changed under it.
const retriesMax = 16

// pinned is a set on the home loop of a session that connects.
type pinned struct {
	origin *behalf.Origin
	set    *set
	keep   bool
	late   func() // see behalf.Grant
}

// onLoop runs f on a shard's loop and waits for it; false when ctx has ended first, and f then may or may not
// still run.
func (b *Broker) onLoop(ctx context.Context, s *shard, f func()) bool {
	return b.await(ctx, s, func(done func()) {
		f()
		done()
	})
}

// await runs f on a shard's loop and waits until it has called done, at once or later; false when ctx has
// ended first.
func (b *Broker) await(ctx context.Context, s *shard, f func(done func())) bool {
	done := make(chan struct{})
	s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // bounded by the callers, who wait
		f(func() { close(done) })
	}))
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	case <-b.ended:
		return false
	}
}

// hold makes a set on a shard's loop that is planted and pinned; nil when ctx has ended, or x is empty.
func (b *Broker) hold(ctx context.Context, s *shard, x *behalf.Set, bypass bool) *set {
	if x.Len() == 0 {
		return nil
	}
	var st *set
	var ready bool
	step := func() {
		if st == nil {
			st = s.pin(x, bypass)
		}
		ready = s.plant(st, plantStep)
	}
	for b.onLoop(ctx, s, step) {
		if ready {
			return st
		}
	}
	s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // behind step, if that still runs
		if st != nil {
			s.unpin(st)
		}
	}))
	return nil
}

// letGo lets go of a set, from any goroutine.
func (s *shard) letGo(x *set) {
	if x != nil {
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.unpin(x) })) // bounded by hold
	}
}

// Apply implements behalf.Broker.
func (b *Broker) Apply(ctx context.Context, r *behalf.Request) []behalf.Answer {
	if r.ClientID != "" {
		j := &applying{b: b, r: r, s: b.home([]byte(r.ClientID)), id: r.ClientID}
		a := j.run(ctx)
		if j.kept && !b.promised(ctx, j.s, r) {
			a = behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		return []behalf.Answer{a}
	}
	return b.applyUser(ctx, r)
}

// applyUser applies a request to all sessions of a user.
func (b *Broker) applyUser(ctx context.Context, r *behalf.Request) []behalf.Answer {
	var out []behalf.Answer
	for _, s := range b.shards {
		var ids []string
		listed := b.onLoop(ctx, s, func() {
			for _, cl := range s.users[r.Username] {
				ids = append(ids, cl.id)
			}
		})
		if !listed {
			return append(out, behalf.Answer{Code: behalf.Busy})
		}
		kept := false
		for _, id := range ids {
			j := &applying{b: b, r: r, s: s, id: id}
			if a := j.run(ctx); a.Code != behalf.NoSession {
				out = append(out, a)
			}
			kept = kept || j.kept
		}
		if kept && !b.promised(ctx, s, r) {
			return append(out, behalf.Answer{Code: behalf.Busy})
		}
	}
	if takesAway(r) {
		if gone := b.unwaitUser(ctx, r); len(out) == 0 {
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
	for _, s := range b.shards {
		if code, _ := b.wait(ctx, &keeping{s: s, r: r, taken: taken}); code != behalf.Done {
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
	for _, t := range x.Topics() {
		list = append(list, behalf.Result{Filter: t.Filter, Code: codec.Reason(t.QoS), State: state})
	}
	return list
}

// applying is a request on its way for one session.
type applying struct {
	b  *Broker
	r  *behalf.Request
	s  *shard
	id string

	// What the loop said:
	cl      *client
	old     *set // pinned
	origin  bool // the session has a grant of this origin
	terms   behalf.Terms
	online  bool
	code    behalf.Code
	limit   string // with code TooMuch
	turns   int    // how often it has gone from waiting to a session
	durable bool   // the session is; the loop's to write
	kept    bool   // the answer has to wait for the store
}

// run does it and returns when it is in effect.
func (j *applying) run(ctx context.Context) behalf.Answer {
	for range retriesMax {
		if !j.b.onLoop(ctx, j.s, j.look) {
			j.s.loop.MustPost(unpinTask{&j.old}) // behind look, if that still runs
			return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		if j.code != behalf.Done {
			return behalf.Answer{ClientID: j.id, Code: j.code, Limit: j.limit}
		}
		if j.cl == nil {
			return j.wait(ctx)
		}
		plan := behalf.NewPlan(j.old.contents(), j.r.Action, j.r.Topics, &j.terms)
		next := j.b.hold(ctx, j.s, plan.Want, j.r.Origin.Bypass)
		if next == nil && plan.Want.Len() > 0 {
			j.s.letGo(j.old)
			return behalf.Answer{ClientID: j.id, Code: behalf.Busy}
		}
		var a behalf.Answer
		var ok bool
		finished := j.b.onLoop(ctx, j.s, func() { a, ok = j.exchange(next, &plan) })
		if finished && ok && next != nil && len(next.shares) > 0 {
			// The loops that deal have heard of their new member once they have run what was posted.
			finished = j.b.onEach(ctx, func(*shard) {}) == nil
		}
		j.s.letGo(next)
		j.s.letGo(j.old)
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
func (j *applying) look() {
	s := j.s
	j.cl, j.old, j.code = s.sessionOf([]byte(j.id)), nil, behalf.Done
	cl := j.cl
	if cl == nil {
		return
	}
	if !cl.isOf(j.r) {
		j.code = behalf.NotAllowed
		return
	}
	if rev := j.r.IfRevision; rev != nil && *rev != cl.revision() {
		j.code = behalf.WrongRevision
		return
	}
	if s.refusesGrants(cl) {
		j.code, j.limit = behalf.TooMuch, "persistent state cannot be written"
		return
	}
	g := cl.grantOf(j.r.Origin.Name)
	j.origin = g != nil
	if g != nil && g.set != nil {
		j.old = g.set
		j.old.pins++
	}
	j.online = cl.conn != nil
	j.terms = s.terms(cl, j.r.Origin)
	if s.b.memory.Short() {
		j.terms.Room = j.old.len()
	}
}

// terms are what a client is held to by requests of an origin; the listener of one that is offline is not
// known.
func (s *shard) terms(cl *client, o *behalf.Origin) behalf.Terms {
	s.loop.MustBeHere()
	t := cl.rights().terms(o)
	if cl.conn != nil {
		t.MaxQoS = cl.listener().MaxQoS
	}
	if full := s.opts.MaxSubscriptions; full > 0 {
		t.Room = full - len(cl.subs) - cl.grantedTopics()
		if g := cl.grantOf(o.Name); g != nil {
			t.Room += g.set.len()
		}
		t.Room = max(0, t.Room)
	}
	return t
}

// exchange puts the new set in place of the old one; false when the session has changed. On the loop.
func (j *applying) exchange(next *set, plan *behalf.Plan) (behalf.Answer, bool) {
	s, cl := j.s, j.cl
	if s.sessions[j.id] != cl {
		return behalf.Answer{}, false
	}
	g := cl.grantOf(j.r.Origin.Name)
	if (g != nil) != j.origin || g != nil && g.set != j.old {
		return behalf.Answer{}, false
	}
	a := behalf.Answer{ClientID: j.id, Results: j.results(next, plan)}
	j.durable = cl.Durable()
	if g != nil || next != nil {
		asked := plan.Asked
		if j.r.Action == im.Unsubscribe || j.r.Origin.PerConnect { // asks for nothing anew
			asked = nil
		}
		if s.regrant(cl, j.r.Origin, next, asked, j.r.Action == im.Subscribe) == nil {
			return tooManyOrigins(j.id), true
		}
		s.replayRetained(cl)
		s.tell(cl)
	}
	a.Revision = cl.revision()
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
func (j *applying) results(next *set, plan *behalf.Plan) []behalf.Result {
	cl, origin := j.cl, j.r.Origin
	g := cl.grantOf(origin.Name)
	had := func(f string) bool {
		if j.old.contains(f) && (origin.PerConnect || !g.muted(f)) { // what is muted begins anew
			return true
		}
		return cl.hasGranted(f, origin.Name) || j.s.has(cl, []byte(f))
	}
	return append(plan.Results(&j.terms, next.contains, had), plan.Removed(&j.terms)...)
}

// plantGrants makes the sets of a CONNECT ready on the loop of its session.
func (b *Broker) plantGrants(ctx context.Context, a *Admission) (list []pinned, why codec.Reason) {
	s := b.home([]byte(a.ClientID))
	o := a.Listener.Options()
	r := &rights{Rights: auth.Rights{MountPoint: o.MountPoint}}
	if o.Policy != nil {
		r.Permissions = o.Policy.Permissions(a.ClientID, a.Username, a.HasUsername)
	}
	for i := range a.Grants {
		g := &a.Grants[i]
		p := pinned{origin: g.Origin, keep: g.Keep, late: g.Late}
		if !g.Keep && g.Topics.Len() > 0 {
			t := r.terms(g.Origin)
			t.MaxQoS = o.MaxQoS
			want := behalf.NewPlan(nil, im.Replace, g.Topics, &t).Want
			if p.set = b.hold(ctx, s, want, g.Origin.Bypass); p.set == nil && want.Len() > 0 {
				return list, codec.ServerUnavailable
			}
		}
		list = append(list, p)
	}
	return list, codec.Success
}

// dropPins lets go of the sets of a CONNECT that came to nothing, from any goroutine.
func (s *shard) dropPins(list []pinned) {
	if len(list) > 0 {
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.unpinAll(list) })) // bounded by MaxAdmissions
	}
}

func (s *shard) unpinAll(list []pinned) {
	for i := range list {
		if x := list[i].set; x != nil {
			s.unpin(x)
		}
	}
}

// admitGrants gives a client that connects what others have subscribed it to, before CONNACK.
func (s *shard) admitGrants(cl *client, list []pinned) {
	s.takePending(cl)
	for g := cl.grants(); g != nil; g = g.next {
		if g.origin.Unsubscribe == behalf.Sticky && g.extra != nil && len(g.extra.muted) > 0 {
			s.unmute(cl, g)
		}
		if g.origin.PerConnect && !listed(list, g.origin.Name) {
			s.regrant(cl, g.origin, nil, nil, false)
		}
	}
	for i := range list {
		p := &list[i]
		if !p.keep && (p.set != nil || cl.grantOf(p.origin.Name) != nil) {
			s.regrant(cl, p.origin, s.fit(cl, p.origin, p.set), nil, false)
		}
		s.expect(cl, p)
	}
	s.unpinAll(list)
	s.unpinLoose()
}

// expect notes whether the list of an origin is still to come, and has it asked for.
func (s *shard) expect(cl *client, p *pinned) {
	g := cl.grantOf(p.origin.Name)
	if p.late == nil {
		if g != nil {
			g.late = false
		}
		return
	}
	if g == nil {
		g = s.newGrant(cl, p.origin)
	}
	if g != nil {
		g.late = true
	}
	p.late()
}

// missing names the origins whose lists have not come yet.
func (c *client) missing() (names []string) {
	for g := c.grants(); g != nil; g = g.next {
		if g.late {
			names = append(names, g.origin.Name)
		}
	}
	return names
}

func listed(list []pinned, origin string) bool {
	for i := range list {
		if list[i].origin.Name == origin {
			return true
		}
	}
	return false
}

// fit is the part of a set that a client has room for, where it takes the place of what the client has of an
// origin; the client's rights and listener have made the set already.
func (s *shard) fit(cl *client, o *behalf.Origin, x *set) *set {
	t := behalf.Terms{Room: s.terms(cl, o).Room, MaxQoS: 2}
	if t.Room < 0 || x.len() <= t.Room {
		return x
	}
	want := x.contents()
	plan := behalf.NewPlan(cl.grantOf(o.Name).contents(), im.Replace, want, &t)
	if plan.Want == want {
		return x
	}
	s.tellCut(cl, o, &plan)
	return s.ready(plan.Want, o.Bypass)
}

// tellCut logs that a client has no room for all of a list.
func (s *shard) tellCut(cl *client, o *behalf.Origin, plan *behalf.Plan) {
	cut := 0
	for _, why := range plan.Refused {
		if why == codec.QuotaExceeded {
			cut++
		}
	}
	if n := plan.Want.Len(); cut > 0 {
		s.logf(LevelWarning, "Client %s gets %d of %d topics of %s: it has too many.",
			cl.id, n, n+cut, o.Name)
	}
}

// tellGrants says in CONNACK what a client has got: MQTT 5 user properties.
func (c *client) tellGrants(props codec.Properties) codec.Properties {
	if names := c.missing(); names != nil {
		value := []byte(strings.Join(names, " "))
		props = codec.AppendUserProperty(props, []byte("presub-incomplete"), value)
	}
	r := c.revision()
	if r == 0 {
		return props
	}
	props = codec.AppendUserProperty(props, []byte("presub-revision"), strconv.AppendUint(nil, r, 10))
	n := strconv.AppendInt(nil, int64(c.grantedTopics()), 10)
	return codec.AppendUserProperty(props, []byte("presub-count"), n)
}

// rename notes the username of a session.
func (s *shard) rename(cl *client, name string) {
	if cl.rare != nil && cl.rare.username != name {
		s.unlistUser(cl)
		cl.rare.username = ""
	}
	if name == "" || cl.rare != nil && cl.rare.username == name {
		return
	}
	cl.extra().username = name
	if s.users != nil {
		s.users[name] = append(s.users[name], cl)
	}
}

// unlistUser takes a session out of the index of usernames.
func (s *shard) unlistUser(cl *client) {
	if s.users == nil || cl.rare == nil || cl.rare.username == "" {
		return
	}
	list := s.users[cl.rare.username]
	for i, c := range list {
		if c == cl {
			last := len(list) - 1
			list[i] = list[last]
			list[last] = nil
			list = list[:last]
			break
		}
	}
	if len(list) == 0 {
		delete(s.users, cl.rare.username)
		return
	}
	s.users[cl.rare.username] = list
}

// List implements behalf.Broker.
func (b *Broker) List(ctx context.Context, clientID string) (behalf.Listing, error) {
	s := b.home([]byte(clientID))
	out := behalf.Listing{ClientID: clientID}
	found := false
	answered := b.onLoop(ctx, s, func() {
		if cl := s.sessionOf([]byte(clientID)); cl != nil {
			found = true
			s.listing(cl, &out)
		}
		s.waitingFor(&out)
	})
	switch {
	case !answered: // and the loop may still write out
		return behalf.Listing{}, behalf.ErrNoAnswer
	case !found:
		return out, behalf.ErrNoSession
	default:
		return out, nil
	}
}

// listing fills a Listing.
func (s *shard) listing(cl *client, out *behalf.Listing) {
	out.Connected, out.Revision = cl.conn != nil, cl.revision()
	if cl.rare != nil {
		out.Username = cl.rare.username
	}
	if r := cl.rights(); r != nil {
		out.Mount = r.MountPoint
		if perms := r.Permissions; perms != nil {
			out.MayRead = func(topic []byte) bool { return perms.Allows(auth.Read, topic) }
		}
	}
	own := behalf.Holding{Origin: behalf.Client}
	for i := range cl.subs {
		sub := &cl.subs[i]
		opts, subID := sub.opts, sub.subID
		if sub.share != nil {
			opts, subID = sub.share.Options, sub.share.SubID
		}
		own.Topics = append(own.Topics, behalf.Topic{
			Filter: sub.id.Filter(), ID: subID, QoS: opts.QoS(),
			NoLocal: opts&fanout.NoLocal != 0, RetainAsPublished: opts&fanout.RetainAsPublished != 0,
		})
	}
	out.Holdings = append(out.Holdings, own)
	for g := cl.grants(); g != nil; g = g.next {
		h := behalf.Holding{
			Origin: g.origin.Name, Bypass: g.origin.Bypass, Revision: g.revision,
			Topics: g.set.contents().Topics(), Late: g.late,
		}
		if g.extra != nil {
			h.Muted = slices.Collect(maps.Keys(g.extra.muted))
		}
		out.Holdings = append(out.Holdings, h)
	}
}

// waitMax is the longest time that a request may wait for its client.
const waitMax = 24 * time.Hour
