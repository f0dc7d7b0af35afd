package grants

import (
	"context"
	"slices"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/store"
)

// What servers have subscribed durable sessions to is stored as grants, one per session and origin, that
// refer to a list by its key. A grant is an operation of its session's loop like any other. A list is stored
// once, whatever the number of loops that have it: it is put under the committer's lock before the first
// grant that refers to it is posted, and removed when the post that has let go of the last one is durable.
// What a crash in between leaves is a list that nobody refers to, and the next start removes it.

// kept is how a set is stored.
type kept struct {
	left   uint64 // the post in which the last grant went
	grants uint32 // of durable sessions of this loop
	stored bool   // counted in common.kept
	routed bool   // its filters are counted as durable, so that other loops owe what they send here
}

// holdSet notes that a grant of a durable session has x.
func (t *Table[C]) holdSet(x *set[C]) {
	x.kept.grants++
	if !x.kept.routed {
		x.kept.routed = true
		for i := range x.topics {
			t.journal.Enter(x.topics[i].ID)
		}
	}
	if x.kept.stored {
		return
	}
	x.kept.stored = true
	key := store.SetKey(x.key.Key)
	counts, known := t.kept, false
	t.journal.Committer.Shared(func(*store.Batch) {
		if known = counts[key] > 0; known {
			counts[key]++
		}
	})
	if known {
		return
	}
	value := x.record().Value() // not under the lock: it may be long
	t.journal.Committer.Shared(func(b *store.Batch) {
		if counts[key]++; counts[key] == 1 {
			b.PutSetValue(key, value)
		}
	})
}

// releaseSet notes that one has not any more. The list is removed when that is durable, if no durable
// session of this loop has taken it since.
func (t *Table[C]) releaseSet(x *set[C]) {
	if x.kept.grants--; x.kept.grants > 0 {
		return
	}
	left := t.journal.Ticket().Number
	x.kept.left = left
	t.journal.Tell(func() {
		if x.kept.grants > 0 || !x.kept.stored || x.kept.left != left {
			return
		}
		x.kept.stored = false
		key := store.SetKey(x.key.Key)
		t.journal.Committer.Shared(func(b *store.Batch) { t.unkeep(b, key) })
	})
}

// unkeep counts a list once less. Under the committer's lock.
func (x *common) unkeep(batch *store.Batch, key store.SetKey) {
	if x.kept[key]--; x.kept[key] == 0 {
		delete(x.kept, key)
		batch.DeleteSet(key)
	}
}

// record is a set as it is stored.
func (x *set[C]) record() *store.Set {
	r := &store.Set{Key: store.SetKey(x.key.Key), Topics: make([]store.SetTopic, 0, x.len())}
	for i := range x.topics {
		p := &x.topics[i]
		r.Topics = append(r.Topics, store.SetTopic{
			Filter: p.ID.Filter(), Options: uint8(p.Options&fanout.Stored) | p.RetainHandling<<4, ID: p.SubID,
		})
	}
	for i := range x.shares {
		p := &x.shares[i]
		r.Topics = append(r.Topics, store.SetTopic{
			Filter: p.Filter, Options: uint8(optionsOf(p)) | p.RetainHandling<<4, ID: p.ID,
		})
	}
	if x.ending != nil {
		for i := range r.Topics {
			r.Topics[i].End = x.ending.topics.EndOf(r.Topics[i].Filter)
		}
	}
	return r
}

// save notes what a durable session has of one origin.
func (t *Table[C]) save(c C, g *grant[C]) {
	a := c.About()
	if !a.Durable {
		return
	}
	r := store.Grant{
		Session: a.Number, Origin: g.origin.Name, Revision: g.revision,
		Unsubscribe: uint8(g.origin.Unsubscribe), Bypass: g.origin.Bypass, PerConnect: g.origin.PerConnect,
	}
	for x := c.Given(true).first; x != g; x = x.next {
		r.Place++ // below grantsMax
	}
	if g.set != nil {
		r.Set = store.SetKey(g.set.key.Key)
	}
	if g.extra != nil {
		for f := range g.extra.muted {
			r.Muted = append(r.Muted, f)
		}
		if r.Owed, r.OwedAll = g.extra.replay.Owed(g.set.plain()); r.OwedAll {
			r.Owed = nil
		}
	}
	t.journal.Batch.PutGrant(&r)
}

