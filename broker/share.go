package broker

import (
	"hash/maphash"
	"math"
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
type shareMember struct {
	// Set by newShareMember, then read-only:
	c    *client
	id   topictree.FilterID
	home int   // shard that deals
	mark uint8 // session.Grant.Share of what comes by it

	// Owned by the client's loop:
	opts  fanout.Options
	subID uint32
	gone  bool
}

// How a member is, best first.
const (
	memberReady   = iota // a message would be sent at once
	memberFull           // online, but its window or its output is full
	memberOffline        // a message would be queued, or dropped
	memberStuffed        // its queue is full
	memberStates
)

// client.readiness has this in the lower bits, and above the client's Maximum Packet Size, 0 if it has
// none.
const readinessBits = 2

// memberGone is the readiness of a client whose session has ended, while it still is in groups.
const memberGone = math.MaxUint32

// ranks is the rank of one to whom nothing is dealt.
const ranks = 2 * memberStates

// rank is how well the client can take a message that has at most so many bytes, the lower the better: who
// takes none as large comes last.
func (c *client) rank(size int) uint32 {
	r := c.readiness.Load()
	if r == memberGone {
		return ranks
	}
	if most := r >> readinessBits; most != 0 && size > int(most) {
		return r&(1<<readinessBits-1) + memberStates
	}
	return r & (1<<readinessBits - 1)
}

// sizeMost is how many bytes m has at most as a PUBLISH: its parts, and 32 for header, lengths and what is
// the receiver's own.
func sizeMost(m *message.Message) int {
	return 32 + len(m.Topic) + len(m.Properties) + len(m.Payload)
}

// newShareMember is a client's part in a shared subscription that home deals.
func newShareMember(c *client, id topictree.FilterID, home int, o fanout.Options, subID uint32) *shareMember {
	return &shareMember{c: c, id: id, home: home, mark: shareMark(id.Filter()), opts: o, subID: subID}
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
	state := uint32(memberReady)
	switch {
	case (c.conn == nil || c.Busy()) && c.QueueFull():
		state = memberStuffed
	case c.conn == nil:
		state = memberOffline
	case c.Busy() || c.slow():
		state = memberFull
	}
	if c.five != nil { // no packet is larger than 2^28 bytes and a few
		state |= min(c.five.maxPacket, math.MaxUint32>>readinessBits-1) << readinessBits
	}
	if c.readiness.Load() != state {
		c.readiness.Store(state)
	}
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
	s.at(m.home, func(h *shard) {
		g := h.shares[m.id]
		if g == nil {
			g = &fanout.Group[*shareMember]{}
			h.shares[m.id] = g
		}
		g.Join(m)
	})
}

// leaveShare takes a member out.
func (s *shard) leaveShare(m *shareMember) {
	s.loop.MustBeHere()
	m.gone = true
	s.b.index.RemoveShared(m.id)
	s.at(m.home, func(h *shard) {
		g := h.shares[m.id]
		if g.Leave(m); g.Len() == 0 {
			delete(h.shares, m.id)
		}
	})
}

// routeShared takes m to the shard that deals.
func (s *shard) routeShared(m *message.Message, h *topictree.Hit) {
	s.loop.MustBeHere()
	s.routeDeal(m, h.ID, bits.TrailingZeros64(h.Loops))
}

// routeDeal has m dealt: here, or by the home of the shared subscription.
func (s *shard) routeDeal(m *message.Message, id topictree.FilterID, home int) {
	if home == s.index {
		if s.shares[id] != nil && s.early[id] == nil {
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

// early is a message for a shared subscription of which no member is known on its home yet. The first one
// may have its SUBACK while its joinShare still waits in the mail of this loop, since sockets are read
// before. So the message is dealt behind what is in the mail now, and so is, for the order, what comes until
// then.
type early struct {
	m    *message.Message
	owed bool // the store has a transit of it
}

// dealLater has m dealt behind what is in the mail.
func (s *shard) dealLater(m *message.Message, id topictree.FilterID) {
	if s.early[id] == nil {
		if s.early == nil {
			s.early = make(map[topictree.FilterID][]early)
		}
		s.loop.MustPost(earlyTask{id}) // one a shared subscription and turn
	}
	e := early{m: m.Keep()}
	e.owed = s.journal.OweShared(e.m, id, s.index)
	s.early[id] = append(s.early[id], e)
}

// earlyTask deals what was early for a shared subscription.
type earlyTask struct{ id topictree.FilterID }

// Run implements wsnet.Task.
func (t earlyTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	list := s.early[t.id]
	delete(s.early, t.id)
	for i := range list {
		e := &list[i]
		s.live.Reset(e.m, l.Now())
		s.deal(t.id, e.m)
		s.live.Release()
		if e.owed {
			s.journal.Paid(e.m, t.id)
		}
	}
}

// deal gives m to the next member that is ready, else to the next that is online, else to the next that has
// room in its queue, else to the next one; to one that takes no message as large only if there is no other.
func (s *shard) deal(id topictree.FilterID, m *message.Message) {
	s.loop.MustBeHere()
	var mb *shareMember
	ok := false
	if g := s.shares[id]; g != nil {
		size := sizeMost(m)
		mb, ok = g.Deal(ranks, func(mb *shareMember) uint32 { return mb.c.rank(size) })
	}
	if !ok { // all have gone
		s.drop(DropOffline)
		return
	}
	if mb.c.shard == s {
		s.deliverShared(mb, m)
		return
	}
	b := s.box(mb.c.shard.index)
	e := s.enclose(b, m)
	e.Order.target = mb
	if s.journal.OweShared(m, id, mb.c.shard.index) {
		b.Owe(e, id)
	}
}

// deliverShared gives m to one member, on the member's loop. If it has left meanwhile, another one is dealt
// to.
func (s *shard) deliverShared(mb *shareMember, m *message.Message) {
	if mb.gone || mb.c.ended {
		s.routeDeal(m, mb.id, mb.home)
		return
	}
	if mb.opts&fanout.Covered == 0 && !mb.c.may(auth.Read, m.Topic) {
		s.drop(DropDenied)
		return
	}
	g := s.grant(m, mb.opts, mb.subID)
	g.Share = mb.mark
	s.send(mb.c, m, g)
}
