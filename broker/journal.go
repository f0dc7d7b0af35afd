package broker

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// How durable state is kept, and how its promises are.
//
// Whatever changes a durable session, one whose expiry interval is not 0, is noted as an operation in the
// journal of its loop. At the end of the turn, before other loops are told anything and before a socket is
// written, the journal is posted to the committer (broker/store); some milliseconds later that tells that the
// post is durable. A packet that promises something - PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK, CONNACK,
// PUBREL, and a PUBLISH of QoS 2 with its packet id - waits behind a gate of its client until then, and all
// that goes to this client later waits behind it, so that order holds [MQTT-4.6.0-2]. A packet whose handling
// noted nothing, and a client without a gate, do not wait. UNSUBACK does not wait for long (late.go).
//
// The operations of a turn are durable together or not at all. So a PUBREL's fan-out to the sessions of
// this loop and the end of its packet id are one. For sessions of other loops the same post holds a transit
// per loop and filter: a debt, which the other loop pays in the one post that holds what its sessions got.
// What is still owed after a crash is paid at the start (restore.go).
type journal struct {
	// Set by newJournal, then read-only:
	c     *store.Committer
	gates bool // false: nothing waits (persistence_sync interval)

	settle func(*store.Batch) // settleRefs

	// Owned by the loop:
	batch   store.Batch
	posted  uint64 // number of the last post
	reached uint64 // number of the last post that is durable
	touched int    // changes of this turn that are not in batch
	mark    int    // changes of this turn before the current packet
	wanted  bool   // somebody waits for the next post
	full    bool   // too much is not durable: no sockets are read
	gated   []gated
	late    []late
	unrefs  []*message.Stored          // needed once less when this turn is posted
	members map[topictree.FilterID]int // durable subscribers of this loop, and sets that such have

	// Of subscriptions made by servers, oldest first (grantjournal.go):
	told     []told
	released []release
}

// gated is a client that waits for a post.
type gated struct {
	cl   *client
	gate *gate
	post uint64
}

// gate is output of one connection that must not leave yet.
type gate struct {
	buf   []byte
	from  int       // what is before has left
	parts []segment // oldest first
}

// segment is output up to a place, and the post it waits for.
type segment struct {
	post uint64
	end  int
}

// PersistenceSync says when what is acknowledged is durable.
type PersistenceSync uint8

// The values of persistence_sync.
const (
	SyncGroup    PersistenceSync = iota // before the acknowledgement, in groups
	SyncAlways                          // the same
	SyncInterval                        // about a second later
)

// Times and sizes of commits.
const (
	intervalLinger = time.Second
	groupFull      = 1 << 20
	pendingMax     = 64 << 20 // bytes not yet durable from which no socket is read: the disk is too slow
)

// maxLoops is the highest number of event loops.
const maxLoops = 64

// openCommitter makes the committer for the store in the options. It is there before the loops are, and
// commits nothing before the start has succeeded.
func (b *Broker) openCommitter() {
	o := store.CommitterOptions{
		Sources:   maxLoops,
		FullBytes: groupFull,
		Failed:    b.commitFailed,
		Done: func(source int, post uint64) {
			s := b.shards[source]
			s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.durable(post) })) // one a commit
		},
	}
	if b.opts.PersistenceSync == SyncInterval {
		o.Linger, o.FullBytes = intervalLinger, 0
	}
	b.committer = store.NewCommitter(b.opts.Store, o)
}

// newJournal is the journal of one loop; nil without a store.
func (b *Broker) newJournal() *journal {
	if b.committer == nil {
		return nil
	}
	j := &journal{
		c: b.committer, gates: b.opts.PersistenceSync != SyncInterval,
		members: make(map[topictree.FilterID]int),
	}
	j.settle = j.settleRefs
	return j
}

func (b *Broker) commitFailed(err error) {
	if err == nil {
		logf(b.opts.Log, LevelNotice, "Persistent state can be written again.")
		return
	}
	b.storeError.Store(&err)
	logf(b.opts.Log, LevelError,
		"Error: Persistent state cannot be written, what needs it is refused until it can: %v", err)
	for _, s := range b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) { // once a failure
			s.resume()
			s.answerLate(0, l.Now())
		}))
	}
}

