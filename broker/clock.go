package broker

import "time"

// now is the only place where this package reads the clock; loops pass their own time of the turn.
func now() time.Time { return time.Now() }

// watchClock looks whether the system's clock has been set. Shard 0 only.
func (s *shard) watchClock() {
	moved, note := s.b.clock.Watch()
	if moved != 0 {
		s.logf(LevelNotice,
			"The system's clock has moved by %s (set, or asleep); intervals go on as they were.",
			moved.Round(time.Second))
	}
	if note {
		s.noteClock()
	}
}

// noteClock tells the store what the time is. Shard 0 only.
func (s *shard) noteClock() {
	r := s.b.clock.Record()
	if s.journal != nil {
		s.journal.Batch.PutClock(r)
	}
}
