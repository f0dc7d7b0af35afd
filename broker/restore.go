package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/line"
	"noctule/broker/message"
	"noctule/broker/offer"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/codec"
	"noctule/topictree"
)

// A broker with a store begins with what the last one has left: New reads the tables, gives every session
// to its loop, lets connections that ended with the last broker end as lost connections do, with their
// wills, and pays what loops still owed each other. Only then does New return, so that no client is there
// before.
//
// The tables are read before there are loops. Then each step needs the one before it, so the first that fails
// ends the start. The committer collects what the steps change and begins when all have succeeded, in the
// order in which they were made: a start that fails leaves the store as it was, and one that is cut off
// leaves debts that the next pays.

// restored is a session on its way to its loop.
type restored struct {
	*state.Session
	estate *client // of a session that has ended
}

// restoring is what the tables hold.
type restoring struct {
	*state.State
	b     *Broker
	meta  store.Meta // of the last broker
	began time.Time
}

// restoreTimeout bounds how long loops and the disk may take at the start.
const restoreTimeout = 10 * time.Minute

// readStore reads what the store holds. There are no loops yet.
func (b *Broker) readStore() (*restoring, error) {
	r := &restoring{b: b, began: now()}
	if err := r.begin(); err != nil {
		return nil, err
	}
	return r, r.read()
}

// step is one step of the start.
type step struct {
	name string
	do   func(ctx context.Context) error
}

// onEach is a step that every loop does.
func (r *restoring) onEach(name string, f func(s *shard)) step {
	return step{name, func(ctx context.Context) error { return r.b.onEach(ctx, f) }}
}

// restore brings back what was read. The broker listens nowhere yet.
func (r *restoring) restore() error {
	b := r.b
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	if r.meta.Loops == 0 {
		r.meta.Loops = uint64(len(b.shards))
	}
	r.Repair.PutMeta(&r.meta) // debts still name the loops of the last broker
	b.committer.Shared(func(batch *store.Batch) { batch.Append(&r.Repair) })
	parts := make([][]*restored, len(b.shards))
	for _, s := range r.Sessions {
		i := b.home([]byte(s.ClientID)).index
		parts[i] = append(parts[i], &restored{Session: s})
	}
	for _, x := range []step{
		r.onEach("sessions", func(s *shard) { r.adoptAll(s, parts[s.index]) }),
		r.onEach("debts", r.payDebts),
		{"shared debts", r.payShares},
		{"payments", b.settle}, // from now on they come before what follows
		r.onEach("end of debts", r.clearDebts),
		r.onEach("lost connections", func(s *shard) { r.endLost(s, parts[s.index]) }),
		{"posts", b.settle},
	} {
		if err := r.take(ctx, x); err != nil {
			return fmt.Errorf("restoring persistent state: %s: %w", x.name, err)
		}
	}
	b.grants.LetGo(b.committer, r.Sets)
	b.committer.Start()
	if err := b.committer.Attempt(ctx); err != nil {
		return fmt.Errorf("persistent state cannot be written: %w", err)
	}
	if len(r.Sessions)+r.Retained > 0 {
		line.Write(b.opts.Log, LevelInfo,
			"Restored %d sessions with %d messages and %d retained messages in %.1f s.",
			len(r.Sessions), r.Entries, r.Retained, now().Sub(r.began).Seconds())
	}
	return nil
}

func (r *restoring) take(ctx context.Context, x step) error {
	if at := r.b.opts.atStart; at != nil {
		if err := at(x.name); err != nil {
			return err
		}
	}
	return x.do(ctx)
}

// settle returns when what the loops have done so far, what that has led to on other loops included, is
// posted.
func (b *Broker) settle(ctx context.Context) error {
	if err := b.onEach(ctx, func(*shard) {}); err != nil { // the turn before has ended
		return err
	}
	return b.onEach(ctx, (*shard).postJournal)
}

