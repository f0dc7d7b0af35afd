package broker

import (
	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// The life of a PUBLISH after its checks. publishMessage stores it if it is retained and asks the index
// which filters match, and which loops have subscribers for each: one Match, no lock. Subscribers of this
// loop get it at once, other loops one mailbox item each (remote.go), shared subscriptions go to the loop
// that deals for the group (share.go).
//
// A loop keeps its own subscribers by filter in a fanout.Table. A crowd larger than a slice is served in
// slices with other work in between.

// member is one subscription as the fan-out sees it, hit a receiver that a message has come to.
type (
	member = fanout.Member[*client]
	hit    = fanout.Hit[*client]
)

// slice is how many members of a crowd are served in one turn.
const slice = 2048

// backlogMax is the number of sliced fan-outs under way at which this loop stops reading sockets.
const backlogMax = 16

// publishMessage stores and routes m, here and, where somebody listens for that, elsewhere; false when no
// subscription matches. m may be a loan.
func (s *shard) publishMessage(m *message.Message) bool {
	matched := s.routeMessage(m)
	if s.relays != nil {
		return s.forwardOn(m) || matched
	}
	return matched
}

// routeMessage is publishMessage on this node alone.
func (s *shard) routeMessage(m *message.Message) bool {
	s.loop.MustBeHere()
	if m.Retain {
		s.retain(m)
	}
	s.b.index.Start(m.Topic, &s.matches)
	over := s.b.index.More(m.Topic, &s.matches, manySteps)
	hits := s.matches.Hits
	if len(hits) == 0 && over {
		return false
	}
	s.live.Reset(m, s.loop.Now())
	defer s.live.Release()
	once := !s.opts.AllowDuplicates && len(hits) > 1
	if len(hits) >= manyFrom || !over || s.passages.Len() > 0 && s.behindPassage(m.Topic) ||
		once && s.crowded(hits) {
		s.publishMany(m)
		return true
	}
	if once {
		s.routeOnce(m, hits)
		return true
	}
	own := uint64(1) << s.index
	for i := range hits {
		h := &hits[i]
		switch {
		case h.Shared:
			s.routeShared(m, h)
		case h.Loops == own:
			s.fanOut(h.ID, m, false)
		default:
			if h.Loops&own != 0 {
				s.fanOut(h.ID, m, false)
			}
			s.routeRemote(m, h.ID, h.Loops&^own)
		}
	}
	return true
}

// fanOut delivers m to this loop's subscribers of one filter. s.live holds m. owed says that the store has
// a transit of m to this loop for the filter, and later that slices pay for that when they are over.
func (s *shard) fanOut(id topictree.FilterID, m *message.Message, owed bool) (later bool) {
	s.loop.MustBeHere()
	if c, ok := s.receivers.Only(id); ok {
		if m.Number == 0 || !c.awaits(id, m) {
			s.deliver(c.Subscribed(id), m)
		}
		return false
	}
	if !s.receivers.Deliver(id, m, deliverHit) {
		return false
	}
	m = m.Keep()
	first := s.receivers.Queue(id, m, owed || s.journal.Owe(m, id, s.index))
	s.backlog++
	if s.backlog == backlogMax {
		s.halt(true)
	}
	if first {
		s.loop.Again(sliceTask{id})
	}
	return true
}

// sliceTask serves the next slice of a crowd.
type sliceTask struct{ id topictree.FilterID }

// Run implements wsnet.Task.
func (t sliceTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	m := s.receivers.Under(t.id)
	if m == nil {
		return
	}
	s.live.Reset(m, l.Now())
	over, owed := s.receivers.Serve(t.id, deliverHit)
	s.live.Release()
	if over {
		if owed {
			s.journal.Paid(m, t.id)
		}
		s.jobDone(1)
	}
	if !s.receivers.Rest(t.id) {
		l.Again(t)
	}
}

func (s *shard) jobDone(n int) {
	halted := s.backlog >= backlogMax
	s.backlog -= n
	if halted && s.backlog < backlogMax {
		s.halt(false)
	}
}

// deliverHit gives m to one that it has come to.
func deliverHit(id topictree.FilterID, h hit, m *message.Message) {
	if mb, ok := h.C.takes(id, h, m); ok {
		mb.C.shard.deliver(mb, m)
	}
}

// takes reports as what a client gets a message that has come to it by a filter, if it does: not by a set
// when it has the filter otherwise, and not when its retained messages, which have not begun, have this one
// or a later one.
func (c *client) takes(id topictree.FilterID, h hit, m *message.Message) (member, bool) {
	if h.By == nil {
		return h.Member, m.Number == 0 || !c.awaits(id, m)
	}
	if m.Number != 0 && c.replays() != nil && c.grants().Awaits(id, m) {
		return member{}, false
	}
	if !h.Left {
		return h.Member, !c.masks(h.By, id)
	}
	// It was a member when the message was published, and is one of another set now. If that has the filter
	// too, the message is for it still.
	if c.ended {
		return member{}, false
	}
	mb, ok := c.granted(id)
	return mb, ok
}

// deliver gives m to one subscriber.
func (s *shard) deliver(mb member, m *message.Message) {
	s.loop.MustBeHere()
	c := mb.C
	if c.conn == nil && c.ended { // it is being taken out
		return
	}
	if mb.Options&fanout.NoLocal != 0 && m.Publisher == c.number { // [MQTT-3.8.3-3]
		return
	}
	if mb.Options&fanout.Covered == 0 && !c.may(auth.Read, m.Topic) {
		s.drop(DropDenied)
		return
	}
	s.send(c, m, s.grant(m, mb.Options, mb.SubID))
}

// grant is what a subscription gives m: the lower QoS [MQTT-3.8.4-8], and RETAIN only if it was asked for
// [MQTT-3.3.1-12] [MQTT-3.3.1-13].
func (s *shard) grant(m *message.Message, o fanout.Options, subID uint32) session.Grant {
	g := session.Grant{QoS: min(m.QoS, o.QoS()), SubscriptionID: subID}
	if s.opts.UpgradeOutgoingQoS {
		g.QoS = o.QoS()
	}
	g.Retain = m.Retain && o&fanout.RetainAsPublished != 0
	return g
}

// send gives m to one client: the one function that decides between wire, queue and drop.
func (s *shard) send(c *client, m *message.Message, g session.Grant) {
	s.loop.MustBeHere()
	if g.QoS == 0 && c.conn != nil {
		if c.slow() {
			c.dropped(DropSlowReceiver)
			c.updateFull()
			return
		}
		c.SendPublish(m, message.Delivery{Retain: g.Retain, SubscriptionID: g.SubscriptionID})
		return
	}
	if s.b.memory.Short() && (g.QoS > 0 || s.limits.QueueQoS0) && c.Busy() {
		c.dropped(DropMemory)
		return
	}
	switch c.Deliver(m, g, c) {
	case session.DroppedFull:
		c.dropped(DropQueueFull)
	case session.DroppedQoS0:
		s.drop(DropOffline)
	case session.Sent, session.Queued:
		if c.shared > 0 {
			c.updateFull()
		}
	}
}

// drop counts a message that one receiver does not get.
func (s *shard) drop(r DropReason) { s.count.Dropped[r]++ }

// dropped counts a message lost to a full client and says so once, as Mosquitto does.
func (c *client) dropped(r DropReason) {
	c.shard.drop(r)
	if !c.listed {
		c.listed = true
		c.shard.logf(LevelNotice, "Outgoing messages are being dropped for client %s.", c.id)
	}
}

// routeOnce routes with allow_duplicate_messages false: an MQTT 3 client with overlapping subscriptions
// gets one copy, at the highest QoS of them [MQTT-3.3.5-1]. It works loop by loop; shared subscriptions
// stay apart.
func (s *shard) routeOnce(m *message.Message, hits []topictree.Hit) {
	own := uint64(1) << s.index
	s.picked = s.picked[:0]
	for i := range hits {
		h := &hits[i]
		if h.Shared {
			s.routeShared(m, h)
			continue
		}
		if h.Loops&own != 0 {
			s.pick(h.ID, m)
		}
	}
	s.routeRemoteAll(m, hits, ^own)
	s.deliverPicked(m)
}

// crowded reports whether what this loop has to serve of a message that goes to each client once is too much
// for a turn, or must wait for what is under way.
func (s *shard) crowded(hits []topictree.Hit) bool {
	left := slice
	for i := range hits {
		if h := &hits[i]; !h.Shared && h.Loops&(1<<s.index) != 0 && s.loads(h.ID, &left) {
			return true
		}
	}
	return false
}

// loads takes the receivers of a filter off left; true when there are too many, or some wait for their slice.
func (s *shard) loads(id topictree.FilterID, left *int) bool {
	n, busy := s.receivers.Load(id)
	*left -= n
	return busy || *left < 0
}

// pick adds the subscribers of one filter to s.picked, MQTT 3 clients once.
func (s *shard) pick(id topictree.FilterID, m *message.Message) {
	s.receivers.Each(id, m, pickHit)
}

func pickHit(id topictree.FilterID, h hit, m *message.Message) {
	if mb, ok := h.C.takes(id, h, m); ok {
		mb.C.shard.pickMember(mb)
	}
}

func (s *shard) pickMember(mb member) {
	at := int(mb.C.pickedAt)
	if s.pickedIn != nil {
		if n, ok := s.pickedIn[mb.C]; ok {
			at = n
		} else {
			s.pickedIn[mb.C], at = len(s.picked), len(s.picked)
		}
	}
	if mb.C.version == codec.V5 || at >= len(s.picked) || s.picked[at].C != mb.C {
		mb.C.pickedAt = uint32(len(s.picked))
		s.picked = append(s.picked, mb)
		return
	}
	if p := &s.picked[at]; p.Options.QoS() < mb.Options.QoS() {
		p.Options = mb.Options | p.Options&fanout.Covered // they match the same topic
	} else {
		p.Options |= mb.Options & fanout.Covered
	}
}

func (s *shard) deliverPicked(m *message.Message) {
	for _, mb := range s.picked {
		s.deliver(mb, m)
	}
	clear(s.picked)
}
