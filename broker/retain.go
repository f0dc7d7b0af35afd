package broker

import (
	"bytes"

	"noctule/broker/message"
	"noctule/broker/retained"
)

// retain stores m as the topic's retained message, or removes it when the payload is empty.
func (s *shard) retain(m *message.Message) {
	s.loop.MustBeHere()
	log := s.retainLog(m.Topic)
	if log != nil {
		s.journal.Touch()
	}
	if err := s.b.retained.Put(m, log); err != nil {
		s.logf(LevelWarning, "Retained message on %q is not kept: %v.", m.Topic, err)
	}
}

// retainLog is where a topic's retained messages are noted; nil for those that are not durable: those of the
// broker itself are made anew.
func (s *shard) retainLog(topic []byte) retained.Log {
	if s.journal == nil || bytes.HasPrefix(topic, []byte("$SYS/")) {
		return nil
	}
	return s.journal.Committer
}
