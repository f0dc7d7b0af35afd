package broker

import (
	"noctule/broker/message"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/wsnet"
)

// What a member of a shared subscription has not acknowledged when its session ends goes to the other
// members (MQTT 5, 4.8.2), in slices, one a turn, in its order. Until that is done the session is an estate:
// it has no client id and no subscriptions any more, its messages stay. The store knows it by an expiry
// interval of 0, with which no session is offline; a start goes on with it. What is dealt out is in the post
// of the turn in which it leaves the estate, so it is neither lost nor doubled.
//
// What a session leaves (route.Estate) is its rare part until then.

// estateSlice is how many messages of an estate are dealt in one turn.
const estateSlice = 512

// newEstate notes the shared subscriptions of a session that ends, if messages may have come by them.
func (c *client) newEstate() *route.Estate {
	if c.shared == 0 || c.Outgoing() == 0 {
		return nil
	}
	e := &route.Estate{}
	for i := range c.subs {
		if m := c.subs[i].share; m != nil {
			e.Add(c.shard.b.index.Filter(m.ID))
		}
	}
	for m := range c.grants().Shares {
		e.Add(c.shard.b.index.Filter(m.ID))
	}
	return e
}

// openEstate begins to deal out what the session, which has ended, leaves.
func (c *client) openEstate(e *route.Estate) {
	c.extra().estate = e
	if c.Durable() {
		c.shard.journal.Batch.PutSession(&store.Session{Number: c.number, ClientID: c.id, OfflineAt: 1})
	}
	c.shard.loop.Again(estateTask{c})
}

// estateTask deals out the next slice of an estate.
type estateTask struct{ cl *client }

// Run implements wsnet.Task.
func (t estateTask) Run(l *wsnet.Loop) {
	cl := t.cl
	switch cl.Bequeath(estateSlice, cl, cl.inherit) {
	case session.SomeLeft:
		l.Again(t)
	case session.NoneLeft:
		cl.rare.estate = nil
		cl.saveEnd()
	case session.AwayLeft: // Run of awayRead goes on
	}
}

// inherit gives m, which the session leaves, to another member of the shared subscription by which it came.
func (c *client) inherit(m *message.Message, share uint8) {
	s, e := c.shard, c.rare.estate
	if m.Expired(s.loop.Now()) {
		s.drop(DropExpired)
		return
	}
	if group, filter, ok := e.Of(m, share); ok {
		if id, ok := s.b.index.LookupShared(group, filter); ok {
			s.router.Deal(m, id, s.b.shareHome(group, filter))
			return
		}
	}
	s.drop(DropOffline)
}
