package broker

import (
	"fmt"
	"io"

	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/message"
	"noctule/broker/offer"
	"noctule/broker/reason"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/broker/view"
	"noctule/codec"
	"noctule/wsnet"
)

// fail ends a connection because of what the client sent: an MQTT 5 client is told the reason
// [MQTT-4.13.1-1], others are only closed.
func (c *client) fail(err error) {
	r := reason.Of(err)
	c.shard.logf(LevelInternal, "Client %s is ended: %v", c.id, err)
	c.end(r, reason.EndOfError(err))
}

// kick ends a connection from the broker's side. No DISCONNECT goes out on a keep alive timeout, as with
// Mosquitto.
func (c *client) kick(r codec.Reason) { c.end(r, reason.EndOf(r)) }

// end is kick, counted for a reason that r may not tell.
func (c *client) end(r codec.Reason, why EndReason) {
	s := c.shard
	conn := c.conn
	if conn == nil {
		return
	}
	s.count.Disconnects[why]++
	c.tellEvent(event{Kind: view.EventDisconnected, Reason: why})
	c.dropGate() // what has waited is not acknowledged
	if c.version == codec.V5 && r != codec.KeepAliveTimeout {
		s.debugf("Sending DISCONNECT to %s (rc%d)", c.id, byte(r))
		s.journal.Begin()
		c.farewell(r, why)
	}
	text := reason.CloseText(r)
	if why == EndBanned {
		text = reason.CloseText(codec.Banned)
	}
	s.logEnd(conn, []byte(c.id), text)
	c.offline(why != EndExpired || c.stay().SendsWill())
	conn.Close(fmt.Errorf("broker: %s", reason.CloseText(r)))
}

// farewell sends DISCONNECT, with what there is to tell if that is not more than the client takes
// [MQTT-3.14.2-3]. The connection ends anyway.
func (c *client) farewell(r codec.Reason, why EndReason) {
	d := codec.Disconnect{Reason: r}
	if text := why.Told(); text != "" {
		d.Properties = codec.AppendBytesProperty(nil, codec.ReasonString, []byte(text))
		if c.send(&d) == nil {
			return
		}
		d.Properties = nil
	}
	_ = c.send(&d)
}

// lost handles a connection that ended without DISCONNECT.
func (c *client) lost(why error) {
	s := c.shard
	s.loop.MustBeHere()
	s.count.Disconnects[reason.EndOfLoss(why)]++
	c.tellEvent(event{Kind: view.EventDisconnected, Reason: reason.EndOfLoss(why)})
	s.logLost(c.conn, []byte(c.id), why)
	c.offline(true)
}

// logLost logs the end of a connection that the broker did not end, unless it ends as a whole.
func (s *shard) logLost(c *wsnet.Conn, id []byte, why error) {
	if text := reason.LossText(why); text != "" {
		s.logEnd(c, id, text)
	}
}

// logEnd logs the end of a connection. Who has not told an id goes by its address.
func (s *shard) logEnd(c *wsnet.Conn, id []byte, text string) {
	if !s.opts.ConnectionMessages {
		return
	}
	if len(id) == 0 {
		id = []byte(line.Host(c))
	}
	s.logf(LevelNotice, "Client %s [%s] disconnected: %s.", id, line.Peer(c), text)
}

// handleDisconnect handles a clean end. MQTT 5 clients may change their session expiry, not from 0
// [MQTT-3.14.2-2], and may ask for their will (reason 4).
func (c *client) handleDisconnect(h codec.Header, body []byte) error {
	s := c.shard
	var p codec.Disconnect
	if err := p.Parse(h.Flags, body, c.version); err != nil {
		return err
	}
	if e, ok := p.Properties.Uint(codec.SessionExpiry); ok {
		if c.expiry == 0 && e != 0 {
			return protocolError(h.Type, "Session Expiry Interval was 0 [MQTT-3.14.2-2]")
		}
		c.expiry = offer.CapExpiry(e, s.opts.PersistentClientExpiration)
	}
	s.debugf("Received DISCONNECT from %s", c)
	conn := c.conn
	if s.opts.ConnectionMessages {
		s.logf(LevelNotice, "Client %s [%s] disconnected.", c.id, line.Peer(conn))
	}
	s.count.Disconnects[EndByClient]++
	c.tellEvent(event{Kind: view.EventDisconnected, Reason: EndByClient})
	c.offline(p.Reason == codec.DisconnectWithWill) // [MQTT-3.14.4-3]
	conn.Close(io.EOF)
	return nil
}

// offline takes the connection off a session, then ends the session or keeps it for its expiry interval.
func (c *client) offline(sendWill bool) {
	s := c.shard
	s.departed.Add(c.number, c.id, c.conn)
	listener.Of(c.conn).Count(c.version, -1)
	c.conn.Attachment = nil
	c.conn = nil
	c.endRenewal()
	c.Suspend()
	c.dropGate()
	c.keepAlive = 0
	c.answers = 0
	c.offlineAt = uint32(s.secondsUp())
	s.count.Connections--
	if c.five != nil {
		c.five = nil // aliases and limits are a connection's [MQTT-3.3.2-7]
	}
	c.updateFull()
	if c.will() != nil && !sendWill {
		c.rare.will = nil // [MQTT-3.1.2-10]
	}
	c.lapse()
}

// lapse publishes the will of a session that has lost its connection, if it is due at once, and ends the
// session or keeps it for its expiry interval.
func (c *client) lapse() {
	if w := c.will(); w != nil && (w.delay == 0 || c.expiry == 0) {
		c.sendWill()
	}
	if c.expiry == 0 {
		c.endSession()
		return
	}
	c.save()
	c.arm()
}

// endSession forgets a session: its subscriptions, queue and pending will.
func (c *client) endSession() {
	s := c.shard
	if c.ended {
		return
	}
	if c.will() != nil {
		c.sendWill() // [MQTT-3.1.3-9]
	}
	left := c.newEstate()
	c.dropSubscriptions()
	s.grants.Drop(c)
	s.grants.Rename(c, c.username(), "")
	if c.rare != nil {
		c.rare.replays = nil // those for its own subscriptions have gone with them
	}
	if left != nil {
		c.openEstate(left)
	} else {
		c.saveEnd()
	}
	c.ended = true
	if c.alarm != nil {
		c.alarm.cl = nil
	}
	delete(s.sessions, c.id)
	c.Forget()
	s.count.Sessions--
	s.b.sessions.Add(-1)
}

// What a member of a shared subscription has not acknowledged when its session ends goes to the other
// members (MQTT 5, 4.8.2), in slices, one a turn, in its order. Until that is done the session is an estate
// (route.Estate): it has no client id and no subscriptions any more, its messages stay. The store knows it by
// an expiry interval of 0, with which no session is offline; a start goes on with it. What is dealt out is in
// the post of the turn in which it leaves the estate, so it is neither lost nor doubled.

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
