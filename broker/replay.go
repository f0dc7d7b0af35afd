package broker

import (
	"bytes"
	"math/bits"

	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// A subscriber gets retained messages piece by piece: what, how far and with which marks is for package
// retained, when and where to for this file. It waits for a round of other loops' mail.

// awaits reports whether a message that has come live for a subscription of the client's own is left out.
func (c *client) awaits(id topictree.FilterID, m *message.Message) bool {
	q := c.replays()
	return q != nil && q.Awaits(id, m)
}

// isOwed reports whether a grant's retained messages for a filter, which a subscription of the client's own
// takes the place of, are not sent yet.
func (c *client) isOwed(filter string) bool { return c.replays() != nil && c.grants().Owes(filter) }

// newReplay is the replay of a subscription, nil if it gets no retained messages; shared ones never do. It is
// called with the subscription in effect; if no message matches, all that are stored from now on come live.
func (c *client) newReplay(f *codec.Filter, fresh bool) *retained.Replay {
	s := c.shard
	if !s.opts.RetainAvailable || s.b.retained.Len() == 0 {
		return nil
	}
	if _, _, shared := codec.SplitShare(f.Name); shared {
		return nil
	}
	if !retained.Due(c.version, f.RetainHandling, fresh || c.isOwed(string(f.Name))) {
		return nil
	}
	i, ok := c.lookup(f.Name)
	if !ok || !s.b.retained.MayMatch(f.Name) {
		return nil
	}
	return retained.One(c.subs[i].id, fresh)
}

// addReplays begins with the replays of a SUBSCRIBE, which have one mark: what comes live later matches all
// of its filters alike.
func (c *client) addReplays() (fenced bool) {
	s := c.shard
	s.loop.MustBeHere()
	if len(s.fresh) == 0 {
		return false
	}
	mark, q := s.b.retained.Mark(), c.replayQueue()
	for i, r := range s.fresh {
		s.fresh[i] = nil
		q.Begin(r, mark, c.fenceFor())
		c.saveReplay(r, true)
	}
	s.fresh = s.fresh[:0]
	return len(s.b.shards) > 1
}

// replayQueue is the client's replays, made on first use.
func (c *client) replayQueue() *retained.Queue {
	x := c.extra()
	if x.replays == nil {
		x.replays = &retained.Queue{}
	}
	return x.replays
}

// fenceFor is the round that a replay of the client must wait for from now on; at its end the replays go on.
func (c *client) fenceFor() uint64 {
	s := c.shard
	round := s.fence.Want(len(s.b.shards))
	if c.replays().List(round) {
		s.fence.Wait(c)
	}
	return round
}

// resumeReplays makes what is still to be sent go on when the session has a connection again.
func (c *client) resumeReplays() {
	if q := c.replays(); q != nil {
		q.Resume(c.shard.b.retained.Mark(), c.fenceFor())
	}
}

// dropReplay forgets what was still to be sent for a filter.
func (c *client) dropReplay(id topictree.FilterID) {
	if q := c.replays(); q != nil {
		if r := q.Of(id); r != nil {
			c.endReplay(r)
		}
	}
}

func (c *client) endReplay(r *retained.Replay) {
	q := c.replays()
	q.Remove(r)
	if q.Empty() {
		c.rare.replays = nil
		c.settle()
	}
}

// replayRetained sends the next piece. It is called after SUBSCRIBE and CONNECT, by Again, and when the
// window or the socket has room.
func (c *client) replayRetained() {
	s := c.shard
	s.loop.MustBeHere()
	for left := retained.Steps; left > 0 && c.conn != nil && c.replays() != nil; {
		q := c.replays()
		r := q.First()
		switch q.Run(s.b.retained, (*replaying)(c), s.fence.Passed(), &left) {
		case retained.Over:
			c.endReplay(r)
			if r.IsList() {
				s.grants.Sent(c, r)
			} else {
				c.saveReplay(r, false)
			}
		case retained.Waits:
			return
		case retained.Now, retained.Later:
			left = 0
		}
	}
	c.replayLater()
}

// replayLater goes on with what is left in a later turn.
func (c *client) replayLater() {
	if q := c.replays(); c.conn != nil && q != nil && !q.Booked {
		q.Booked = true
		c.shard.loop.Again(replayTask{c, q})
	}
}

// replayTask goes on with a replay in a later turn.
type replayTask struct {
	cl *client
	q  *retained.Queue
}

// Run implements wsnet.Task.
func (t replayTask) Run(*wsnet.Loop) {
	t.q.Booked = false
	t.cl.replayRetained()
}

// replaying is a client as the receiver of its replays.
type replaying client

// Current implements retained.Receiver.
func (c *replaying) Current(r *retained.Replay, filter string) (retained.Topic, bool) {
	cl := (*client)(c)
	if !r.IsList() {
		i, ok := cl.find(r.ID)
		if !ok {
			return retained.Topic{}, false
		}
		t := r.Topic
		t.Options, t.SubID = cl.subs[i].opts, cl.subs[i].subID
		return t, true
	}
	t, ok := cl.grants().Current(r, filter)
	return t, ok && !cl.Own(t.ID)
}

// Behind implements retained.Receiver: messages may be under way in slices that came to the filter's crowd
// before, or in passages.
func (c *replaying) Behind(r *retained.Replay, t retained.Topic) bool {
	s, w := c.shard, &r.Wait
	if !w.Passed(s.router.Passages()) || !s.receivers.Passed(t.ID, &w.Slices) {
		return true
	}
	w.Again()
	return false
}

// Room implements retained.Receiver.
func (c *replaying) Room(r *retained.Replay) retained.Progress {
	cl := (*client)(c)
	switch {
	case cl.conn == nil:
		return retained.Waits
	case cl.buffered() > cl.shard.opts.MaxBufferedBytes/2:
		if cl.conn.Blocked() || cl.gate() != nil {
			return retained.Waits
		}
		return retained.Later // it is written at the end of this turn
	case r.Options.QoS() > 0 && cl.Busy():
		return retained.Waits
	}
	return retained.Now
}

// Give implements retained.Receiver: it sends one retained message for the subscription under way
// [MQTT-3.3.1-8], unless it comes live.
func (c *replaying) Give(r *retained.Replay, m *message.Message, mark uint64) {
	cl, s := (*client)(c), c.shard
	g := s.grant(m, r.Options, r.SubID)
	g.Retain = true
	if cl.replays().Live(m, mark, g.QoS == 0 && !s.limits.QueueQoS0) {
		return
	}
	switch {
	case m.Expired(s.loop.Now()):
		s.drop(DropExpired)
		return
	case r.Options.Has(fanout.NoLocal) && m.Publisher == cl.number:
		return
	case !r.Options.Has(fanout.Covered) && !cl.may(auth.Read, m.Topic),
		s.opts.CheckRetainSource && !s.b.listeners.MayStill(m.Source, m.Topic):
		s.drop(DropDenied)
		return
	}
	if g.QoS > 0 && cl.Durable() {
		m = m.Clone() // other loops have this one too, and each may store it
	}
	cl.give(m, g)
}

// saveReplay notes in the store that a subscription's retained messages are still to be sent, or that all
// are. After a restart they begin anew.
func (c *client) saveReplay(r *retained.Replay, owed bool) {
	if !c.Durable() {
		return
	}
	if i, ok := c.find(r.ID); ok {
		sub := &c.subs[i]
		c.shard.journal.Batch.PutSubscription(&store.Subscription{
			Session: c.number, Filter: r.ID.Filter(), Options: uint8(sub.opts & fanout.Stored),
			ID: sub.subID, Owed: owed,
		})
	}
}

// adoptReplay makes a replay again that the store has noted.
func (c *client) adoptReplay(filter string) {
	if i, ok := c.lookup([]byte(filter)); ok && c.shard.opts.RetainAvailable {
		c.replayQueue().Begin(retained.One(c.subs[i].id, false), c.shard.b.retained.Mark(), 0)
	}
}

// retain stores m as the topic's retained message, or removes it when the payload is empty.
func (s *shard) retain(m *message.Message) {
	s.loop.MustBeHere()
	log := s.retainLog(m.Topic)
	if log != nil {
		s.journal.Touch()
	}
	if err := s.b.retained.Put(m, log); err != nil {
		s.logf(LevelWarning, "Retained message on %q is not kept: %v.", m.Topic, err)
	}
}

// retainLog is where a topic's retained messages are noted; nil for those that are not durable: those of the
// broker itself are made anew.
func (s *shard) retainLog(topic []byte) retained.Log {
	if s.journal == nil || bytes.HasPrefix(topic, []byte("$SYS/")) {
		return nil
	}
	return s.journal.Committer
}

// How a loop knows that it has all messages that others had for it is for retained.Fence; here questions and
// answers go from loop to loop.

// holdForFence takes no further packet of a client until the replays of its SUBSCRIBE have begun, behind the
// next round: what it sends right behind SUBSCRIBE, an UNSUBSCRIBE or a PINGREQ to know that all retained
// messages are there, finds them sent as with a broker of one loop.
func (c *client) holdForFence() {
	c.conn.Hold()
	c.shard.fence.Hold(c.conn)
}

// endFence answers the loops that have asked, behind the messages for them, and begins the next round, if one
// is wanted and none is under way.
func (s *shard) endFence() {
	s.loop.MustBeHere()
	answer, ask := s.fence.EndTurn((1<<len(s.b.shards) - 1) &^ (1 << s.index))
	for ; answer != 0; answer &= answer - 1 {
		s.b.shards[bits.TrailingZeros64(answer)].loop.MustPost(fenceAnswer(s.index)) // one a question
	}
	for ; ask != 0; ask &= ask - 1 {
		s.b.shards[bits.TrailingZeros64(ask)].loop.MustPost(fenceQuestion(s.index)) // one a loop at a time
	}
}

// fenceQuestion comes from the loop with that index.
type fenceQuestion uint8

// Run implements wsnet.Task.
func (q fenceQuestion) Run(l *wsnet.Loop) { l.Handler().(*shard).fence.Ask(int(q)) }

// fenceAnswer is the answer of the loop with that index to the one question that was put to it.
type fenceAnswer uint8

// Run implements wsnet.Task.
func (a fenceAnswer) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	s.fence.Answer(int(a), (*client).replayLater, func(conn *wsnet.Conn) { l.Again(releaseTask{conn}) })
}

// releaseTask lets a connection go on. It is booked behind the replays.
type releaseTask struct{ conn *wsnet.Conn }

// Run implements wsnet.Task.
func (t releaseTask) Run(l *wsnet.Loop) {
	t.conn.Release(l, wsnet.TaskFunc(func(*wsnet.Loop) {})) // false when it has ended
}
