package broker

import (
	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// A subscriber gets the retained messages that match through a cursor, a bounded piece a turn and only as
// fast as its window and its socket take them: a large tree neither stalls the loop nor is lost at the queue
// limit. What is still to be sent when the connection ends waits for the next one with the session, and goes
// on where it has got to: what the session has been given already is not sent again.

// replayStep is how many stored topics one turn looks at for one client.
const replayStep = 500

// replays are what one client is still to be sent, oldest first. There is one a filter at most, and one a
// grant: whoever subscribes again and again without taking the messages begins anew and holds no more memory.
type replays struct {
	first, last *replay
	of          map[topictree.FilterID]*replay // those for the client's own subscriptions
	again       bool                           // a further turn is booked
}

// replay is the retained messages for one subscription, sent piece by piece.
type replay struct {
	prev, next *replay
	cursor     *topictree.Cursor[*message.Message] // nil: of a grant, between two topics

	// As the subscription is now; of a grant, that of the topic under way:
	id    topictree.FilterID
	opts  options
	subID uint32

	grant *grant     // whose topics it goes through; nil for one subscription
	todo  []setTopic // of the grant: still to come
}

// add puts r at the end, in place of an earlier one for the same filter.
func (q *replays) add(r *replay) {
	if r.grant == nil {
		if old := q.of[r.id]; old != nil {
			q.remove(old)
		}
		if q.of == nil {
			q.of = make(map[topictree.FilterID]*replay)
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
func (s *shard) newReplay(cl *client, f *codec.Filter, fresh bool) *replay {
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
	return &replay{cursor: s.b.retained.Cursor(f.Name), id: cl.subs[i].id}
}

func (c *client) addReplay(r *replay) {
	x := c.extra()
	if x.replays == nil {
		x.replays = &replays{}
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

// progress is what has become of a replay in a turn.
type progress uint8

const (
	replayOver   progress = iota // all is sent
	replayWaits                  // for an acknowledgement, or for the socket, which go on with it
	replayGoesOn                 // in a later turn
)

// replayRetained sends the next piece. It is called after SUBSCRIBE and CONNECT, by Again, and when the
// window or the socket has room.
func (s *shard) replayRetained(cl *client) {
	for left := replayStep; left > 0 && cl.conn != nil && cl.replays() != nil; {
		r := cl.replays().first
		switch s.advance(cl, r, &left) {
		case replayOver:
			cl.endReplay(r)
		case replayWaits:
			return
		case replayGoesOn:
			left = 0
		}
	}
	if cl.conn != nil && cl.replays() != nil && !cl.replays().again {
		cl.replays().again = true
		s.loop.Again(replayTask{cl, cl.replays()})
	}
}

// advance goes on with one replay and takes what it looks at off left.
func (s *shard) advance(cl *client, r *replay, left *int) progress {
	give := func(_ string, m *message.Message) { s.giveRetained(cl, r, m) }
	for current := false; *left > 0; {
		if r.cursor == nil || !current && !s.refresh(cl, r) {
			*left-- // looking costs something too
			if r.grant == nil || !s.nextTopic(cl, r) {
				return replayOver
			}
			current = r.cursor != nil
			continue
		}
		current = true
		switch {
		case cl.conn == nil:
			return replayWaits
		case cl.buffered() > s.opts.MaxBufferedBytes/2:
			if cl.conn.Blocked() || cl.rare.gate != nil {
				return replayWaits
			}
			return replayGoesOn // it is written at the end of this turn
		case r.opts.qos() > 0 && cl.Busy():
			return replayWaits
		}
		*left--
		if r.cursor.Next(1, give) {
			if r.grant == nil {
				return replayOver
			}
			r.cursor = nil
		}
	}
	return replayGoesOn
}

// refresh reads what the subscription under way is now: it, or what the client may read, may have changed
// since the last piece. False when the client has it no longer.
func (s *shard) refresh(cl *client, r *replay) bool {
	if r.grant == nil {
		i, ok := cl.find(r.id)
		if ok {
			r.opts, r.subID = cl.subs[i].opts, cl.subs[i].subID
		}
		return ok
	}
	t, ok := r.grant.gives(cl, r.id.Filter())
	if ok {
		r.id, r.opts, r.subID = t.id, t.opts, t.subID
	}
	return ok
}

// gives finds a topic that the client has by g, and not by a subscription of its own or an earlier grant.
func (g *grant) gives(cl *client, filter string) (*setTopic, bool) {
	if g.set == nil {
		return nil, false
	}
	i, ok := g.set.find(filter)
	if !ok {
		return nil, false
	}
	t := &g.set.topics[i]
	ref, ok := cl.granted(t.id)
	return t, ok && ref.set == g.set
}

// replayGranted sends the retained messages for topics of a grant, behind what is under way for it already.
func (s *shard) replayGranted(cl *client, g *grant, topics []setTopic) {
	if len(topics) == 0 {
		return
	}
	x := g.more()
	if x.replay != nil {
		x.replay.todo = join(x.replay.todo, topics)
		return
	}
	x.replay = &replay{grant: g, todo: topics}
	cl.addReplay(x.replay)
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
	r.cursor = nil
	for n := 0; len(r.todo) > 0; n++ {
		if n == replayStep {
			return true // the rest in a later turn
		}
		old := r.todo[0]
		r.todo = r.todo[1:]
		if old.rh == 2 {
			continue
		}
		if t, ok := r.grant.gives(cl, old.id.Filter()); ok {
			r.id, r.opts, r.subID = t.id, t.opts, t.subID
			r.cursor = s.b.retained.Cursor([]byte(t.id.Filter()))
			return true
		}
	}
	return false
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

// giveRetained sends one retained message for the subscription under way.
func (s *shard) giveRetained(cl *client, r *replay, m *message.Message) {
	switch {
	case m.Expired(s.loop.Now()):
		s.drop(DropExpired)
		return
	case r.opts&noLocal != 0 && m.Publisher == cl.number:
		return
	case r.opts&covered == 0 && !cl.may(auth.Read, m.Topic) || !s.sourceMay(m):
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
}
