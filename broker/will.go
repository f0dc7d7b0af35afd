package broker

import (
	"slices"

	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/codec"
)

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
func (s *shard) sendWill(cl *client) {
	s.loop.MustBeHere()
	w := cl.will()
	cl.rare.will = nil
	s.saveSession(cl) // in one with the message
	if len(w.m.Topic) > topicMax || reservedTopic(w.m.Topic) || !cl.may(auth.Write, w.m.Topic) ||
		s.guarded(cl, w.m) != codec.Success {
		s.drop(DropDenied)
		return
	}
	if w.expiry > 0 {
		w.m.Expire(s.loop.Now(), w.expiry)
	}
	s.publishMessage(w.m)
}

// windUp is the last that a loop does before its connections end.
func (s *shard) windUp() {
	s.loop.MustBeHere()
	s.sendPendingWills()
	if s.index == 0 {
		s.noteClock()
	}
}

// sendPendingWills publishes all wills that are still due, at shutdown; delayed ones too, as Mosquitto
// does. A recheck under way is given up.
func (s *shard) sendPendingWills() {
	s.checking.end()
	for _, cl := range s.sessions {
		if cl.will() != nil {
			s.sendWill(cl)
		}
	}
}
