package wsnet

import "time"

// Clock stands in for the system's time, so that tests of what happens after hours are exact and instant.
type Clock struct {
	// Now is the time in milliseconds; each turn of each loop asks once. It begins as Unix time and goes on
	// evenly from there: setting the system's clock does not move it.
	Now func() int64
	// Wall is the system's clock in Unix milliseconds, which may be set; nil: as Now.
	Wall func() int64
	// Ticks replaces the tick that comes once a second.
	Ticks <-chan time.Time
	// Probes says when a loop is to be asked how long what is ready waits; nil: never.
	Probes <-chan time.Time
}

// SystemClock is the default. Its tickers end when nobody holds the clock any more.
func SystemClock() *Clock {
	start := time.Now()
	at := start.UnixMilli()
	return &Clock{
		Now:    func() int64 { return at + time.Since(start).Milliseconds() },
		Wall:   func() int64 { return time.Now().UnixMilli() },
		Ticks:  time.NewTicker(time.Second).C,
		Probes: time.NewTicker(probeEvery).C,
	}
}

// monotonic measures waits.
func monotonic() time.Time { return time.Now() }