// begin reads what the last broker was and gives the next its numbers.
func (r *restoring) begin() (err error) {
	if r.meta, err = state.Begin(r.b.opts.Store); err != nil {
		return err
	}
	last, revision := state.Numbers(&r.meta)
	r.b.homeSeed = r.meta.Seed
	r.b.lastNumber.Store(last)
	r.b.lastMessage.Store(last)
	r.b.grants.Begin(revision)
	return nil
}

// read reads the tables.
func (r *restoring) read() (err error) {
	b := r.b
	o := state.Options{
		Retain: r.retain,
		Progress: func(n int) {
			line.Write(b.opts.Log, LevelInfo, "Reading persistent state: %d records.", n)
		},
	}
	if q := b.queueMemory; q != nil {
		o.Bound, o.Bounded = q.Bound, true
	}
	if r.State, err = state.Load(b.opts.Store, o); err != nil {
		return err
	}
	if r.Lost > 0 { // no crash leaves such records, only an older program, or damage that it has not seen
		line.Write(b.opts.Log, LevelError,
			"Error: %d records of persistent state, which refer to what is not there, are removed.", r.Lost)
	}
	b.grants.Begin(r.Revision)
	b.grants.Hold(r.Sets) // until LetGo
	return b.showStored()
}

// retain takes a retained message.
func (r *restoring) retain(m *message.Message) (keep bool, err error) {
	if m.Expired(r.b.clock.Source.Now()) {
		return false, nil
	}
	if !r.b.opts.CheckRetainSource {
		m.Source = nil // takes memory and nobody asks
	}
	return true, r.b.retained.Load(m.Keep())
}

// adoptAll makes sessions again that live on this loop.
func (r *restoring) adoptAll(s *shard, list []*restored) {
	origins := grants.Origins{}
	for _, x := range list {
		if x.ended() {
			x.adoptEstate(s)
			continue
		}
		cl := &client{Session: session.New(&s.limits), id: x.ClientID, number: x.Number, shard: s}
		cl.SetDurable()
		cl.expiry = offer.CapExpiry(x.Expiry, s.opts.PersistentClientExpiration)
		cl.offlineAt = uint32(s.secondsUp())
		if x.OfflineAt != 0 { // and not later than now, whoever has written that
			cl.offlineAt = uint32(min(max(x.OfflineAt, 0), int64(cl.offlineAt)))
		}
		if x.Username != "" {
			cl.rename(x.Username)
		}
		if x.MountPoint != "" {
			r := auth.Rights{MountPoint: x.MountPoint, Named: x.Username != ""}
			cl.extra().rights = &rights{Rights: r}
		}
		cl.anyUser, cl.anyMount = x.AnyUser, x.AnyMount
		if w := x.Will; w != nil {
			cl.extra().will = &will{m: w.Message.Keep(), delay: w.Delay, expiry: w.Expiry}
		}
		s.sessions[cl.id] = cl
		s.count.Sessions++
		s.b.sessions.Add(1)
		for i := range x.Subscriptions {
			cl.adoptSubscription(&x.Subscriptions[i])
		}
		s.grants.Restore(cl, x.Grants, r.Sets, origins)
		if len(x.Out) > 0 {
			cl.Restore(x.Out)
		}
		for _, h := range x.Held {
			cl.RestoreHeld(h.ID, h.Message)
		}
	}
}

func (c *client) adoptSubscription(r *store.Subscription) {
	name, o := []byte(r.Filter), fanout.Options(r.Options)&fanout.Stored|fanout.Covered
	var err error
	if group, filter, shared := codec.SplitShare(name); shared {
		_, err = c.subscribeShared(group, filter, o, r.ID)
	} else {
		_, err = c.subscribePlain(name, o, r.ID)
	}
	if err != nil {
		c.shard.logf(LevelWarning, "Subscription of %s to %q is not restored: %v.", c.id, r.Filter, err)
		return
	}
	if r.Owed {
		c.adoptReplay(r.Filter)
	}
}

