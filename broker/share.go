package broker

import (
	"hash/maphash"
	"math/bits"

	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/topictree"
	"noctule/wsnet"
)

// A shared subscription (MQTT 5, 4.8.2; Mosquitto offers it to MQTT 3 clients too) is dealt by one loop,
// the home of the pair of share name and filter, whatever loops its members live on: strict round robin
// that skips members who cannot take a message now. Members tell how they are through an atomic, so that
// the dealer never waits for them.

// shareMember is one client's part in a shared subscription.
type shareMember = fanout.Share[*client]

// newShareMember is a client's part in a shared subscription that home deals.
func newShareMember(c *client, id topictree.FilterID, home int, o fanout.Options, subID uint32) *shareMember {
	return &shareMember{
		C: c, ID: id, Home: home, Mark: shareMark(id.Filter()), Ready: &c.ready, Options: o, SubID: subID,
	}
}

// shareMark is a mark of a shared subscription. It is stored, so it follows from the name alone; two may
// have the same.
func shareMark(name string) uint8 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return uint8(1 + h%session.ShareMax)
}

// updateFull publishes how the client is to those who deal shared subscriptions.
func (c *client) updateFull() {
	if c.shared == 0 || c.ended {
		return
	}
	state, most := fanout.Idle, uint32(0)
	switch {
	case (c.conn == nil || c.Busy()) && c.QueueFull():
		state = fanout.Stuffed
	case c.conn == nil:
		state = fanout.Offline
	case c.Busy() || c.slow():
		state = fanout.Full
	}
	if c.five != nil {
		most = c.five.maxPacket
	}
	c.ready.Set(state, most)
}

// shareHome is the shard that deals a shared subscription.
func (b *Broker) shareHome(group, filter []byte) int {
	h := maphash.Bytes(b.seed, filter) ^ bits.RotateLeft64(maphash.Bytes(b.seed, group), 17)
	return int(h % uint64(len(b.shards)))
}

// at runs f on shard i: now if that is this one, else by its mailbox.
func (s *shard) at(i int, f func(*shard)) {
	if i == s.index {
		f(s)
		return
	}
	to := s.b.shards[i]
	to.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { f(to) })) // bounded by the SUBSCRIBE that caused it
}

// joinShare tells the home shard of a new member; it is posted before any message that follows.
func (s *shard) joinShare(m *shareMember) {
	s.loop.MustBeHere()
	s.at(m.Home, func(h *shard) { h.shares.Join(m) })
}

// leaveShare takes a member out.
func (s *shard) leaveShare(m *shareMember) {
	s.loop.MustBeHere()
	m.Gone = true
	s.b.index.RemoveShared(m.ID)
	s.at(m.Home, func(h *shard) { h.shares.Leave(m) })
}

// routeShared takes m to the shard that deals.
func (s *shard) routeShared(m *message.Message, h *topictree.Hit) {
	s.loop.MustBeHere()
	s.routeDeal(m, h.ID, bits.TrailingZeros64(h.Loops))
}

// routeDeal has m dealt: here, or by the home of the shared subscription.
func (s *shard) routeDeal(m *message.Message, id topictree.FilterID, home int) {
	if home == s.index {
		if s.shares.Begun(id) {
			s.deal(id, m)
		} else {
			s.dealLater(m, id)
		}
		return
	}
	b := s.box(home)
	e := s.enclose(b, m)
	e.Order.deal = true
	if b.For(e, id); s.journal.OweShared(m, id, home) {
		b.Owe(e, id)
	}
}

// dealLater has m dealt behind what is in the mail. The first member may have its SUBACK while its joinShare
// still waits in the mail of this loop, since sockets are read before; what comes until then goes behind m.
func (s *shard) dealLater(m *message.Message, id topictree.FilterID) {
	m = m.Keep()
	if s.shares.Defer(id, fanout.Early{Message: m, Owed: s.journal.OweShared(m, id, s.index)}) {
		s.loop.MustPost(earlyTask{id}) // one a shared subscription and turn
	}
}

// earlyTask deals what was early for a shared subscription.
type earlyTask struct{ id topictree.FilterID }

// Run implements wsnet.Task.
func (t earlyTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	for _, e := range s.shares.Deferred(t.id) {
		s.live.Reset(e.Message, l.Now())
		s.deal(t.id, e.Message)
		s.live.Release()
		if e.Owed {
			s.journal.Paid(e.Message, t.id)
		}
	}
}

// deal gives m to the member whose turn it is.
func (s *shard) deal(id topictree.FilterID, m *message.Message) {
	s.loop.MustBeHere()
	mb := s.shares.Deal(id, m)
	if mb == nil {
		s.drop(DropOffline)
		return
	}
	if mb.C.shard == s {
		s.deliverShared(mb, m)
		return
	}
	b := s.box(mb.C.shard.index)
	e := s.enclose(b, m)
	e.Order.target = mb
	if s.journal.OweShared(m, id, mb.C.shard.index) {
		b.Owe(e, id)
	}
}

// deliverShared gives m to one member, on the member's loop. If it has left meanwhile, another one is dealt
// to.
func (s *shard) deliverShared(mb *shareMember, m *message.Message) {
	if mb.Gone || mb.C.ended {
		s.routeDeal(m, mb.ID, mb.Home)
		return
	}
	if mb.Options&fanout.Covered == 0 && !mb.C.may(auth.Read, m.Topic) {
		s.drop(DropDenied)
		return
	}
	g := s.grant(m, mb.Options, mb.SubID)
	g.Share = mb.Mark
	s.send(mb.C, m, g)
}
