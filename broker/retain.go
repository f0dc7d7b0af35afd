package broker

import (
	"bytes"

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
		if old, existed, err = s.b.setRetained(m); err != nil {
			s.logf(LevelWarning, "Retained message on %q is not kept: %v.", m.Topic, err)
			return
		}
	}
	s.countRetained(m, old, existed)
}

// setRetained enters a message, of which it keeps a copy, in the index, with the next number. The number is
// given out under a lock, and lastRetain follows the index: who has read it finds every message up to it
// there, unless a later one has taken its place.
func (b *Broker) setRetained(m *message.Message) (old *message.Message, existed bool, err error) {
	b.retaining.Lock()
	defer b.retaining.Unlock()
	k, n := m.Keep(), b.lastRetain.Load()+1
	m.Number, k.Number = n, n // before others see it
	if old, existed, err = b.retained.Set(k.Topic, k); err != nil {
		m.Number, k.Number = 0, 0
		return nil, false, err
	}
	b.lastRetain.Store(n)
	return old, existed, nil
}

// probeSteps is how much of a tree is looked at to find out that nothing in it matches.
const probeSteps = 32

// mayMatch reports whether a retained message matches a filter, or may: a large tree is not searched to its
// end. A message that is stored while it looks is on its way to who has the filter in the index already.
func (b *Broker) mayMatch(filter []byte) bool {
	if !bytes.ContainsAny(filter, "+#") {
		_, ok := b.retained.Get(filter)
		return ok
	}
	found := false
	over := b.retained.Cursor(filter).Next(probeSteps, func(string, *message.Message) { found = true })
	return found || !over
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