// changes counts what this turn has changed so far.
func (j *journal) changes() int { return j.batch.Len() + j.touched + len(j.unrefs) }

// begin notes that the handling of a packet begins.
func (s *shard) begin() {
	s.loop.MustBeHere()
	if s.journal != nil {
		s.journal.mark = s.journal.changes()
	}
}

// postJournal hands what this turn has changed to the committer.
func (s *shard) postJournal() {
	s.loop.MustBeHere()
	j := s.journal
	if j == nil || j.changes() == 0 && !j.wanted {
		return
	}
	j.posted++
	var last func(*store.Batch)
	if len(j.unrefs) > 0 {
		last = j.settle
	}
	j.c.Post(s.index, j.posted, &j.batch, last)
	j.touched, j.mark, j.wanted = 0, 0, false
	if !j.full && j.c.Pending() > pendingMax && !j.c.Failing() {
		j.full = true
		s.halt(true)
	}
}

// settleRefs gives up what this turn has not needed any more, and deletes what nobody needs. It does so
// when the post that says why gets its place: on another loop the last reference may go, or a new one come,
// meanwhile, and a message must go neither before all that refers to it nor after it was put again.
func (j *journal) settleRefs(b *store.Batch) {
	for _, st := range j.unrefs {
		if st.Unref() {
			b.DeleteMessage(st.ID)
		}
	}
	clear(j.unrefs)
	j.unrefs = j.unrefs[:0]
}

// resume goes on reading sockets when the disk has caught up, or when what needs it is refused anyway.
func (s *shard) resume() {
	if j := s.journal; j.full && (j.c.Pending() <= pendingMax/2 || j.c.Failing()) {
		j.full = false
		s.halt(false)
	}
}

// storeFails reports whether the store cannot keep anything at the moment.
func (s *shard) storeFails() bool { return s.journal != nil && s.journal.c.Failing() }

// errStore refuses what an MQTT 3 client could not be told otherwise.
func errStore(t codec.Type) error {
	const detail = "persistent state cannot be written"
	return ending{&codec.Error{Reason: codec.QuotaExceeded, Packet: t, Detail: detail}, EndStore}
}

// storedOf is what the store knows of m, which is kept for it.
func (s *shard) storedOf(m *message.Message) *message.Stored {
	k := m.Keep()
	if k.Stored == nil {
		k.Stored = message.NewStored(s.b.lastMessage.Add(1), k)
	}
	return k.Stored
}

// ref notes one reference more to m, which is put into the store with the first.
func (s *shard) ref(m *message.Message) (id uint64) {
	s.loop.MustBeHere()
	st := s.storedOf(m)
	if st.Ref() {
		s.journal.batch.PutMessage(st.ID, m)
	}
	return st.ID
}

// unref notes one less, from the end of the turn on.
func (s *shard) unref(m *message.Message) {
	s.unrefStored(m.Keep().Stored)
}

// unrefStored is unref for what may not be in memory.
func (s *shard) unrefStored(st *message.Stored) {
	s.loop.MustBeHere()
	s.journal.unrefs = append(s.journal.unrefs, st)
}

