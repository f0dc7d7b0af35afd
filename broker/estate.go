package broker

import (
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// What a member of a shared subscription has not acknowledged when its session ends goes to the other
// members (MQTT 5, 4.8.2), in slices, one a turn, in its order. Until that is done the session is an estate:
// it has no client id and no subscriptions any more, its messages stay. The store knows it by an expiry
// interval of 0, with which no session is offline; a start goes on with it. What is dealt out is in the post
// of the turn in which it leaves the estate, so it is neither lost nor doubled.
type estate struct {
	shares []bequest
	dealt  map[arrival]int // how often a message was dealt that may have come by more than one of them
}

// arrival is a message that came by a shared subscription with a mark.
type arrival struct {
	m    any // *message.Stored, as it may have been read more than once, else *message.Message
	mark uint8
}

// bequest is a shared subscription of the session that has ended.
type bequest struct {
	group, filter []byte
	mark          uint8
}

// estateSlice is how many messages of an estate are dealt in one turn.
const estateSlice = 512

// newEstate notes the shared subscriptions of a session that ends, if messages may have come by them.
func (c *client) newEstate() *estate {
	if c.shared == 0 || c.Outgoing() == 0 {
		return nil
	}
	e := &estate{}
	for i := range c.subs {
		if m := c.subs[i].share; m != nil {
			e.add(c.shard.b.index.Filter(m.ID))
		}
	}
	for m := range c.grants().Shares {
		e.add(c.shard.b.index.Filter(m.ID))
	}
	return e
}

func (e *estate) add(name string) {
	if group, filter, shared := codec.SplitShare([]byte(name)); shared {
		e.shares = append(e.shares, bequest{group: group, filter: filter, mark: shareMark(name)})
	}
}

// openEstate begins to deal out what the session, which has ended, leaves.
func (c *client) openEstate(e *estate) {
	c.extra().estate = e
	if c.Durable() {
		c.shard.journal.Batch.PutSession(&store.Session{Number: c.number, ClientID: c.id, OfflineAt: 1})
	}
	c.shard.loop.Again(estateTask{c})
}

// ended reports whether a stored session is an estate.
func (r *restored) ended() bool { return r.Expiry == 0 && r.OfflineAt != 0 }

// adoptEstate makes an estate again that lives on this loop.
func (r *restored) adoptEstate(s *shard) {
	cl := &client{Session: session.New(&s.limits), id: r.ClientID, number: r.Number, shard: s, ended: true}
	cl.SetDurable()
	cl.Forget()
	if len(r.Out) > 0 {
		cl.Restore(r.Out)
	}
	for _, h := range r.Held {
		cl.RestoreHeld(h.ID, h.Message)
	}
	e := &estate{}
	for i := range r.Subscriptions {
		e.add(r.Subscriptions[i].Filter)
	}
	cl.extra().estate = e
	r.estate = cl
}

// estateTask deals out the next slice of an estate.
type estateTask struct{ cl *client }

// Run implements wsnet.Task.
func (t estateTask) Run(l *wsnet.Loop) {
	s, cl := l.Handler().(*shard), t.cl
	e := cl.rare.estate
	switch cl.Bequeath(estateSlice, cl, func(m *message.Message, share uint8) { s.inherit(e, m, share) }) {
	case session.SomeLeft:
		l.Again(t)
	case session.NoneLeft:
		cl.rare.estate = nil
		cl.saveEnd()
	case session.AwayLeft: // Run of awayRead goes on
	}
}

// inherit gives m to another member of the shared subscription by which it came.
func (s *shard) inherit(e *estate, m *message.Message, share uint8) {
	if m.Expired(s.loop.Now()) {
		s.drop(DropExpired)
		return
	}
	if b := e.of(m, share); b != nil {
		if id, ok := s.b.index.LookupShared(b.group, b.filter); ok {
			s.router.Deal(m, id, s.b.shareHome(b.group, b.filter))
			return
		}
	}
	s.drop(DropOffline)
}

// of is the shared subscription by which m came, nil if the client has left it. That is known by its mark and
// by what it matches; where that is not enough, a message that is there twice came by one after the other.
func (e *estate) of(m *message.Message, share uint8) *bequest {
	var fits []*bequest
	for i := range e.shares {
		if b := &e.shares[i]; b.mark == share && topictree.MatchFilter(b.filter, m.Topic) {
			fits = append(fits, b)
		}
	}
	if len(fits) < 2 {
		if len(fits) == 0 {
			return nil
		}
		return fits[0]
	}
	if e.dealt == nil {
		e.dealt = make(map[arrival]int)
	}
	key := arrival{m: m, mark: share}
	if m.Stored != nil {
		key.m = m.Stored
	}
	n := e.dealt[key]
	e.dealt[key] = n + 1
	return fits[n%len(fits)]
}
