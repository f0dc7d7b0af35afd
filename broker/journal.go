package broker

import (
	"errors"

	"noctule/broker/auth"
	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/reason"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/wsnet"
)

// How durable state is kept, and how its promises are, is for package durable; what is kept of a session
// is here.
//
// A packet that promises something - PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK, CONNACK, PUBREL, and a
// PUBLISH of QoS 2 with its packet id - waits until what it promises is durable, and all that goes to this
// client later waits behind it. A packet whose handling noted nothing, and a client without a gate, do not
// wait. UNSUBACK does not wait for long (durable.Late). Debts to other loops that a crash has left are paid
// at the start (restore.go).

// PersistenceSync says when what is acknowledged is durable.
type PersistenceSync uint8

// The values of persistence_sync.
const (
	SyncGroup    PersistenceSync = iota // before the acknowledgement, in groups
	SyncAlways                          // the same
	SyncInterval                        // about a second later
)

// postJournal hands what this turn has changed to the committer.
func (s *shard) postJournal() {
	s.loop.MustBeHere()
	if s.journal.Post() {
		s.halt(true)
	}
}

// resume goes on reading sockets when the disk has caught up, or when what needs it is refused anyway.
func (s *shard) resume() {
	if s.journal.CaughtUp() {
		s.halt(false)
	}
}

// errStore refuses what an MQTT 3 client could not be told otherwise.
func errStore(t codec.Type) error {
	const detail = "persistent state cannot be written"
	return reason.Because(&codec.Error{Reason: codec.QuotaExceeded, Packet: t, Detail: detail}, EndStore)
}

// Changed implements session.Sink.
func (c *client) Changed(ch session.Change) {
	s := c.shard
	switch ch.Kind {
	case session.Expired:
		s.drop(DropExpired)
	case session.Wanted:
		s.away.Want(c)
	case session.Superseded: // Mosquitto has this line
		s.logf(LevelWarning, "Reused message ID %d from %s detected. Clearing from storage.", ch.ID, c.id)
		if c.Durable() {
			s.journal.Note(c.number, ch)
		}
	default:
		s.journal.Note(c.number, ch)
	}
}

// save notes what CONNECT, DISCONNECT and the will have made of a durable session.
func (c *client) save() {
	if !c.Durable() {
		return
	}
	r := store.Session{Number: c.number, ClientID: c.id, Expiry: c.expiry}
	if c.conn == nil {
		r.OfflineAt = int64(c.offlineAt)
	}
	r.Username, r.MountPoint = c.username(), c.rights().mountPoint()
	r.AnyUser, r.AnyMount = c.anyUser, c.anyMount
	// What its client may do is not stored, so a will that may not be published now never is after a restart.
	if w := c.will(); w != nil && c.may(auth.Write, w.m.Topic) {
		r.Will = &store.Will{Message: *w.m, Delay: w.delay, Expiry: w.expiry}
	}
	c.shard.journal.Batch.PutSession(&r)
}

// saveEnd notes that a durable session is no more.
func (c *client) saveEnd() {
	if c.Durable() {
		c.Stored(c.shard.journal.Unref)
		c.End()
		c.shard.journal.Batch.DropSession(c.number)
	}
}

// saveSubscription notes a subscription that was granted.
func (c *client) saveSubscription(f *codec.Filter, o fanout.Options, subID uint32) {
	if !c.Durable() {
		return
	}
	r := store.Subscription{
		Session: c.number, Filter: string(f.Name), Options: uint8(o & fanout.Stored), ID: subID,
	}
	if q := c.replays(); q != nil {
		if i, ok := c.lookup(f.Name); ok {
			r.Owed = q.Of(c.subs[i].id) != nil
		}
	}
	c.shard.journal.Batch.PutSubscription(&r)
}

// promise makes what goes to c from now on wait if the current packet has changed anything.
func (c *client) promise() {
	if c.shard.journal.Changed() {
		c.wait()
	}
}

// wait makes what goes to c from now on wait for the post of this turn.
func (c *client) wait() {
	j := c.shard.journal
	if !j.Gates {
		return
	}
	c.extra().promises.Wait(j, c)
}

// gate is what waits of the client's output, nil if nothing does.
func (c *client) gate() *durable.Gate {
	if c.rare == nil {
		return nil
	}
	return c.rare.promises.Gate()
}

// reserve returns n bytes at the end of the client's output, to be filled at once.
func (c *client) reserve(n int) []byte {
	if g := c.gate(); g != nil {
		return g.Reserve(n)
	}
	return c.conn.Reserve(n)
}

// reserveNow is reserve for what may leave before what waits. It does not come before CONNACK, which is first
// [MQTT-3.2.0-1].
//
// PINGRESP promises nothing and says that the broker is alive: it does not wait for a disk that stands still.
func (c *client) reserveNow(n int) []byte {
	if g := c.gate(); g != nil {
		if b, ok := g.First(); ok && codec.Type(b>>4) == codec.CONNACK {
			return g.Reserve(n)
		}
	}
	return c.conn.Reserve(n)
}