// whenDurable calls f on the loop once everything that this loop has changed for a client is durable: at once
// if its session is not durable, or nothing waits for that.
func (t *Table[C]) whenDurable(a *About, f func()) {
	if !a.Durable || !t.journal.Gates {
		f()
		return
	}
	t.journal.Tell(f)
}

// durably returns when what a loop has changed so far is durable; false when ctx has ended before.
func (t *Table[C]) durably(ctx context.Context) bool {
	return t.journal.Durably(func(f func(func())) bool { return t.loops.Await(ctx, t.at, f) })
}

// promised returns when what a loop has changed for a request is durable, or leaves that to the request's
// Promises; false when ctx has ended before.
func (t *Table[C]) promised(ctx context.Context, r *behalf.Request) bool {
	if r.Promises == nil {
		return t.durably(ctx)
	}
	r.Promises.Add(t.at, t.durably)
	return true
}

// Lists are the lists of topics that a store has.
type Lists = map[store.SetKey]*behalf.Set

// Hold keeps lists in the store until all loops have taken what they have of them. Before a loop runs.
func (d *Doors[C]) Hold(lists Lists) {
	for key := range lists {
		d.kept[key] = 1
	}
}

// LetGo is the end of Hold.
func (d *Doors[C]) LetGo(c *store.Committer, lists Lists) {
	c.Shared(func(b *store.Batch) {
		for key := range lists {
			d.unkeep(b, key)
		}
	})
}

// Origins has each origin of stored grants once.
type Origins map[behalf.Origin]*behalf.Origin

func (all Origins) of(g *store.Grant) *behalf.Origin {
	o := behalf.Origin{
		Name: g.Origin, Unsubscribe: behalf.Policy(g.Unsubscribe), Bypass: g.Bypass, PerConnect: g.PerConnect,
	}
	if all[o] == nil {
		all[o] = &o
	}
	return all[o]
}

// Restore makes again what servers have given a session.
func (t *Table[C]) Restore(c C, list []store.Grant, lists Lists, origins Origins) {
	t.loop.MustBeHere()
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, func(a, b store.Grant) int { return int(a.Place) - int(b.Place) })
	for i := range list {
		x := &list[i]
		g := c.Given(true).add(origins.of(x))
		if g == nil {
			t.warn("Subscriptions of %s by %q are not restored: it has too many origins.",
				c.About().ID, x.Origin)
			t.journal.Batch.DeleteGrant(x.Session, x.Origin)
			continue
		}
		g.revision = x.Revision
		for _, f := range x.Muted {
			g.mute(f)
		}
		if topics := lists[x.Set]; topics != nil {
			left := topics.After(t.seconds())
			t.restoreSet(c, g, left)
			if left != topics {
				t.endedMeanwhile(c, g, topics.Len()-left.Len())
			}
			t.resumeReplay(c, g, x.Owed, x.OwedAll)
		}
		if g.set != nil && store.SetKey(g.set.key.Key) != x.Set || g.set == nil && x.Set != (store.SetKey{}) {
			t.save(c, g)
		}
	}
	t.syncShares(c)
}

func (t *Table[C]) restoreSet(c C, g *grant[C], topics *behalf.Set) {
	if topics.Len() == 0 {
		return
	}
	x := t.pin(topics, g.origin.Bypass)
	t.plant(x, topics.Len())
	if x.len() > 0 { // else all of it was refused
		t.exchange(c, g, x)
	}
	t.unpin(x)
	t.counted(x, nil)
}
