package broker

import (
	"context"
	"errors"
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
	stored bool   // counted in Broker.kept
	routed bool   // its filters are counted as durable, so that other loops owe what they send here
}

// holdSet notes that a grant of a durable session has x.
func (s *shard) holdSet(x *set) {
	x.kept.grants++
	if !x.kept.routed {
		x.kept.routed = true
		for i := range x.topics {
			s.journal.Enter(x.topics[i].ID)
		}
	}
	if x.kept.stored {
		return
	}
	x.kept.stored = true
	key := store.SetKey(x.key.Key)
	counts, known := s.b.kept, false
	s.journal.Committer.Shared(func(*store.Batch) {
		if known = counts[key] > 0; known {
			counts[key]++
		}
	})
	if known {
		return
	}
	value := x.record().Value() // not under the lock: it may be long
	s.journal.Committer.Shared(func(b *store.Batch) {
		if counts[key]++; counts[key] == 1 {
			b.PutSetValue(key, value)
		}
	})
}

// releaseSet notes that one has not any more. The list is removed when that is durable, if no durable
// session of this loop has taken it since.
func (s *shard) releaseSet(x *set) {
	if x.kept.grants--; x.kept.grants > 0 {
		return
	}
	left := s.journal.Ticket().Number
	x.kept.left = left
	s.journal.Tell(func() {
		if x.kept.grants > 0 || !x.kept.stored || x.kept.left != left {
			return
		}
		x.kept.stored = false
		key := store.SetKey(x.key.Key)
		s.journal.Committer.Shared(func(b *store.Batch) { s.b.unkeep(b, key) })
	})
}

// unkeep counts a list once less. Under the committer's lock.
func (b *Broker) unkeep(batch *store.Batch, key store.SetKey) {
	if b.kept[key]--; b.kept[key] == 0 {
		delete(b.kept, key)
		batch.DeleteSet(key)
	}
}

// record is a set as it is stored.
func (x *set) record() *store.Set {
	r := &store.Set{Key: store.SetKey(x.key.Key), Topics: make([]store.SetTopic, 0, x.len())}
	for i := range x.topics {
		t := &x.topics[i]
		r.Topics = append(r.Topics, store.SetTopic{
			Filter: t.ID.Filter(), Options: uint8(t.Options&fanout.Stored) | t.RetainHandling<<4, ID: t.SubID,
		})
	}
	for i := range x.shares {
		t := &x.shares[i]
		r.Topics = append(r.Topics, store.SetTopic{
			Filter: t.Filter, Options: uint8(optionsOf(t)) | t.RetainHandling<<4, ID: t.ID,
		})
	}
	return r
}

// saveGrant notes what a durable session has of one origin.
func (s *shard) saveGrant(cl *client, g *grant) {
	if !cl.Durable() {
		return
	}
	r := store.Grant{
		Session: cl.number, Origin: g.origin.Name, Revision: g.revision,
		Unsubscribe: uint8(g.origin.Unsubscribe), Bypass: g.origin.Bypass, PerConnect: g.origin.PerConnect,
	}
	for x := cl.grants(); x != g; x = x.next {
		r.Place++ // below grantsMax
	}
	if g.set != nil {
		r.Set = store.SetKey(g.set.key.Key)
	}
	if g.extra != nil {
		for f := range g.extra.muted {
			r.Muted = append(r.Muted, f)
		}
		if r.Owed, r.OwedAll = g.extra.replay.Owed(g.set.plainLen()); r.OwedAll {
			r.Owed = nil
		}
	}
	s.journal.Batch.PutGrant(&r)
}

// whenDurable calls f on the loop once everything that this loop has changed for a client is durable: at once
// if its session is not durable, or nothing waits for that.
func (s *shard) whenDurable(cl *client, f func()) {
	if !cl.Durable() || !s.journal.Gates {
		f()
		return
	}
	s.journal.Tell(f)
}

// durably returns when what a shard has changed so far is durable; false when ctx has ended before.
func (b *Broker) durably(ctx context.Context, s *shard) bool {
	if b.committer == nil || b.opts.PersistenceSync == SyncInterval {
		return true
	}
	return b.await(ctx, s, s.journal.Tell)
}

// promised returns when what a shard has changed for a request is durable, or leaves that to the request's
// Promises; false when ctx has ended before.
func (b *Broker) promised(ctx context.Context, s *shard, r *behalf.Request) bool {
	if r.Promises == nil {
		return b.durably(ctx, s)
	}
	r.Promises.Add(s.index, func(ctx context.Context) bool { return b.durably(ctx, s) })
	return true
}

// refusesGrants reports whether a session's subscriptions may not be changed since that could not be kept.
func (s *shard) refusesGrants(cl *client) bool { return cl.Durable() && s.journal.Failing() }

// letGoOfSets gives up what has held the lists until all loops had taken what they have of them.
func (r *restoring) letGoOfSets() {
	r.b.committer.Shared(func(b *store.Batch) {
		for key := range r.Sets {
			r.b.unkeep(b, key)
		}
	})
}

// originSet has each origin once.
type originSet map[behalf.Origin]*behalf.Origin

func (all originSet) of(g *store.Grant) *behalf.Origin {
	o := behalf.Origin{
		Name: g.Origin, Unsubscribe: behalf.Policy(g.Unsubscribe), Bypass: g.Bypass, PerConnect: g.PerConnect,
	}
	if all[o] == nil {
		all[o] = &o
	}
	return all[o]
}

// adoptGrants makes again what servers have subscribed a session to.
func (r *restoring) adoptGrants(s *shard, cl *client, list []store.Grant, origins originSet) {
	slices.SortFunc(list, func(a, b store.Grant) int { return int(a.Place) - int(b.Place) })
	for i := range list {
		x := &list[i]
		g := cl.addGrant(origins.of(x))
		if g == nil {
			s.logf(LevelWarning, "Subscriptions of %s by %q are not restored: it has too many origins.",
				cl.id, x.Origin)
			s.journal.Batch.DeleteGrant(x.Session, x.Origin)
			continue
		}
		g.revision = x.Revision
		for _, f := range x.Muted {
			g.mute(f)
		}
		if topics := r.Sets[x.Set]; topics != nil {
			s.adoptSet(cl, g, topics)
			s.adoptGrantReplay(cl, g, x.Owed, x.OwedAll)
		}
		if g.set != nil && store.SetKey(g.set.key.Key) != x.Set || g.set == nil && x.Set != (store.SetKey{}) {
			s.saveGrant(cl, g)
		}
	}
	s.syncShares(cl)
}

func (s *shard) adoptSet(cl *client, g *grant, topics *behalf.Set) {
	if topics.Len() == 0 {
		return
	}
	x := s.pin(topics, g.origin.Bypass)
	s.plant(x, topics.Len())
	if x.len() > 0 { // else all of it was refused
		s.exchange(cl, g, x)
	}
	s.unpin(x)
	s.count.subscriptions += int64(x.plainLen())
	s.count.granted += int64(x.len())
}

var errNotKept = errors.New("broker: persistent state cannot be written")
