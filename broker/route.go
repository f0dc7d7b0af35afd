package broker

import (
	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/internal/ring"
	"noctule/topictree"
	"noctule/wsnet"
)

// The life of a PUBLISH after its checks. publishMessage stores it if it is retained and asks the index
// which filters match, and which loops have subscribers for each: one Match, no lock. Subscribers of this
// loop get it at once, other loops one mailbox item each (remote.go), shared subscriptions go to the loop
// that deals for the group (share.go).
//
// A loop keeps its own subscribers by filter id. A filter with one subscriber, the most frequent kind, has
// a pointer to it in a map; more become a crowd. A crowd larger than a slice is served in slices with other
// work in between; then messages to it queue in the crowd, so that order holds, and members that leave
// meanwhile are only marked.

// member is one subscription as the fan-out sees it.
type member struct {
	c     *client // nil: left while a slice is under way
	subID uint32
	opts  options
}

// crowd is two subscribers or more, or sets that have the filter.
type crowd struct {
	list []member
	more *crowdExtra    // nil mostly
	jobs ring.Ring[job] // messages under way in slices, oldest first
	left int32          // marked members in list
	over uint32         // jobs that have ended
}

// job is one message on its way through a crowd: members before next have it, members from end on came
// later. After the crowd's own members it goes through the parts.
type job struct {
	m         *message.Message
	parts     []part
	next, end int
	owed      bool // the store has a transit of it
}

// options are the subscription options of MQTT 5 in one byte.
type options uint8

const (
	qosMask           options = 3
	noLocal           options = 4
	retainAsPublished options = 8
	covered           options = 16 // ours: what matches may be read, nobody needs to be asked
)

func (o options) qos() uint8 { return uint8(o & qosMask) }

// slice is how many members of a crowd are served in one turn.
const slice = 2048

// backlogMax is the number of sliced fan-outs under way at which this loop stops reading sockets.
const backlogMax = 16

