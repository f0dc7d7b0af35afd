package wsnet

import "time"

// Clock stands in for the system's time, so that tests of what happens after hours are exact and instant.
type Clock struct {
	// Now is the time in Unix milliseconds; each turn of each loop asks once.
	Now func() int64
	// Ticks replaces the tick that comes once a second.
	Ticks <-chan time.Time
}

// systemClock is the default. Its ticker ends when nobody holds the clock any more.
func systemClock() *Clock {
	return &Clock{Now: func() int64 { return time.Now().UnixMilli() }, Ticks: time.NewTicker(time.Second).C}
}

// monotonic measures turns.
func monotonic() time.Time { return time.Now() }