// Changed implements session.Sink.
func (c *client) Changed(ch session.Change) {
	s := c.shard
	if ch.Kind == session.Expired {
		s.drop(DropExpired)
		return
	}
	if ch.Kind == session.Wanted {
		s.away.wanting.Push(c)
		return
	}
	if ch.Kind == session.Superseded {
		c.superseded(ch)
		return
	}
	b := &s.journal.batch
	e := store.Entry{
		Session: c.number, Seq: ch.Seq, QoS: ch.Grant.QoS, Retain: ch.Grant.Retain,
		Share:          ch.Grant.Share,
		SubscriptionID: ch.Grant.SubscriptionID, State: store.State(ch.State), PacketID: ch.ID,
	}
	switch ch.Kind {
	case session.Stored:
		e.Message = s.ref(ch.Message)
		b.PutEntry(&e)
	case session.Moved:
		e.Message = s.storedOf(ch.Message).ID
		b.PutEntry(&e)
	case session.Yielded:
		b.PutEntry(&e)
		s.unref(ch.Message)
	case session.Removed:
		b.DeleteEntry(c.number, ch.Seq)
		if ch.Message != nil {
			s.unref(ch.Message)
		} else if ch.Away != nil {
			s.unrefStored(ch.Away)
		}
	case session.Held:
		h := store.Handshake{Session: c.number, PacketID: ch.ID}
		if ch.Message != nil {
			h.Message = s.ref(ch.Message)
		}
		b.PutHandshake(&h)
	case session.Released:
		b.DeleteHandshake(c.number, ch.ID) // who passes the message on gives it up after that
	case session.Expired, session.Wanted, session.Superseded:
	}
}

// superseded gives up an incoming message under whose packet id another one has come, and says so as
// Mosquitto does.
func (c *client) superseded(ch session.Change) {
	s := c.shard
	s.logf(LevelWarning, "Reused message ID %d from %s detected. Clearing from storage.", ch.ID, c.id)
	if c.Durable() {
		s.journal.batch.DeleteHandshake(c.number, ch.ID)
		if ch.Message != nil {
			s.unref(ch.Message)
		}
	}
}

// saveSession notes what CONNECT, DISCONNECT and the will have made of a durable session.
func (s *shard) saveSession(cl *client) {
	if !cl.Durable() {
		return
	}
	r := store.Session{Number: cl.number, ClientID: cl.id, Expiry: cl.expiry}
	if cl.conn == nil {
		r.OfflineAt = int64(cl.offlineAt)
	}
	r.Username, r.MountPoint = cl.username(), cl.rights().mountPoint()
	r.AnyUser, r.AnyMount = cl.anyUser, cl.anyMount
	// What its client may do is not stored, so a will that may not be published now never is after a restart.
	if w := cl.will(); w != nil && cl.may(auth.Write, w.m.Topic) {
		r.Will = &store.Will{Message: *w.m, Delay: w.delay, Expiry: w.expiry}
	}
	s.journal.batch.PutSession(&r)
}

// saveEnd notes that a durable session is no more.
func (s *shard) saveEnd(cl *client) {
	if cl.Durable() {
		cl.Stored(s.unrefStored)
		cl.End()
		s.journal.batch.DropSession(cl.number)
	}
}

// saveSubscription notes a subscription that was granted.
func (s *shard) saveSubscription(cl *client, f *codec.Filter, o fanout.Options, subID uint32) {
	if !cl.Durable() {
		return
	}
	r := store.Subscription{
		Session: cl.number, Filter: string(f.Name), Options: uint8(o & fanout.Stored), ID: subID,
	}
	if q := cl.replays(); q != nil {
		if i, ok := s.lookup(cl, f.Name); ok {
			r.Owed = q.Of(cl.subs[i].id) != nil
		}
	}
	s.journal.batch.PutSubscription(&r)
}

// loopsOf is which loops have durable subscribers of a filter, as a bit set; for a shared subscription, which
// have durable members. Messages for others are no debt.
func (b *Broker) loopsOf(id topictree.FilterID) uint64 {
	if set, ok := b.durable.Load(id); ok {
		return set.(*loopSet).bits.Load()
	}
	return 0
}

// joinDurable notes a durable subscriber of this loop.
func (s *shard) joinDurable(cl *client, id topictree.FilterID) {
	if !cl.Durable() {
		return
	}
	s.enterDurable(id)
}

// leaveDurable notes that one has gone.
func (s *shard) leaveDurable(cl *client, id topictree.FilterID) {
	if !cl.Durable() {
		return
	}
	s.leaveRouted(id)
}

