package broker

import (
	"fmt"
	"io"

	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/offer"
	"noctule/broker/reason"
	"noctule/codec"
	"noctule/wsnet"
)

// fail ends a connection because of what the client sent: an MQTT 5 client is told the reason
// [MQTT-4.13.1-1], others are only closed.
func (s *shard) fail(cl *client, err error) {
	r := reason.Of(err)
	s.logf(LevelInternal, "Client %s is ended: %v", cl.id, err)
	s.end(cl, r, reason.EndOfError(err))
}

// kick ends a connection from the broker's side. No DISCONNECT goes out on a keep alive timeout, as with
// Mosquitto.
func (s *shard) kick(cl *client, r codec.Reason) { s.end(cl, r, reason.EndOf(r)) }

// end is kick, counted for a reason that r may not tell.
func (s *shard) end(cl *client, r codec.Reason, why EndReason) {
	conn := cl.conn
	if conn == nil {
		return
	}
	s.count.Disconnects[why]++
	s.tellEvent(cl, Event{Kind: EventDisconnected, Reason: why})
	cl.dropGate() // what has waited is not acknowledged
	if cl.version == codec.V5 && r != codec.KeepAliveTimeout {
		s.debugf("Sending DISCONNECT to %s (rc%d)", cl.id, byte(r))
		s.journal.Begin()
		_ = cl.send(&codec.Disconnect{Reason: r}) // the connection ends anyway
	}
	s.logEnd(conn, []byte(cl.id), reason.CloseText(r))
	s.offline(cl, true)
	conn.Close(fmt.Errorf("broker: %s", reason.CloseText(r)))
}

// lost handles a connection that ended without DISCONNECT.
func (s *shard) lost(cl *client, why error) {
	s.loop.MustBeHere()
	s.count.Disconnects[reason.EndOfLoss(why)]++
	s.tellEvent(cl, Event{Kind: EventDisconnected, Reason: reason.EndOfLoss(why)})
	s.logLost(cl.conn, []byte(cl.id), why)
	s.offline(cl, true)
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
func (s *shard) handleDisconnect(cl *client, h codec.Header, body []byte) error {
	var p codec.Disconnect
	if err := p.Parse(h.Flags, body, cl.version); err != nil {
		return err
	}
	if e, ok := p.Properties.Uint(codec.SessionExpiry); ok {
		if cl.expiry == 0 && e != 0 {
			return protocolError(h.Type, "Session Expiry Interval was 0 [MQTT-3.14.2-2]")
		}
		cl.expiry = offer.CapExpiry(e, s.opts.PersistentClientExpiration)
	}
	s.debugf("Received DISCONNECT from %s", cl)
	conn := cl.conn
	if s.opts.ConnectionMessages {
		s.logf(LevelNotice, "Client %s [%s] disconnected.", cl.id, line.Peer(conn))
	}
	s.count.Disconnects[EndByClient]++
	s.tellEvent(cl, Event{Kind: EventDisconnected, Reason: EndByClient})
	s.offline(cl, p.Reason == codec.DisconnectWithWill) // [MQTT-3.14.4-3]
	conn.Close(io.EOF)
	return nil
}

// offline takes the connection off a session, then ends the session or keeps it for its expiry interval.
func (s *shard) offline(cl *client, sendWill bool) {
	s.departed.Add(cl.number, cl.id, cl.conn)
	listener.Of(cl.conn).Count(cl.version, -1)
	cl.conn.Attachment = nil
	cl.conn = nil
	cl.Suspend()
	cl.dropGate()
	cl.keepAlive = 0
	cl.answers = 0
	cl.offlineAt = uint32(s.secondsUp())
	s.count.Connections--
	if cl.five != nil {
		cl.five = nil // aliases and limits are a connection's [MQTT-3.3.2-7]
	}
	cl.updateFull()
	if cl.will() != nil && !sendWill {
		cl.rare.will = nil // [MQTT-3.1.2-10]
	}
	s.lapse(cl)
}

// lapse publishes the will of a session that has lost its connection, if it is due at once, and ends the
// session or keeps it for its expiry interval.
func (s *shard) lapse(cl *client) {
	if w := cl.will(); w != nil && (w.delay == 0 || cl.expiry == 0) {
		s.sendWill(cl)
	}
	if cl.expiry == 0 {
		s.endSession(cl)
		return
	}
	s.saveSession(cl)
	s.arm(cl)
}

// endSession forgets a session: its subscriptions, queue and pending will.
func (s *shard) endSession(cl *client) {
	if cl.ended {
		return
	}
	if cl.will() != nil {
		s.sendWill(cl) // [MQTT-3.1.3-9]
	}
	left := s.newEstate(cl)
	s.dropSubscriptions(cl)
	s.grants.Drop(cl)
	s.grants.Rename(cl, cl.username(), "")
	if cl.rare != nil {
		cl.rare.replays = nil // those for its own subscriptions have gone with them
	}
	if left != nil {
		s.openEstate(cl, left)
	} else {
		s.saveEnd(cl)
	}
	cl.ended = true
	if cl.alarm != nil {
		cl.alarm.cl = nil
	}
	delete(s.sessions, cl.id)
	cl.Forget()
	s.count.Sessions--
	s.b.sessions.Add(-1)
}
