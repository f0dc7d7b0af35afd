// Package clock is the time by which a broker does what is due after an interval: it goes on evenly, whatever
// the system's clock is set to, and across restarts.
package clock

import (
	"fmt"
	"sync/atomic"
	"time"

	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/wsnet"
)

// Clock is the broker's time, in milliseconds. It began as Unix time when the store was new, and since
// then goes on evenly, whatever the system's clock is set to: everything that is due after an interval is
// counted by it, what is stored included. The store has beside that how far the system's clock is ahead,
// so that the time in which there is no broker can be told from the system's clock at the next start
// (docs/adr/0011-clocks.md).
type Clock struct {
	// Set by Open, then read-only:
	Source wsnet.Clock

	// Atomic:
	ahead atomic.Int64 // the system's clock is ahead by; changed by the loop that watches

	// Owned by the loop that watches:
	noted int64 // when the store was told
}

// Sizes of what is noted of the clock, in milliseconds.
const (
	step  = 100         // a change of the system's clock that the store hears of
	jump  = 1000        // one that the log tells
	pause = 10          // reading two clocks takes less, or says nothing
	notes = 3600 * 1000 // how often the store is told without a change
)

// Open goes on with the time that a store has kept; s may be nil.
func Open(source *wsnet.Clock, s store.Store) (*Clock, error) {
	if source == nil {
		source = wsnet.SystemClock()
	}
	c := &Clock{Source: *source}
	if c.Source.Wall == nil {
		c.Source.Wall = source.Now
	}
	var kept store.Clock
	if s != nil {
		v := state.Visitor{Clock: func(c *store.Clock) error { kept = *c; return nil }}
		if err := state.WalkTable(s, store.Config, &v); err != nil {
			return nil, fmt.Errorf("%s: %w", store.Config, err)
		}
	}
	wall, at := c.Source.Wall(), source.Now()
	begin := max(wall-kept.Ahead, kept.Seen) // time does not go back, though the system's clock may have
	c.ahead.Store(wall - begin)
	if shift := begin - at; shift != 0 {
		c.Source.Now = func() int64 { return source.Now() + shift }
	}
	return c, nil
}

// Record is what the store is told now.
func (c *Clock) Record() *store.Clock {
	now := c.Source.Now()
	c.noted = now
	return &store.Clock{Ahead: c.ahead.Load(), Seen: now}
}

// Wall is the system's clock at a time, in Unix milliseconds, as it was seen last. Any goroutine may ask.
func (c *Clock) Wall(now int64) int64 { return now + c.ahead.Load() }

// Watch looks whether the system's clock has been set. moved is by how much, if that is worth telling,
// else 0; note says that the store is to have the Record.
func (c *Clock) Watch() (moved time.Duration, note bool) {
	at := c.Source.Now()
	wall := c.Source.Wall()
	if took := c.Source.Now() - at; took > pause {
		return 0, false
	}
	by := wall - at - c.ahead.Load()
	if by >= jump || by <= -jump {
		moved = time.Duration(by) * time.Millisecond
	}
	if by >= step || by <= -step {
		c.ahead.Add(by)
		return moved, true
	}
	return moved, at-c.noted >= notes
}