// enterDurable counts a filter that a durable session, or a set that such have, has on this loop.
func (s *shard) enterDurable(id topictree.FilterID) {
	m := s.journal.members
	if m[id]++; m[id] > 1 {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	set, _ := s.b.durable.LoadOrStore(id, &loopSet{})
	set.(*loopSet).bits.Or(1 << s.index)
}

// leaveRouted is the end of enterDurable.
func (s *shard) leaveRouted(id topictree.FilterID) {
	m := s.journal.members
	if m[id]--; m[id] > 0 {
		return
	}
	delete(m, id)
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if set, ok := s.b.durable.Load(id); ok {
		bits := &set.(*loopSet).bits
		if bits.And(^(uint64(1) << s.index)); bits.Load() == 0 {
			s.b.durable.Delete(id)
		}
	}
}

// loopSet is a set of loops. It changes under Broker.mu.
type loopSet struct {
	bits atomic.Uint64
}

// owe notes that a loop is to take m for a filter, if it has durable subscribers there; true when it has.
func (s *shard) owe(m *message.Message, id topictree.FilterID, loop int) bool {
	if s.journal == nil || m.QoS == 0 || s.b.loopsOf(id)&(1<<loop) == 0 {
		return false
	}
	s.putTransit(m, id, loop)
	return true
}

// oweShared is owe for a shared subscription that another loop deals or has the member of.
func (s *shard) oweShared(m *message.Message, id topictree.FilterID, loop int) bool {
	if s.journal == nil || m.QoS == 0 || s.b.loopsOf(id) == 0 {
		return false
	}
	s.putTransit(m, id, loop)
	return true
}

func (s *shard) putTransit(m *message.Message, id topictree.FilterID, loop int) {
	s.loop.MustBeHere()
	t := store.Transit{Message: s.ref(m), Loop: uint8(loop), Filter: s.b.index.Filter(id)}
	s.journal.batch.PutTransit(&t)
}

// oweTopic notes that m is being passed on to all whose subscriptions match its topic, or to those of one
// loop, in later turns.
func (s *shard) oweTopic(m *message.Message, loop int) {
	s.journal.batch.PutTransit(&store.Transit{Message: s.ref(m), Loop: uint8(loop)})
}

// paidTopic is the end of oweTopic.
func (s *shard) paidTopic(m *message.Message, loop int) {
	s.journal.batch.DeleteTransit(&store.Transit{Message: m.Keep().Stored.ID, Loop: uint8(loop)})
	s.unref(m)
}

// paid notes that this loop has taken m for a filter.
func (s *shard) paid(m *message.Message, id topictree.FilterID) {
	s.loop.MustBeHere()
	t := store.Transit{Message: m.Keep().Stored.ID, Loop: uint8(s.index), Filter: s.b.index.Filter(id)}
	s.journal.batch.DeleteTransit(&t)
	s.unref(m)
}

// promise makes what goes to c from now on wait if the current packet has changed anything.
func (c *client) promise() {
	if j := c.shard.journal; j != nil && j.changes() != j.mark {
		c.wait()
	}
}

// wait makes what goes to c from now on wait for the post of this turn.
func (c *client) wait() {
	j := c.shard.journal
	if !j.gates {
		return
	}
	x := c.extra()
	if x.gate == nil {
		x.gate = &gate{}
	}
	g, post := x.gate, j.posted+1
	if n := len(g.parts); n > 0 && g.parts[n-1].post == post {
		return
	}
	g.parts = append(g.parts, segment{post: post, end: len(g.buf)})
	j.gated = append(j.gated, gated{c, g, post})
	j.wanted = true
}

// reserve returns n bytes at the end of the client's output, to be filled at once.
func (c *client) reserve(n int) []byte {
	if c.rare == nil || c.rare.gate == nil {
		return c.conn.Reserve(n)
	}
	g := c.rare.gate
	at := len(g.buf)
	g.buf = append(g.buf, make([]byte, n)...)
	g.parts[len(g.parts)-1].end = at + n
	return g.buf[at : at+n : at+n]
}

// reserveNow is reserve for what may leave before what waits. It does not come before CONNACK, which is first
// [MQTT-3.2.0-1].
//
// PINGRESP promises nothing and says that the broker is alive: it does not wait for a disk that stands still.
func (c *client) reserveNow(n int) []byte {
	if c.rare == nil || c.rare.gate == nil {
		return c.conn.Reserve(n)
	}
	if g := c.rare.gate; g.from < len(g.buf) && codec.Type(g.buf[g.from]>>4) == codec.CONNACK {
		return c.reserve(n)
	}
	return c.conn.Reserve(n)
}

// buffered is the output that has not left.
func (c *client) buffered() int {
	n := c.conn.Buffered()
	if c.rare != nil && c.rare.gate != nil {
		n += len(c.rare.gate.buf) - c.rare.gate.from
	}
	return n
}

// dropGate forgets what waits, but not that it has: the connection ends.
func (c *client) dropGate() {
	if j := c.shard.journal; j != nil && len(j.late) > 0 {
		j.late = slices.DeleteFunc(j.late, func(l late) bool { return l.cl == c })
	}
	if c.rare == nil || c.rare.gate == nil {
		return
	}
	if parts := c.rare.gate.parts; c.Durable() {
		c.rare.owed = parts[len(parts)-1].post
	}
	c.rare.gate = nil
}

// bear notes that the post of this turn stores the session.
func (c *client) bear() {
	if j := c.shard.journal; j.gates {
		c.extra().born = j.posted + 1
	}
}

// kept notes that what was posted up to a post is durable.
func (r *rareState) kept(post uint64) {
	if r.born <= post {
		r.born = 0
	}
	if r.owed <= post {
		r.owed = 0
	}
}

// comesBack has CONNACK of a session that is resumed while the store fails not wait: it promises what is
// stored, and what it leads to makes room. A session that is not stored yet waits. What its client was not
// told before its connection ended, since it was not durable, it must not hear in answer to a repetition
// that changes nothing any more: then all behind CONNACK waits.
func (s *shard) comesBack(cl *client) (waits bool) {
	r := cl.rare
	if r != nil {
		r.kept(s.journal.reached)
		if r.born > 0 {
			return false
		}
	}
	s.begin()
	return r != nil && r.owed > 0
}

// durable lets out what has waited for posts up to one.
func (s *shard) durable(post uint64) {
	s.loop.MustBeHere()
	j := s.journal
	j.reached = post
	s.resume()
	n := 0
	for ; n < len(j.gated) && j.gated[n].post <= post; n++ {
		w := &j.gated[n]
		if w.cl.conn != nil && w.cl.rare != nil && w.cl.rare.gate == w.gate {
			s.open(w.cl, w.gate, post)
		}
	}
	left := copy(j.gated, j.gated[n:])
	clear(j.gated[left:])
	j.gated = j.gated[:left]
	if left == 0 && cap(j.gated) > 4096 {
		j.gated = nil
	}
	s.answerLate(post, s.loop.Now())
	s.dropKept(post)
	j.answer(post)
}

// open lets out what a client's gate holds for posts up to one.
func (s *shard) open(cl *client, g *gate, post uint64) {
	n, end := 0, g.from
	for ; n < len(g.parts) && g.parts[n].post <= post; n++ {
		end = g.parts[n].end
	}
	copy(cl.conn.Reserve(end-g.from), g.buf[g.from:end])
	g.from = end
	g.parts = g.parts[n:]
	if len(g.parts) == 0 {
		cl.rare.gate = nil
		cl.rare.kept(post)
		cl.settle()
	} else if g.from > len(g.buf)/2 {
		g.shift()
	}
	if !cl.conn.Blocked() { // otherwise Drained goes on
		cl.Continue(s.loop.Now(), cl)
		cl.updateFull()
		s.replayRetained(cl)
	}
}

// shift gives the room of what has left to what comes.
func (g *gate) shift() {
	by := g.from
	g.buf = g.buf[:copy(g.buf, g.buf[by:])]
	g.from = 0
	for i := range g.parts {
		g.parts[i].end -= by
	}
}

// errNoStore is what Save and Backup of a broker without a store say.
var errNoStore = errors.New("broker: no persistent state")
