package broker

import (
	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/topictree"
)

// The life of a PUBLISH after its checks. publishMessage stores it if it is retained and has the loop's
// Router bring it to all who have subscribed; here is what becomes of it with one of them.

// member is one subscription as the fan-out sees it, hit a receiver that a message has come to, shareMember a
// part in a shared subscription.
type (
	member      = fanout.Member[*client]
	hit         = fanout.Hit[*client]
	shareMember = fanout.Share[*client]
)

// slice is how many members of a crowd are served in one turn.
const slice = 2048

// holdPublisher reads nothing more from who publishes the message that is handled, until it is released.
func (s *shard) holdPublisher() (release func()) {
	conn := s.publisher
	if conn == nil {
		return nil
	}
	conn.Hold()
	return func() { releaseTask{conn}.Run(s.loop) }
}

// publishMessage stores and routes m, here and, where somebody listens for that, elsewhere; false when no
// subscription matches. m may be a loan.
func (s *shard) publishMessage(m *message.Message) bool {
	matched := s.routeMessage(m)
	if s.relays.None() {
		return matched
	}
	return s.relays.Tell(m, s.loop.Now()) || matched
}

// routeMessage is publishMessage on this node alone.
func (s *shard) routeMessage(m *message.Message) bool {
	s.loop.MustBeHere()
	if m.Retain {
		s.retain(m)
	}
	return s.router.Publish(m, s.loop.Now())
}

// deliverOnly gives m to the only subscriber of a filter.
func deliverOnly(c *client, id topictree.FilterID, m *message.Message) {
	if m.Number == 0 || !c.awaits(id, m) {
		c.Take(c.Subscribed(id), m)
	}
}

// deliverHit gives m to one that it has come to.
func deliverHit(id topictree.FilterID, h hit, m *message.Message) {
	if mb, ok := h.C.takes(id, h, m); ok {
		mb.C.Take(mb, m)
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

// Picks implements route.Receiver: clients of MQTT 3 may be to get one copy.
func (c *client) Picks(id topictree.FilterID, h hit, m *message.Message) (mb member, once *uint32, ok bool) {
	mb, ok = c.takes(id, h, m)
	if c.version != codec.V5 {
		once = &c.pickedAt
	}
	return mb, once, ok
}

// Take implements route.Receiver: it gives m to one subscriber.
func (c *client) Take(mb member, m *message.Message) {
	s := c.shard
	s.loop.MustBeHere()
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
	c.give(m, s.grant(m, mb.Options, mb.SubID))
}

// TakeShared implements route.Receiver.
func (c *client) TakeShared(mb *shareMember, m *message.Message) bool {
	s := c.shard
	switch {
	case c.ended:
		return false
	case mb.Options&fanout.Covered == 0 && !c.may(auth.Read, m.Topic):
		s.drop(DropDenied)
	default:
		g := s.grant(m, mb.Options, mb.SubID)
		g.Share = mb.Mark
		c.give(m, g)
	}
	return true
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

// give brings m to the client: the one function that decides between wire, queue and drop.
func (c *client) give(m *message.Message, g session.Grant) {
	s := c.shard
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

// newShareMember is a client's part in a shared subscription that home deals.
func newShareMember(c *client, id topictree.FilterID, home int, o fanout.Options, subID uint32) *shareMember {
	return &shareMember{
		C: c, ID: id, Home: home, Loop: c.shard.index, Mark: route.Mark(id.Filter()), Ready: &c.ready,
		Options: o, SubID: subID,
	}
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
	return route.Home(b.seed, group, filter, len(b.shards))
}

// tooMuch reports a message of a client that would have to be kept while memory is short. What removes a
// retained message is welcome.
func (s *shard) tooMuch(m *message.Message) bool {
	if !s.b.memory.Short() || m.QoS == 0 && !m.Retain || m.Retain && len(m.Payload) == 0 {
		return false
	}
	s.drop(DropMemory)
	return true
}