// ended reports whether a stored session is an estate.
func (r *restored) ended() bool { return r.Expiry == 0 && r.OfflineAt != 0 }

// adoptEstate makes an estate again that lives on this loop.
func (r *restored) adoptEstate(s *shard) {
	cl := &client{Session: session.New(&s.limits), id: r.ClientID, number: r.Number, shard: s, ended: true}
	cl.SetDurable()
	cl.Forget()
	if len(r.Out) > 0 {
		cl.Restore(r.Out)
	}
	for _, h := range r.Held {
		cl.RestoreHeld(h.ID, h.Message)
	}
	e := &route.Estate{}
	for i := range r.Subscriptions {
		e.Add(r.Subscriptions[i].Filter)
	}
	cl.extra().estate = e
	r.estate = cl
}

// endLost does for sessions that were online when the last broker ended what the end of a connection without
// DISCONNECT does: their wills are due [MQTT-3.1.2-8], and who has no expiry interval has ended. For the
// others it does what has become due while there was no broker, before anybody can connect.
func (r *restoring) endLost(s *shard, list []*restored) {
	for _, x := range list {
		if x.estate != nil {
			s.loop.Again(estateTask{x.estate})
			continue
		}
		cl := s.sessions[x.ClientID]
		if cl == nil || cl.number != x.Number {
			continue
		}
		if x.OfflineAt == 0 {
			cl.lapse()
			continue
		}
		if !cl.overdue() {
			cl.arm()
		}
	}
}

// payDebts gives this loop's sessions what the last broker's loops had not taken yet. A session that has the
// message already took it before a crash that came while a large fan-out was under way, or while a start was.
func (r *restoring) payDebts(s *shard) {
	for d := range r.Debts() {
		if _, _, shared := d.Share(); shared {
			continue
		}
		s.router.Repay(d.M, d.Filter, func(c *client) bool {
			loop := homeOf(r.meta.Seed, []byte(c.id), max(r.meta.Loops, 1))
			return d.IsOf(loop) && c.Durable() && !c.has(d.M)
		})
	}
}

// payShares deals again what was on its way to members of shared subscriptions.
func (r *restoring) payShares(ctx context.Context) error {
	for d := range r.Debts() {
		var ids []topictree.FilterID
		if group, filter, shared := d.Share(); shared {
			if id, ok := r.b.index.LookupShared(group, filter); ok {
				ids = append(ids, id)
			}
		} else if d.ByTopic() {
			ids = route.SharesOf(r.b.index, d.M.Topic)
		}
		for _, id := range ids {
			if err := r.payShare(ctx, d.M, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// payShare deals a message to a member of a shared subscription, unless one has it.
func (r *restoring) payShare(ctx context.Context, m *message.Message, id topictree.FilterID) error {
	var has atomic.Bool
	err := r.b.onEach(ctx, func(s *shard) {
		for _, cl := range s.sessions {
			_, member := cl.find(id)
			if (member || cl.grants().InShare(id)) && cl.has(m) {
				has.Store(true)
			}
		}
	})
	if err != nil {
		return err
	}
	return r.b.onEach(ctx, func(s *shard) {
		if s.router.Shares.Group(id) != nil && !has.Load() { // this loop deals
			s.router.Deal(m, id, s.index)
		}
	})
}

// has reports whether a message waits for the client.
func (c *client) has(m *message.Message) (found bool) {
	c.Stored(func(st *message.Stored) { found = found || st == m.Stored })
	return found
}

// clearDebts notes that all is paid, once that is durable.
func (r *restoring) clearDebts(s *shard) {
	if s.index != 0 {
		return
	}
	for d := range r.Debts() {
		s.journal.Batch.DeleteTransit(d.Transit)
		s.journal.Unref(d.M.Stored)
	}
	r.meta.Loops = uint64(len(r.b.shards))
	s.journal.Batch.PutMeta(&r.meta)
	s.noteClock()
}
