package broker

import (
	"noctule/broker/message"
	"noctule/topictree"
)

// Retained messages are one index for all loops. How a subscriber gets them is in replay.go.

// retain stores m as the topic's retained message, or removes it when the payload is empty [MQTT-3.3.1-5]
// [MQTT-3.3.1-6] [MQTT-3.3.1-7].
func (s *shard) retain(m *message.Message) {
	if s.keptOnDisk(m.Topic) {
		s.retainDurably(m)
		return
	}
	var old *message.Message
	var existed bool
	if len(m.Payload) == 0 {
		old, existed = s.b.retained.Delete(m.Topic)
	} else {
		var err error
		if old, existed, err = s.b.retained.Set(m.Topic, m.Keep()); err != nil {
			s.logf(LevelWarning, "Retained message on %q is not kept: %v.", m.Topic, err)
			return
		}
	}
	s.countRetained(m, old, existed)
}

// countRetained notes that m has taken the place of old, if there was one.
func (s *shard) countRetained(m, old *message.Message, existed bool) {
	delta := m.Size()
	if existed {
		delta -= old.Size()
	}
	s.b.retainBytes.Add(delta)
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
		s.forgetRetained([]byte(topic), m)
	})
	if done {
		return nil
	}
	return c
}
