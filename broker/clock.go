package broker

import (
	"fmt"
	"time"

	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/wsnet"
)

// now is the only place where this package reads the clock; loops pass their own time of the turn.
func now() time.Time { return time.Now() }

// clock is the broker's time, in milliseconds. It began as Unix time when the store was new, and since
// then goes on evenly, whatever the system's clock is set to: everything that is due after an interval is
// counted by it, what is stored included. The store has beside that how far the system's clock is ahead,
// so that the time in which there is no broker can be told from the system's clock at the next start
// (docs/adr/0011-clocks.md).
type clock struct {
	// Set by openClock, then read-only:
	source wsnet.Clock

	// Owned by the loop of shard 0:
	ahead int64 // the system's clock is ahead by
	noted int64 // when the store was told
}

// Sizes of what is noted of the clock, in milliseconds.
const (
	clockStep  = 100         // a change of the system's clock that the store hears of
	clockJump  = 1000        // one that the log tells
	clockPause = 10          // reading two clocks takes less, or says nothing
	clockNotes = 3600 * 1000 // how often the store is told without a change
)

// openClock goes on with the time that a store has kept; s may be nil.
func openClock(source *wsnet.Clock, s store.Store) (*clock, error) {
	if source == nil {
		source = wsnet.SystemClock()
	}
	c := &clock{source: *source}
	if c.source.Wall == nil {
		c.source.Wall = source.Now
	}
	var kept store.Clock
	if s != nil {
		v := state.Visitor{Clock: func(c *store.Clock) error { kept = *c; return nil }}
		if err := state.WalkTable(s, store.Config, &v); err != nil {
			return nil, fmt.Errorf("%s: %w", store.Config, err)
		}
	}
	wall, at := c.source.Wall(), source.Now()
	begin := max(wall-kept.Ahead, kept.Seen) // time does not go back, though the system's clock may have
	c.ahead = wall - begin
	if shift := begin - at; shift != 0 {
		c.source.Now = func() int64 { return source.Now() + shift }
	}
	return c, nil
}

// record is what the store is told.
func (c *clock) record(now int64) *store.Clock {
	c.noted = now
	return &store.Clock{Ahead: c.ahead, Seen: now}
}

// wall is the system's clock at a time, in Unix milliseconds, as it was seen last.
func (c *clock) wall(now int64) int64 { return now + c.ahead }

// watchClock looks whether the system's clock has been set. Shard 0 only.
func (s *shard) watchClock() {
	c := s.b.clock
	at := c.source.Now()
	wall := c.source.Wall()
	if pause := c.source.Now() - at; pause > clockPause {
		return
	}
	by := wall - at - c.ahead
	if by >= clockJump || by <= -clockJump {
		s.logf(LevelNotice,
			"The system's clock has moved by %s (set, or asleep); intervals go on as they were.",
			(time.Duration(by) * time.Millisecond).Round(time.Second))
	}
	if by < clockStep && by > -clockStep && at-c.noted < clockNotes {
		return
	}
	if by >= clockStep || by <= -clockStep {
		c.ahead += by
	}
	s.noteClock()
}

// noteClock tells the store what the time is. Shard 0 only.
func (s *shard) noteClock() {
	now := s.b.clock.source.Now()
	r := s.b.clock.record(now)
	if s.journal != nil {
		s.journal.Batch.PutClock(r)
	}
}