// publishMessage stores and routes m; false when no subscription matches. m may be a loan.
func (s *shard) publishMessage(m *message.Message) bool {
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
	if len(hits) >= manyFrom || !over || s.passages.Len() > 0 && s.behindPassage(m.Topic) {
		s.publishMany(m)
		return true
	}
	if !s.opts.AllowDuplicates && len(hits) > 1 {
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
	if one := s.only[id]; one != nil {
		s.deliverOwn(one.member(id), id, m)
		return false
	}
	cr := s.crowds[id]
	if cr == nil {
		return false
	}
	if len(m.Payload) >= shareFrom {
		m.Keep()
	}
	n := len(cr.list)
	if cr.more != nil {
		n += cr.more.members()
	}
	if n > slice || cr.jobs.Len() > 0 {
		s.startJob(id, cr, m, owed)
		return true
	}
	for i := range cr.list {
		s.deliverOwn(cr.list[i], id, m)
	}
	if cr.more != nil {
		cr.more.fanOut(s, id, m)
	}
	return false
}

// startJob queues m for a crowd that is served in slices.
func (s *shard) startJob(id topictree.FilterID, cr *crowd, m *message.Message, owed bool) {
	j := job{m: m.Keep(), end: len(cr.list), owed: owed || s.owe(m, id, s.index)}
	if cr.more != nil {
		j.parts = cr.more.parts()
		for _, t := range cr.more.taps {
			t.take(m)
		}
	}
	cr.jobs.Push(j)
	s.backlog++
	if s.backlog == backlogMax {
		s.halt(true)
	}
	if cr.jobs.Len() == 1 {
		s.loop.Again(sliceTask{id})
	}
}

// sliceTask serves the next slice of a crowd.
type sliceTask struct{ id topictree.FilterID }

// Run implements wsnet.Task.
func (t sliceTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	cr := s.crowds[t.id]
	if cr == nil {
		return
	}
	j := cr.jobs.At(0)
	s.live.Reset(j.m, l.Now())
	over := s.serve(t.id, cr, j)
	s.live.Release()
	if over {
		cr.over++
		if done := cr.jobs.Pop(); done.owed {
			s.paid(done.m, t.id)
		}
		s.jobDone(1)
	}
	if cr.jobs.Len() > 0 {
		l.Again(t)
		return
	}
	s.sweep(t.id, cr)
}

// serve delivers one slice of a job; true when it was the last.
func (s *shard) serve(id topictree.FilterID, cr *crowd, j *job) bool {
	left := slice
	if j.end >= 0 {
		end := min(j.next+left, j.end)
		left -= end - j.next
		for i := j.next; i < end; i++ {
			if cr.list[i].c != nil {
				s.deliverOwn(cr.list[i], id, j.m)
			}
		}
		j.next = end
		if j.next < j.end {
			return false
		}
		j.next, j.end = 0, -1 // on to the parts
	}
	for len(j.parts) > 0 {
		if left == 0 {
			return false
		}
		p := &j.parts[0]
		for ; j.next < p.end && left > 0; left-- {
			s.deliverPart(p, id, j.next, j.m)
			j.next++
		}
		if j.next == p.end {
			p.ref.set.done()
			j.parts, j.next = j.parts[1:], 0
		}
	}
	return true
}

func (s *shard) jobDone(n int) {
	halted := s.backlog >= backlogMax
	s.backlog -= n
	if halted && s.backlog < backlogMax {
		s.halt(false)
	}
}

// deliverOwn is deliver to a client that has subscribed to a filter itself.
func (s *shard) deliverOwn(mb member, id topictree.FilterID, m *message.Message) {
	if m.Number == 0 || !mb.c.awaits(id, m) {
		s.deliver(mb, m)
	}
}

// deliver gives m to one subscriber.
func (s *shard) deliver(mb member, m *message.Message) {
	c := mb.c
	if c.conn == nil && c.ended { // it is being taken out
		return
	}
	if mb.opts&noLocal != 0 && m.Publisher == c.number { // [MQTT-3.8.3-3]
		return
	}
	if mb.opts&covered == 0 && !c.may(auth.Read, m.Topic) {
		s.drop(DropDenied)
		return
	}
	s.send(c, m, s.grant(m, mb.opts, mb.subID))
}

// grant is what a subscription gives m: the lower QoS [MQTT-3.8.4-8], and RETAIN only if it was asked for
// [MQTT-3.3.1-12] [MQTT-3.3.1-13].
func (s *shard) grant(m *message.Message, o options, subID uint32) session.Grant {
	g := session.Grant{QoS: min(m.QoS, o.qos()), SubscriptionID: subID}
	if s.opts.UpgradeOutgoingQoS {
		g.QoS = o.qos()
	}
	g.Retain = m.Retain && o&retainAsPublished != 0
	return g
}

// send gives m to one client: the one function that decides between wire, queue and drop.
func (s *shard) send(c *client, m *message.Message, g session.Grant) {
	if g.QoS == 0 && c.conn != nil {
		if c.slow() {
			c.dropped(DropSlowReceiver)
			c.updateFull()
			return
		}
		c.SendPublish(m, message.Delivery{Retain: g.Retain, SubscriptionID: g.SubscriptionID})
		return
	}
	if s.b.memoryShort.Load() && (g.QoS > 0 || s.limits.QueueQoS0) && c.Busy() {
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
func (s *shard) drop(r DropReason) { s.count.dropped[r]++ }

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

// pick adds the subscribers of one filter to s.picked, MQTT 3 clients once.
func (s *shard) pick(id topictree.FilterID, m *message.Message) {
	if c := s.only[id]; c != nil {
		s.pickOwn(c.member(id), id, m)
		return
	}
	cr := s.crowds[id]
	if cr == nil {
		return
	}
	for _, mb := range cr.list {
		if mb.c != nil {
			s.pickOwn(mb, id, m)
		}
	}
	if cr.more != nil {
		s.pickGranted(id, cr.more, m)
	}
}

func (s *shard) pickOwn(mb member, id topictree.FilterID, m *message.Message) {
	if m.Number == 0 || !mb.c.awaits(id, m) {
		s.pickMember(mb)
	}
}

// pickGranted adds the members of the sets that have a filter, and serves its taps.
func (s *shard) pickGranted(id topictree.FilterID, more *crowdExtra, m *message.Message) {
	for i := range more.sets {
		ref := &more.sets[i]
		for _, c := range ref.set.members {
			if c != nil && !c.masks(ref.set, id) && (m.Number == 0 || !c.awaitsGranted(id, m)) {
				s.pickMember(member{c: c, subID: ref.subID, opts: ref.opts})
			}
		}
	}
	for _, t := range more.taps {
		t.take(m)
	}
}

func (s *shard) pickMember(mb member) {
	at := int(mb.c.pickedAt)
	if s.pickedIn != nil {
		if n, ok := s.pickedIn[mb.c]; ok {
			at = n
		} else {
			s.pickedIn[mb.c], at = len(s.picked), len(s.picked)
		}
	}
	if mb.c.version == codec.V5 || at >= len(s.picked) || s.picked[at].c != mb.c {
		mb.c.pickedAt = uint32(len(s.picked))
		s.picked = append(s.picked, mb)
		return
	}
	if p := &s.picked[at]; p.opts.qos() < mb.opts.qos() {
		p.opts = mb.opts | p.opts&covered // they match the same topic
	} else {
		p.opts |= mb.opts & covered
	}
}

func (s *shard) deliverPicked(m *message.Message) {
	for _, mb := range s.picked {
		s.deliver(mb, m)
	}
	clear(s.picked)
}