// buffered is the output that has not left.
func (c *client) buffered() int {
	n := c.conn.Buffered()
	if g := c.gate(); g != nil {
		n += g.Len()
	}
	return n
}

// dropGate forgets what waits, but not that it has: the connection ends.
func (c *client) dropGate() {
	c.shard.late.Drop(c)
	if c.rare != nil {
		c.rare.promises.Drop(c.Durable())
	}
}

// bear notes that the post of this turn stores the session.
func (c *client) bear() {
	if j := c.shard.journal; j.Gates {
		c.extra().promises.Bear(j)
	}
}

// comesBack has CONNACK of a session that is resumed while the store fails not wait: it promises what is
// stored, and what it leads to makes room. A session that is not stored yet waits. What its client was not
// told before its connection ended, since it was not durable, it must not hear in answer to a repetition
// that changes nothing any more: then all behind CONNACK waits.
func (c *client) comesBack() (waits bool) {
	r := c.rare
	if r != nil {
		r.promises.Kept(c.shard.journal.Reached())
		if r.promises.Unborn() {
			return false
		}
	}
	c.shard.journal.Begin()
	return r != nil && r.promises.Owes()
}

// reached lets out what has waited for posts up to one.
func (s *shard) reached(post uint64) {
	s.loop.MustBeHere()
	s.resume()
	s.journal.Durable(post)
	s.answerLate(post, s.loop.Now())
	s.journal.Answer()
}

// Opens implements durable.Waiter.
func (c *client) Opens(g *durable.Gate, post uint64) {
	if c.conn == nil || c.gate() != g {
		return
	}
	if c.rare.promises.Open(g, post, c.conn.Reserve) {
		c.settle()
	}
	if !c.conn.Blocked() { // otherwise Drained goes on
		c.Continue(c.shard.loop.Now(), c)
		c.updateFull()
		c.replayRetained()
	}
}

// sendLate is send for an answer that waits for the disk, and behind what waits, for no longer than
// durable.Late says, and not while the store fails.
func (c *client) sendLate(p packet) error {
	s, j := c.shard, c.shard.journal
	gate := c.gate()
	changed := j.Changed() && j.Gates
	if gate == nil && !changed {
		return c.send(p)
	}
	n := p.Len(c.version)
	if err := c.fits(n); err != nil {
		return err
	}
	c.sent(n)
	if j.Failing() {
		p.Append(c.reserveNow(n)[:0], c.version)
		return nil
	}
	var post uint64
	if changed {
		post = j.Ticket().Number
	} else { // then there is a gate
		post = gate.Last()
	}
	s.late.Add(c, p.Append(nil, c.version), post, s.loop.Now())
	return nil
}

// answerLate lets out what need not wait any longer when all up to a post is durable.
func (s *shard) answerLate(post uint64, now int64) {
	s.loop.MustBeHere()
	s.late.Leave(post, now, s.journal.Failing(), func(cl *client, raw []byte) {
		copy(cl.reserveNow(len(raw)), raw)
	})
}

// errNoStore is what Save and Backup of a broker without a store say.
var errNoStore = errors.New("broker: no persistent state")

// max_queued_memory. Above it messages in queues of stored sessions are only on disk (session/away.go). A
// session that wants some of them back is listed; at the end of a turn, after the journal was posted, a
// goroutine reads for the first of the list, and a task on the loop hands over what it has found. What is
// read, and for whom, is for durable.Fetcher.

// Over implements durable.Wanting: no estate is left of the session either.
func (c *client) Over() bool { return c.ended && (c.rare == nil || c.rare.estate == nil) }

// Absent implements durable.Wanting.
func (c *client) Absent() bool { return c.conn == nil && !c.ended }

// readAway starts a read if messages are wanted.
func (s *shard) readAway() {
	s.loop.MustBeHere()
	r := s.away.Next(func(cl *client) { cl.Supply(nil, s.loop.Now(), cl) })
	if r == nil {
		return
	}
	s.b.asked.Go(func() { // Shutdown waits
		r.Read()
		s.loop.MustPost(awayTask{s, r}) // one at a time
	})
}

// awayTask hands over what was read.
type awayTask struct {
	s    *shard
	read *durable.Fetch[*client]
}

// Run implements wsnet.Task.
func (t awayTask) Run(l *wsnet.Loop) {
	s := t.s
	for x := range s.away.Done(t.read) {
		cl := x.Of
		if x.Err != nil {
			if x.News {
				s.logf(LevelError, "Error: Queued messages of %s cannot be read, it waits for them: %v",
					cl.id, x.Err)
			}
			continue
		}
		if x.News {
			s.logf(LevelNotice, "Queued messages can be read again.")
		}
		cl.Supply(x.List, l.Now(), cl)
		switch {
		case cl.Absent():
		case cl.ended:
			l.Again(estateTask{cl})
		default:
			cl.updateFull()
		}
	}
}
