package grants

import (
	"slices"

	"noctule/broker/behalf"
	"noctule/broker/retained"
)

// newGrant makes a grant of an origin that the session has none of. If there are too many, those without
// topics are forgotten: their revisions go on with the new one. nil: all of them have topics.
func (t *Table[C]) newGrant(c C, o *behalf.Origin) *grant[C] {
	l := c.Given(true)
	g := l.add(o)
	if g != nil {
		return g
	}
	revision := l.Revision()
	if !t.forgetEmptied(c) {
		return nil
	}
	g = l.add(o)
	g.revision = revision
	return g
}

// forgetEmptied takes all grants without topics out of the list; false if there are none.
func (t *Table[C]) forgetEmptied(c C) bool {
	t.loop.MustBeHere()
	gone, a := false, c.About()
	for at := &c.Given(true).first; *at != nil; {
		g := *at
		if g.set == nil && g.extra == nil && !g.late {
			*at, gone = g.next, true
			if a.Durable {
				t.journal.Batch.DeleteGrant(a.Number, g.origin.Name)
			}
			continue
		}
		if gone { // its place is another
			t.save(c, g)
		}
		at = &g.next
	}
	return gone
}

// regrant replaces what a session has of one origin by the topics of a set, which is planted; nil for none.
// Every topic that was there before goes on without a gap. What is asked for by name is no longer muted, and
// with again its retained messages are sent although it was there before, as with a SUBSCRIBE [MQTT-3.8.4-3].
// It returns the grant, nil when the session has too many.
func (t *Table[C]) regrant(c C, o *behalf.Origin, x *set[C], asked *behalf.Set, again bool) *grant[C] {
	t.loop.MustBeHere()
	g := c.Given(false).of(o.Name)
	fresh := g == nil
	if fresh {
		if g = t.newGrant(c, o); g == nil {
			return nil
		}
	}
	changed := fresh || g.origin != o && *g.origin != *o || g.revision == 0
	g.origin, g.late = o, false
	old := g.set
	if x.len() == 0 {
		x = nil
	}
	replay := t.freshTopics(g, x, asked, again)
	if old != x {
		g.revision = t.revision.Add(1)
		t.counted(x, old)
		t.exchange(c, g, x)
		changed = true
	}
	if g.extra != nil {
		for f := range g.extra.muted { // asked for anew, or gone
			if _, ok := asked.Find(f); ok || !g.set.contains(f) {
				delete(g.extra.muted, f)
				changed = true
			}
		}
	}
	if t.replay(c, g, replay) || changed {
		t.save(c, g)
	}
	t.syncShares(c)
	g.settle()
	return g
}

// counted notes that a session has x in place of old.
func (t *Table[C]) counted(x, old *set[C]) {
	t.count.Plain += int64(x.plain() - old.plain())
	t.count.Topics += int64(x.len() - old.len())
}

// exchange moves the membership from the set that a grant has to another.
func (t *Table[C]) exchange(c C, g *grant[C], x *set[C]) {
	t.loop.MustBeHere()
	l, durable := c.Given(true), c.About().Durable
	old, member, at := g.set, g.member, int(g.at)
	g.set, g.member = nil, false
	if x != nil {
		if x.grants++; x.ending != nil {
			t.ends.watch(x)
		}
		if durable {
			t.holdSet(x)
		}
		other := l.memberOf(x)
		g.set = x
		if other == nil {
			g.member, g.at = true, uint32(x.members.Enter(c))
		}
	}
	if old == nil {
		return
	}
	if member {
		if other := l.sharing(old); other != nil { // a later grant of the same set takes the place over
			other.member, other.at = true, uint32(at)
		} else {
			t.receivers.Exit(&old.members, at, x != nil)
		}
	}
	if durable {
		t.releaseSet(old)
	}
	if old.grants--; old.grants == 0 && old.ending != nil {
		t.ends.forget(old)
	}
	t.uproot(old)
}

// memberOf is the client's grant that is a member of x.
func (l *List[C]) memberOf(x *set[C]) *grant[C] {
	for g := l.head(); g != nil; g = g.next {
		if g.set == x && g.member {
			return g
		}
	}
	return nil
}

// sharing is a grant of x.
func (l *List[C]) sharing(x *set[C]) *grant[C] {
	for g := l.head(); g != nil; g = g.next {
		if g.set == x {
			return g
		}
	}
	return nil
}

// freshTopics is the topics of next, which takes the place of the grant's set, whose retained messages are to
// be sent.
func (t *Table[C]) freshTopics(g *grant[C], next *set[C], asked *behalf.Set, again bool) []retained.Topic {
	old := g.set
	if next == nil || !t.limits.Retained || t.retained.Len() == 0 || old == next && asked.Len() == 0 {
		return nil
	}
	if old == nil {
		return next.topics // each looks at its own Retain Handling
	}
	var list []retained.Topic
	for i := range next.topics {
		topic := &next.topics[i]
		filter := topic.ID.Filter()
		stood := g.stood(filter)
		_, named := asked.Find(filter)
		if stood.Replays(named, again, topic.RetainHandling) {
			list = append(list, *topic)
			list[len(list)-1].Had = stood == behalf.Held
		}
	}
	return list
}

// unmute gives a client back what it has unsubscribed from, with its retained messages: these are new
// subscriptions [MQTT-3.3.1-9].
func (t *Table[C]) unmute(c C, g *grant[C]) {
	var list []retained.Topic
	for filter := range g.extra.muted {
		if i, ok := g.set.find(filter); ok {
			list = append(list, g.set.topics[i])
		}
	}
	slices.SortFunc(list, func(a, b retained.Topic) int { return retained.ByFilter(a, b.ID.Filter()) })
	g.extra.muted = nil
	if t.limits.Retained && t.retained.Len() > 0 {
		t.replay(c, g, list)
	}
	t.save(c, g)
	t.syncShares(c)
	g.settle()
}

// Withdraw decides about an UNSUBSCRIBE for what others have given a client: done says that it had it, and
// denied that it may not end it.
func (t *Table[C]) Withdraw(c C, filter string) (done, denied bool) {
	t.loop.MustBeHere()
	l := c.Given(false)
	for g := l.head(); g != nil; g = g.next {
		if g.origin.Unsubscribe == behalf.Deny && g.has(filter) {
			return true, true
		}
	}
	for g := l.head(); g != nil; g = g.next {
		if !g.has(filter) {
			continue
		}
		g.mute(filter)
		t.save(c, g) // and no more retained messages for it [MQTT-3.10.4-2]: see List.Current
		done = true
	}
	if done {
		t.syncShares(c)
	}
	return done, false
}

// Drop ends all that a session has been given, when it ends.
func (t *Table[C]) Drop(c C) {
	t.loop.MustBeHere()
	l := c.Given(false)
	if l.Empty() {
		return
	}
	for g := l.first; g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		t.counted(nil, g.set)
		t.exchange(c, g, nil)
		t.leaveShares(c, g.extra)
		g.extra = nil
	}
	if a := c.About(); a.Durable {
		t.journal.Batch.DropGrants(a.Number)
	}
	l.first = nil
}
