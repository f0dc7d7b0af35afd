package broker

import (
	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// Retained messages are one index for all loops. A subscriber gets those that match through a cursor, a
// bounded piece a turn and only as fast as its window and its socket take them: a large tree neither stalls
// the loop nor is lost at the queue limit.

// replayStep is how many stored topics one turn looks at for one client.
const replayStep = 500

// retain stores m as the topic's retained message, or removes it when the payload is empty [MQTT-3.3.1-5]
// [MQTT-3.3.1-6] [MQTT-3.3.1-7].
func (s *shard) retain(m *message.Message) {
	if s.keptOnDisk(m.Topic) {
		s.retainDurably(m)
		return
	}
	var old *message.Message
	var existed bool
	if len(m.Payload) == 0 {
		old, existed = s.b.retained.Delete(m.Topic)
	} else {
		var err error
		if old, existed, err = s.b.retained.Set(m.Topic, m.Keep()); err != nil {
			s.logf(LevelWarning, "Retained message on %q is not kept: %v.", m.Topic, err)
			return
		}
	}
	s.countRetained(m, old, existed)
}

// countRetained notes that m has taken the place of old, if there was one.
func (s *shard) countRetained(m, old *message.Message, existed bool) {
	delta := m.Size()
	if existed {
		delta -= old.Size()
	}
	s.b.retainBytes.Add(delta)
}

// replays are what one client is still to be sent, oldest first. There is one a filter at most, and one a
// grant: whoever subscribes again and again without taking the messages begins anew and holds no more memory.
type replays struct {
	first, last *replay
	of          map[topictree.FilterID]*replay
	again       bool // a further turn is booked
}

// replay is the retained messages for one subscription, sent piece by piece.
type replay struct {
	cursor     *topictree.Cursor[*message.Message]
	prev, next *replay
	id         topictree.FilterID
	opts       options
	subID      uint32

	grant *grant     // whose topics it goes through; nil for one subscription
	todo  []setTopic // of the grant: still to come
}

// add puts r at the end, in place of an earlier one for the same filter.
func (q *replays) add(r *replay) {
	if r.grant == nil {
		if old := q.of[r.id]; old != nil {
			q.remove(old)
		}
		q.of[r.id] = r
	}
	r.prev = q.last
	if q.last == nil {
		q.first = r
	} else {
		q.last.next = r
	}
	q.last = r
}

func (q *replays) remove(r *replay) {
	if r.grant == nil {
		delete(q.of, r.id)
	} else {
		r.grant.extra.replay = nil
		r.grant.settle()
	}
	if r.prev == nil {
		q.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		q.last = r.prev
	} else {
		r.next.prev = r.prev
	}
}

// newReplay decides whether a subscription gets retained messages: MQTT 5 by Retain Handling [MQTT-3.3.1-9]
// [MQTT-3.3.1-10] [MQTT-3.3.1-11], 3.1.1 always, 3.1 only a new one, shared ones never.
func (s *shard) newReplay(cl *client, f *codec.Filter, subID uint32, fresh bool) *replay {
	if !s.opts.RetainAvailable || s.b.retained.Len() == 0 {
		return nil
	}
	if _, _, shared := codec.SplitShare(f.Name); shared {
		return nil
	}
	switch {
	case cl.version == codec.V5 && (f.RetainHandling == 2 || f.RetainHandling == 1 && !fresh),
		cl.version == codec.V31 && !fresh:
		return nil
	}
	i, ok := s.lookup(cl, f.Name)
	if !ok {
		return nil
	}
	sub := &cl.subs[i]
	return &replay{cursor: s.b.retained.Cursor(f.Name), id: sub.id, opts: sub.opts, subID: subID}
}

func (c *client) addReplay(r *replay) {
	x := c.extra()
	if x.replays == nil {
		x.replays = &replays{of: make(map[topictree.FilterID]*replay)}
	}
	x.replays.add(r)
}

// dropReplay forgets what was still to be sent for a filter.
func (c *client) dropReplay(id topictree.FilterID) {
	list := c.replays()
	if list == nil {
		return
	}
	if r := list.of[id]; r != nil {
		c.endReplay(r)
	}
}

func (c *client) endReplay(r *replay) {
	list := c.replays()
	list.remove(r)
	if list.first == nil {
		c.rare.replays = nil
		c.settle()
	}
}

// replayRetained sends the next piece. It is called after SUBSCRIBE, by Again, and when the window or the
// socket has room.
func (s *shard) replayRetained(cl *client) {
	left := replayStep
	for cl.conn != nil && cl.replays() != nil && left > 0 {
		r := cl.replays().first
		if cl.buffered() > s.opts.MaxBufferedBytes/2 {
			return // Drained goes on
		}
		if r.grant != nil && r.cursor == nil {
			left-- // looking costs something too
			if !s.nextTopic(cl, r) {
				cl.endReplay(r)
			}
			continue
		}
		step := left
		if r.opts.qos() > 0 {
			if cl.Busy() {
				return // an acknowledgement goes on
			}
			step = min(step, cl.Window()-cl.Inflight())
		}
		left -= step
		switch done := s.replayStep(cl, r, step); {
		case done && r.grant != nil:
			r.cursor = nil
		case done:
			cl.endReplay(r)
		}
	}
	if cl.conn != nil && cl.replays() != nil && !cl.replays().again {
		cl.replays().again = true
		s.loop.Again(replayTask{cl, cl.replays()})
	}
}

// replayGranted sends the retained messages for topics of a grant, behind what is under way for it already.
// For a client that is offline they are sent when it is back.
func (s *shard) replayGranted(cl *client, g *grant, topics []setTopic) {
	if len(topics) == 0 {
		return
	}
	x := g.more()
	switch {
	case cl.conn == nil:
		x.todo = join(x.todo, topics)
	case x.replay != nil:
		x.replay.todo = join(x.replay.todo, topics)
	default:
		x.replay = &replay{grant: g, todo: topics}
		cl.addReplay(x.replay)
	}
}

// join is a and, behind, what of b is not in it. Neither list is written to: they may be parts of a set.
func join(a, b []setTopic) []setTopic {
	if len(a) == 0 {
		return b
	}
	have := make(map[string]bool, len(a))
	for i := range a {
		have[a[i].id.Filter()] = true
	}
	out := a[:len(a):len(a)]
	for i := range b {
		if !have[b[i].id.Filter()] {
			out = append(out, b[i])
		}
	}
	return out
}

// nextTopic goes on to the next topic of a grant that the client still has by it; false when there is none.
// The topics may be of a set that has gone meanwhile, with ids that stand for nothing any more: what the
// grant has now counts.
func (s *shard) nextTopic(cl *client, r *replay) bool {
	for n := 0; len(r.todo) > 0; n++ {
		if n == replayStep {
			return true // the rest in a later turn
		}
		old := r.todo[0]
		r.todo = r.todo[1:]
		set := r.grant.set
		if old.rh == 2 || set == nil {
			continue
		}
		i, ok := set.find(old.id.Filter())
		if !ok {
			continue
		}
		t := &set.topics[i]
		if ref, ok := cl.granted(t.id); !ok || ref.set != set {
			continue
		}
		r.id, r.opts, r.subID = t.id, t.opts, t.subID
		r.cursor = s.b.retained.Cursor([]byte(t.id.Filter()))
		return true
	}
	return false
}

// pauseReplays notes what of the grants' retained messages is still to be sent, when the client goes offline.
func (c *client) pauseReplays() {
	for g := c.grants(); g != nil; g = g.next {
		if g.extra == nil || g.extra.replay == nil {
			continue
		}
		r := g.extra.replay
		g.extra.replay = nil
		if r.cursor != nil { // the one under way begins anew
			r.todo = append([]setTopic{{id: r.id, opts: r.opts, subID: r.subID}}, r.todo...)
		}
		g.extra.todo = r.todo
		g.settle()
	}
}

// resumeReplays goes on when it is back.
func (s *shard) resumeReplays(cl *client) {
	for g := cl.grants(); g != nil; g = g.next {
		if g.extra != nil && len(g.extra.todo) > 0 {
			todo := g.extra.todo
			g.extra.todo = nil
			s.replayGranted(cl, g, todo)
		}
	}
}

// replayTask goes on with a replay in a later turn.
type replayTask struct {
	cl *client
	q  *replays
}

// Run implements wsnet.Task.
func (t replayTask) Run(*wsnet.Loop) {
	t.q.again = false
	t.cl.shard.replayRetained(t.cl)
}

func (s *shard) replayStep(cl *client, r *replay, step int) (done bool) {
	now := s.loop.Now()
	return r.cursor.Next(step, func(_ string, m *message.Message) {
		if m.Expired(now) {
			s.drop(DropExpired)
			return
		}
		if r.opts&noLocal != 0 && m.Publisher == cl.number {
			return
		}
		if r.opts&covered == 0 && !cl.may(auth.Read, m.Topic) || !s.sourceMay(m) {
			s.drop(DropDenied)
			return
		}
		g := session.Grant{
			QoS:            min(m.QoS, r.opts.qos()),
			Retain:         true,
			SubscriptionID: r.subID,
		} // [MQTT-3.3.1-8]
		if g.QoS > 0 && cl.Durable() {
			m = m.Clone() // other loops have this one too, and each may store it
		}
		s.send(cl, m, g)
	})
}

// sweepRetained removes expired retained messages, a bounded piece a call; it returns the cursor to go on
// with.
func (s *shard) sweepRetained(c *topictree.Cursor[*message.Message]) *topictree.Cursor[*message.Message] {
	if c == nil {
		if s.b.retained.Len() == 0 {
			return nil
		}
		c = s.b.retained.Cursor([]byte("#"))
	}
	now := s.loop.Now()
	done := c.Next(replayStep, func(topic string, m *message.Message) {
		if !m.Expired(now) {
			return
		}
		s.forgetRetained([]byte(topic), m)
	})
	if done {
		return nil
	}
	return c
}
