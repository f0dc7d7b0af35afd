package broker

import (
	"slices"
	"strings"

	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// A subscriber gets the retained messages that match through a cursor, a bounded piece a turn and only as
// fast as its window and its socket take them: a large tree neither stalls the loop nor is lost at the queue
// limit. What is still to be sent when the connection ends waits for the next one with the session, and goes
// on where it has got to: what the session has been given already is not sent again.
//
// Retained messages have numbers, and a replay has a mark: the last number that the index had when the
// subscription was in effect. A later message matches the subscription and comes live; the cursor passes over
// it. One up to the mark is in the index, or a later one is: the cursor has it, and if the subscription is
// new, a live copy that still arrives is left out (awaits). Such copies lie in the mail of other loops and in
// slices of large crowds. A replay begins when all of them have come (fence.go, behindSlices), so that no
// older message comes behind it [MQTT-4.6.0-6].

// replayStep is how many stored topics one turn looks at for one client.
const replayStep = 500

// replays are what one client is still to be sent, oldest first. There is one a filter at most, and one a
// grant: whoever subscribes again and again without taking the messages begins anew and holds no more memory.
type replays struct {
	first, last *replay
	of          map[topictree.FilterID]*replay // those for the client's own subscriptions
	again       bool                           // a further turn is booked

	fence  uint64 // the round of other loops' mail that it waits for since the session was resumed
	listed uint64 // the last round in whose list of clients it is

	// resumed is the mark of the last CONNECT that found replays. Up to it, live messages of QoS 0 were lost
	// to a session without a connection, so the cursor has them too.
	resumed uint64
}

// replay is the retained messages for one subscription, sent piece by piece.
type replay struct {
	prev, next *replay
	cursor     *topictree.Cursor[*message.Message] // nil: it has not begun; of a grant, between two topics
	mark       uint64                              // messages with a higher number come live

	// As the subscription is now; of a grant, that of the topic under way:
	id    topictree.FilterID
	opts  fanout.Options
	subID uint32

	fresh bool   // until it is added: the subscription is new
	skip  uint64 // until it begins, live messages up to this number are left out, since the cursor has them
	fence uint64 // the round that must have passed before it begins

	behind fanout.Barrier[*client] // slices under way that it waits for

	waits  bool // for passages under way, until this number of them are over
	passed uint32

	grant *grant // whose topics it goes through; nil for one subscription
	lots  []lot  // of the grant: what is still to come
}

// lot is topics that a grant got at one time, by filter.
type lot struct {
	todo        []setTopic // never written to: it may be a part of a set
	mark, fence uint64
}

// add puts r at the end, in place of an earlier one for the same filter.
func (q *replays) add(r *replay) {
	if r.grant == nil {
		if old := q.of[r.id]; old != nil {
			if old.cursor == nil { // what has been left out live is still to come
				r.skip = max(r.skip, old.skip)
			}
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

// awaits reports whether a message that has come live for a subscription of the client's own is left out: the
// subscription was made after it was stored, and the replay, which has not begun, has it or a later one.
func (c *client) awaits(id topictree.FilterID, m *message.Message) bool {
	q := c.replays()
	if q == nil {
		return false
	}
	r := q.of[id]
	return r != nil && r.cursor == nil && m.Number <= r.skip
}

// awaitsGranted is awaits for what the client has by its grants.
func (c *client) awaitsGranted(id topictree.FilterID, m *message.Message) bool {
	if c.replays() == nil {
		return false
	}
	for g := c.grants(); g != nil; g = g.next {
		if g.extra == nil || g.extra.replay == nil {
			continue
		}
		if t, mark := g.extra.replay.toCome(id.Filter()); t != nil && !t.had && m.Number <= mark {
			return true
		}
	}
	return false
}

// toCome finds a topic of a grant whose retained messages have not begun, and its mark; nil if there is none.
func (r *replay) toCome(filter string) (t *setTopic, mark uint64) {
	if r == nil {
		return nil, 0
	}
	for i := range r.lots {
		l := &r.lots[i]
		at, ok := slices.BinarySearchFunc(l.todo, filter, byFilter)
		if ok && l.todo[at].rh != 2 {
			return &l.todo[at], l.mark
		}
	}
	return nil, 0
}

// outdate takes topics that a client gets after a gap off what is still to come of them. The marks there are
// from before the gap, and what was stored in it came to nobody live.
func (r *replay) outdate(topics []setTopic) {
	stale := func(t setTopic) bool {
		at, ok := slices.BinarySearchFunc(topics, t.id.Filter(), byFilter)
		return ok && !topics[at].had
	}
	if r.cursor != nil && stale(setTopic{id: r.id}) {
		r.cursor = nil
	}
	for i := range r.lots {
		if l := &r.lots[i]; slices.ContainsFunc(l.todo, stale) {
			l.todo = slices.DeleteFunc(slices.Clone(l.todo), stale)
		}
	}
}

func byFilter(t setTopic, filter string) int { return strings.Compare(t.id.Filter(), filter) }

// newReplay decides whether a subscription gets retained messages: MQTT 5 by Retain Handling [MQTT-3.3.1-9]
// [MQTT-3.3.1-10] [MQTT-3.3.1-11], 3.1.1 always, 3.1 only a new one, shared ones never. It is called with the
// subscription in effect; if no message matches, all that are stored from now on come live.
func (s *shard) newReplay(cl *client, f *codec.Filter, fresh bool) *replay {
	if !s.opts.RetainAvailable || s.b.retained.Len() == 0 {
		return nil
	}
	if _, _, shared := codec.SplitShare(f.Name); shared {
		return nil
	}
	first := fresh || cl.isOwed(string(f.Name))
	switch {
	case cl.version == codec.V5 && (f.RetainHandling == 2 || f.RetainHandling == 1 && !first),
		cl.version == codec.V31 && !first:
		return nil
	}
	i, ok := s.lookup(cl, f.Name)
	if !ok || !s.b.mayMatch(f.Name) {
		return nil
	}
	return &replay{id: cl.subs[i].id, fresh: fresh}
}

// isOwed reports whether a grant's retained messages for a filter, which a subscription of the client's own
// takes the place of, are not sent yet.
func (c *client) isOwed(filter string) bool {
	if c.replays() == nil {
		return false
	}
	for g := c.grants(); g != nil; g = g.next {
		if g.extra == nil || g.extra.replay == nil {
			continue
		}
		r := g.extra.replay
		if t, _ := r.toCome(filter); t != nil || r.cursor != nil && r.id.Filter() == filter {
			return true
		}
	}
	return false
}

// addReplays begins with the replays of a SUBSCRIBE, which have one mark: what comes live later matches all
// of its filters alike.
func (s *shard) addReplays(cl *client) (fenced bool) {
	if len(s.fresh) == 0 {
		return false
	}
	mark := s.b.lastRetain.Load()
	for i, r := range s.fresh {
		s.fresh[i] = nil
		r.mark = mark
		if r.fresh {
			r.skip = mark
		}
		cl.addReplay(r)
		r.fence = s.fenceFor(cl)
		s.saveReplay(cl, r, true)
	}
	s.fresh = s.fresh[:0]
	return len(s.b.shards) > 1
}

func (c *client) addReplay(r *replay) {
	x := c.extra()
	if x.replays == nil {
		x.replays = &replays{}
	}
	x.replays.add(r)
}

// fenceFor is the round that a replay of cl must wait for from now on; at its end the replays go on.
func (s *shard) fenceFor(cl *client) uint64 {
	round := s.wantFence()
	if q := cl.replays(); q.listed != round {
		q.listed = round
		s.fence.next = append(s.fence.next, cl)
	}
	return round
}

// resumeReplays makes what is still to be sent go on when the session has a connection again.
func (s *shard) resumeReplays(cl *client) {
	if q := cl.replays(); q != nil {
		q.resumed = s.b.lastRetain.Load()
		q.fence = s.fenceFor(cl)
	}
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
		q := cl.replays()
		if q.fence > s.fence.passed {
			return // its end goes on
		}
		r := q.first
		switch s.advance(cl, r, &left) {
		case replayOver:
			cl.endReplay(r)
			s.saveReplay(cl, r, false)
		case replayWaits:
			return
		case replayGoesOn:
			left = 0
		}
	}
	s.replayLater(cl)
}

// replayLater goes on with what is left in a later turn.
func (s *shard) replayLater(cl *client) {
	if q := cl.replays(); cl.conn != nil && q != nil && !q.again {
		q.again = true
		s.loop.Again(replayTask{cl, q})
	}
}

// advance goes on with one replay and takes what it looks at off left.
func (s *shard) advance(cl *client, r *replay, left *int) progress {
	give := func(_ string, m *message.Message) { s.giveRetained(cl, r, m) }
	for current := false; *left > 0; current = true {
		if r.cursor == nil || !current && !s.refresh(cl, r) {
			*left-- // looking costs something too
			if p := s.beginReplay(cl, r); r.cursor == nil {
				return p
			}
			continue
		}
		switch {
		case cl.conn == nil:
			return replayWaits
		case cl.buffered() > s.opts.MaxBufferedBytes/2:
			if cl.conn.Blocked() || cl.rare.gate != nil {
				return replayWaits
			}
			return replayGoesOn // it is written at the end of this turn
		case r.opts.QoS() > 0 && cl.Busy():
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

// beginReplay makes the cursor, of a grant for its next topic. Without one it says why.
func (s *shard) beginReplay(cl *client, r *replay) progress {
	r.cursor = nil
	switch {
	case r.grant != nil:
		return s.nextTopic(cl, r)
	case !s.refresh(cl, r):
		return replayOver
	case r.fence > s.fence.passed:
		return replayWaits
	case !s.behindSlices(r, r.id):
		r.cursor = s.b.retained.Cursor([]byte(r.id.Filter()))
	}
	return replayGoesOn
}

// behindSlices reports whether messages are under way in slices that came to a filter's crowd before the
// replay has asked first.
func (s *shard) behindSlices(r *replay, id topictree.FilterID) bool {
	if !r.waits {
		r.waits, r.passed = true, s.passed+uint32(s.passages.Len())
	}
	if int32(r.passed-s.passed) > 0 {
		return true
	}
	if !s.receivers.Passed(id, &r.behind) {
		return true
	}
	r.waits = false
	return false
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
	if g.set == nil || g.muted(filter) {
		return nil, false
	}
	i, ok := g.set.find(filter)
	if !ok {
		return nil, false
	}
	t := &g.set.topics[i]
	by, _, ok := cl.granted(t.id)
	return t, ok && by == g.set
}

// replayGranted sends the retained messages for topics of a grant, behind what is under way for it already.
// Of a long list only the first topics are held against the index now. It reports whether there are any.
func (s *shard) replayGranted(cl *client, g *grant, topics []setTopic) bool {
	var r *replay
	if g.extra != nil {
		r = g.extra.replay
	}
	if r != nil {
		r.outdate(topics)
	}
	alone := r == nil && len(cl.subs) == 0 && cl.grants() == g && g.next == nil
	var found, rest []setTopic
	for i := range topics {
		if i >= replayStep && alone {
			rest = topics[i:]
			break
		}
		t := topics[i]
		filter := t.id.Filter()
		if t.rh == 2 || i < replayStep && !s.b.mayMatch([]byte(filter)) {
			continue
		}
		if already, _ := r.toCome(filter); already != nil {
			continue
		}
		t.had = t.had || !alone && (cl.hasGranted(filter, g.origin.Name) || cl.hasOwn(t.id))
		found = append(found, t)
	}
	if len(found)+len(rest) == 0 {
		return false
	}
	if r == nil {
		r = &replay{grant: g}
		g.more().replay = r
		cl.addReplay(r)
	}
	mark, fence := s.b.lastRetain.Load(), s.fenceFor(cl)
	for _, todo := range [][]setTopic{found, rest} {
		if len(todo) > 0 {
			r.lots = append(r.lots, lot{todo: todo, mark: mark, fence: fence})
		}
	}
	return true
}

// hasOwn reports whether the client has subscribed to a filter itself.
func (c *client) hasOwn(id topictree.FilterID) bool {
	_, ok := c.find(id)
	return ok
}

// nextTopic begins with the next topic of a grant that the client still has by it. The topics may be of a set
// that has gone meanwhile, with ids that stand for nothing any more: what the grant has now counts.
func (s *shard) nextTopic(cl *client, r *replay) progress {
	for n := 0; len(r.lots) > 0; n++ {
		l := &r.lots[0]
		if len(l.todo) == 0 {
			l.todo = nil
			r.lots = r.lots[1:]
			continue
		}
		if n >= replayStep {
			return replayGoesOn // the rest in a later turn
		}
		if l.fence > s.fence.passed {
			return replayWaits
		}
		next := &l.todo[0]
		t, ok := r.grant.gives(cl, next.id.Filter())
		ok = ok && next.rh != 2
		if ok && s.behindSlices(r, t.id) {
			return replayGoesOn
		}
		l.todo = l.todo[1:]
		if ok {
			r.id, r.opts, r.subID, r.mark = t.id, t.opts, t.subID, l.mark
			r.cursor = s.b.retained.Cursor([]byte(t.id.Filter()))
			return replayGoesOn
		}
	}
	return replayOver
}

// saveReplay notes in the store that retained messages are still to be sent, or that all are. After a restart
// a subscription's begin anew.
func (s *shard) saveReplay(cl *client, r *replay, owed bool) {
	switch {
	case !cl.Durable():
	case r.grant != nil:
		s.saveGrant(cl, r.grant)
	default:
		if i, ok := cl.find(r.id); ok {
			sub := &cl.subs[i]
			s.journal.batch.PutSubscription(&store.Subscription{
				Session: cl.number, Filter: r.id.Filter(), Options: uint8(sub.opts & fanout.Stored),
				ID: sub.subID, Owed: owed,
			})
		}
	}
}

// owedListMax is how many topics of a grant are noted by name; with more, all of the grant are.
const owedListMax = 64

// owed is the topics of a grant that are still to come, for the store; all if they are too many to name.
func (r *replay) owed() (list []string, all bool) {
	if r == nil {
		return nil, false
	}
	if r.cursor != nil {
		list = append(list, r.id.Filter())
	}
	for i := range r.lots {
		if len(list)+len(r.lots[i].todo) > owedListMax {
			return nil, true
		}
		for j := range r.lots[i].todo {
			list = append(list, r.lots[i].todo[j].id.Filter())
		}
	}
	return list, r.grant.set != nil && len(list) >= len(r.grant.set.topics)
}

// adoptReplay makes a replay again that the store has noted.
func (s *shard) adoptReplay(cl *client, filter string) {
	if i, ok := s.lookup(cl, []byte(filter)); ok && s.opts.RetainAvailable {
		cl.addReplay(&replay{id: cl.subs[i].id, mark: s.b.lastRetain.Load()})
	}
}

// adoptGrantReplay does so for a grant.
func (s *shard) adoptGrantReplay(cl *client, g *grant, owed []string, all bool) {
	if g.set == nil || !s.opts.RetainAvailable || len(owed) == 0 && !all {
		return
	}
	todo := g.set.topics
	if !all {
		todo = nil
		for _, filter := range owed {
			if i, ok := g.set.find(filter); ok {
				todo = append(todo, g.set.topics[i])
			}
		}
	}
	r := &replay{grant: g, lots: []lot{{todo: todo, mark: s.b.lastRetain.Load()}}}
	g.more().replay = r
	cl.addReplay(r)
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

// giveRetained sends one retained message for the subscription under way [MQTT-3.3.1-8], unless it comes
// live.
func (s *shard) giveRetained(cl *client, r *replay, m *message.Message) {
	g := s.grant(m, r.opts, r.subID)
	g.Retain = true
	if m.Number > r.mark {
		lost := g.QoS == 0 && !s.limits.QueueQoS0 && m.Number <= cl.replays().resumed
		if !lost {
			return
		}
	}
	switch {
	case m.Expired(s.loop.Now()):
		s.drop(DropExpired)
		return
	case r.opts&fanout.NoLocal != 0 && m.Publisher == cl.number:
		return
	case r.opts&fanout.Covered == 0 && !cl.may(auth.Read, m.Topic) || !s.sourceMay(m):
		s.drop(DropDenied)
		return
	}
	if g.QoS > 0 && cl.Durable() {
		m = m.Clone() // other loops have this one too, and each may store it
	}
	s.send(cl, m, g)
}
