package broker

import (
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// Retained messages are one index for all loops. A subscriber gets those that match through a cursor, a
// bounded piece a turn and only as fast as its window and its socket take them: a large tree neither stalls
// the loop nor is lost at the queue limit.

// replayStep is how many stored topics one turn looks at for one client.
const replayStep = 500

// retain stores m as the topic's retained message, or removes it when the payload is empty [MQTT-3.3.1-5]
// [MQTT-3.3.1-6] [MQTT-3.3.1-7].
func (s *shard) retain(m *message.Message) {
	if len(m.Payload) == 0 {
		s.b.retained.Delete(m.Topic)
		return
	}
	if _, _, err := s.b.retained.Set(m.Topic, m.Keep()); err != nil {
		s.logf(LevelWarning, "Retained message on %q is not kept: %v.", m.Topic, err)
	}
}

// newReplay decides whether a subscription gets retained messages: MQTT 5 by Retain Handling [MQTT-3.3.1-9]
// [MQTT-3.3.1-10] [MQTT-3.3.1-11], 3.1.1 always, 3.1 only a new one, shared ones never.
func (s *shard) newReplay(cl *client, f *codec.Filter, subID uint32, fresh bool) *replay {
	if !s.b.opts.RetainAvailable || s.b.retained.Len() == 0 {
		return nil
	}
	if _, _, shared := codec.SplitShare(f.Name); shared {
		return nil
	}
	switch {
	case cl.version == codec.V5 && (f.RetainHandling == 2 || f.RetainHandling == 1 && !fresh),
		cl.version == codec.V31 && !fresh:
		return nil
	}
	o := options(min(f.QoS, cl.listener.opts.MaxQoS))
	if f.NoLocal {
		o |= noLocal
	}
	return &replay{cursor: s.b.retained.Cursor(f.Name), opts: o, subID: subID}
}

func (c *client) addReplays(r *replay) {
	at := &c.replays
	for *at != nil {
		at = &(*at).next
	}
	*at = r
}

// replayRetained sends the next piece. It is called after SUBSCRIBE, by Again, and when the window or the
// socket has room.
func (s *shard) replayRetained(cl *client) {
	left := replayStep
	for cl.conn != nil && cl.replays != nil && left > 0 {
		r := cl.replays
		if cl.conn.Buffered() > s.b.opts.MaxBufferedBytes/2 {
			return // Drained goes on
		}
		step := left
		if r.opts.qos() > 0 {
			if cl.Busy() {
				return // an acknowledgement goes on
			}
			step = min(step, cl.Window()-cl.Inflight())
		}
		left -= step
		if s.replayStep(cl, r, step) {
			cl.replays = r.next
		}
	}
	if cl.conn != nil && cl.replays != nil && !cl.replays.again {
		cl.replays.again = true
		s.loop.Again(replayTask{cl, cl.replays})
	}
}

// replayTask goes on with a replay in a later turn.
type replayTask struct {
	cl *client
	r  *replay
}

// Run implements wsnet.Task.
func (t replayTask) Run(*wsnet.Loop) {
	t.r.again = false
	t.cl.shard.replayRetained(t.cl)
}

func (s *shard) replayStep(cl *client, r *replay, step int) (done bool) {
	now := s.loop.Now()
	return r.cursor.Next(step, func(_ string, m *message.Message) {
		if m.Expired(now) {
			s.drop(DropExpired)
			return
		}
		if r.opts&noLocal != 0 && m.Publisher == cl.number {
			return
		}
		g := session.Grant{QoS: min(m.QoS, r.opts.qos()), Retain: true, SubscriptionID: r.subID} // [MQTT-3.3.1-8]
		s.send(cl, m, g)
	})
}

// sweepRetained removes expired retained messages, a bounded piece a call; it returns the cursor to go on
// with.
func (s *shard) sweepRetained(c *topictree.Cursor[*message.Message]) *topictree.Cursor[*message.Message] {
	if c == nil {
		if s.b.retained.Len() == 0 {
			return nil
		}
		c = s.b.retained.Cursor([]byte("#"))
	}
	now := s.loop.Now()
	done := c.Next(replayStep, func(topic string, m *message.Message) {
		if !m.Expired(now) {
			return
		}
		s.b.retained.DeleteIf([]byte(topic), func(now *message.Message) bool { return now == m })
	})
	if done {
		return nil
	}
	return c
}
