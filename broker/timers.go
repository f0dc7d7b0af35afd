package broker

import (
	"math"
	"slices"

	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/codec"
)

// The timers of a client: keep alive while online; the will's delay and the session's expiry while offline.
// The wheel is lazy: packets only store lastSeen, and an entry that fires too early is put back.

// Nothing comes before its interval has passed: lastSeen is the beginning of a second, so keep alive adds
// one, and offlineAt is rounded up.

// due is the second at which something happens to the client if nothing else does; 0 means nothing.
func (c *client) due() int64 {
	if c.conn != nil {
		at, end := c.silentAt(), c.leavesAt()
		if at == 0 || end != 0 && end < at {
			at = end
		}
		return at
	}
	var at int64
	if c.expiry != never {
		at = int64(c.offlineAt) + int64(c.expiry)
	}
	if will := c.will(); will != nil {
		if w := int64(c.offlineAt) + int64(will.delay); at == 0 || w < at {
			at = w
		}
	}
	return at
}

// silentAt is the second at which nothing has come from the client for too long; 0 means never.
func (c *client) silentAt() int64 {
	if c.keepAlive == 0 {
		return 0
	}
	return int64(c.lastSeen) + (int64(c.keepAlive)*3+1)/2 + 1 // [MQTT-3.1.2-22]
}

// arm makes sure that the wheel has an entry for the client no later than it is due.
func (c *client) arm() {
	s := c.shard
	s.loop.MustBeHere()
	at := c.due()
	if at == 0 || c.wheelAt != 0 && int64(c.wheelAt) <= at {
		return
	}
	at = min(at, math.MaxUint32) // far enough to look again
	c.wheelAt = uint32(at)
	if c.alarm == nil {
		c.alarm = &alarm{c}
	}
	s.timers.Add(s.seconds(), at, c.alarm)
}

// progressMin is how many bytes of a packet on its way are a sign of life, within one and a half keep
// alive: as many as Mosquitto wants to be still missing, which then takes a byte a minute for one.
const progressMin = 1000

// alarm is what the wheel holds of a client: the entry of a session that has ended keeps nothing else in
// memory.
type alarm struct{ cl *client }

// timer is called by the wheel for each entry whose time has come.
func (s *shard) timer(a *alarm, at int64) {
	s.loop.MustBeHere()
	cl := a.cl
	if cl == nil || uint32(at) != cl.wheelAt {
		return
	}
	cl.wheelAt = 0
	due, now := cl.due(), s.seconds()
	if due == 0 {
		return
	}
	if due > now {
		cl.arm()
		return
	}
	if cl.conn != nil {
		cl.look()
		return
	}
	if !cl.overdue() {
		cl.arm()
	}
}

// look ends the client, which is online, if its time is over, or if it has been silent for too long.
func (c *client) look() {
	s := c.shard
	if c.outstayed() {
		s.expire(c)
		return
	}
	now := s.seconds()
	if at := c.silentAt(); at != 0 && at <= now {
		// We do not listen, or it is at it.
		if s.halted == 0 && !c.conn.Held() && c.conn.Progress() < progressMin {
			c.kick(codec.KeepAliveTimeout)
			return
		}
		c.lastSeen = uint32(now)
	}
	c.arm()
}

// overdue does what is due of a session that is offline: it reports whether that was the end of the session
// [MQTT-3.1.2-23], and publishes the will [MQTT-3.1.3-9].
func (c *client) overdue() (ended bool) {
	s := c.shard
	s.loop.MustBeHere()
	now := s.seconds()
	if c.expiry != never && int64(c.offlineAt)+int64(c.expiry) <= now {
		s.logf(LevelNotice, "Expiring client %s due to timeout.", c.id)
		s.count.Expired++
		c.endSession()
		return true
	}
	if w := c.will(); w != nil && int64(c.offlineAt)+int64(w.delay) <= now {
		c.sendWill()
	}
	return false
}

// sessionOf is the session of a client id, nil if there is none. What is due of it has been done, whether the
// wheel has come by or not: a session whose time is over is nobody's to resume.
func (s *shard) sessionOf(id []byte) *client {
	s.loop.MustBeHere()
	cl := s.sessions[string(id)]
	if cl == nil || cl.conn == nil && cl.overdue() {
		return nil
	}
	return cl
}

// will is the Will Message of one connection [MQTT-3.1.2-8]. Its expiry starts when it is published.
type will struct {
	m      *message.Message
	delay  uint32 // seconds
	expiry uint32 // Message Expiry Interval, seconds; 0 none
}

// newWill copies the will out of a CONNECT.
func newWill(cl *client, w *codec.Will) *will {
	m := message.Message{
		Topic:     slices.Concat([]byte(cl.mount()), w.Topic),
		Payload:   w.Payload,
		QoS:       w.QoS,
		Retain:    w.Retain,
		Publisher: cl.number,
	}
	if w.Retain && cl.shard.opts.CheckRetainSource {
		m.Source = cl.sourceOf()
	}
	out := &will{}
	if d, ok := w.Properties.Uint(codec.WillDelay); ok {
		out.delay = d
	}
	m.Properties = w.Properties.Forwarded(nil)
	out.expiry, _ = w.Properties.Uint(codec.MessageExpiry)
	out.m = m.Keep()
	return out
}

// sendWill publishes the will and forgets it, since it is sent once [MQTT-3.1.2-10].
func (c *client) sendWill() {
	s := c.shard
	s.loop.MustBeHere()
	w := c.will()
	c.rare.will = nil
	c.save() // in one with the message
	if len(w.m.Topic) > topicMax || reservedTopic(w.m.Topic) || !c.may(auth.Write, w.m.Topic) ||
		c.guarded(w.m) != codec.Success {
		s.drop(DropDenied)
		return
	}
	if w.expiry > 0 {
		w.m.Expire(s.loop.Now(), w.expiry)
	}
	s.publishMessage(w.m)
}
