package brokertest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"noctule/broker"
	"noctule/wsnet"
)

// Clock is a broker's time, which stands still between calls of Advance. It begins at a whole second.
type Clock struct {
	ticks chan time.Time
	now   atomic.Int64 // ms, goes on evenly
	ahead atomic.Int64 // the system's clock is ahead of now by so many ms
}

// NewClock returns a clock to put into one broker's options.
func NewClock() *Clock {
	c := &Clock{ticks: make(chan time.Time)}
	c.now.Store(1_800_000_000_000)
	return c
}

// Source is what goes into broker.Options. As the system's does for a process, it begins at what the system's
// clock is set to.
func (c *Clock) Source() *wsnet.Clock {
	begin := c.ahead.Load()
	return &wsnet.Clock{
		Now:   func() int64 { return c.now.Load() + begin },
		Wall:  func() int64 { return c.now.Load() + c.ahead.Load() },
		Ticks: c.ticks,
	}
}

// Set sets the system's clock forward by d, or back. No time passes.
func (c *Clock) Set(d time.Duration) { c.ahead.Add(d.Milliseconds()) }

// Advance moves the time of b on by d, in one jump, and waits until every loop has done what was due and
// what that has led to on other loops is on its way before anything that the test sends next.
func (c *Clock) Advance(t testing.TB, b *broker.Broker, d time.Duration) {
	t.Helper()
	Settle(t, b) // what was sent before comes before
	c.now.Add(d.Milliseconds())
	Settle(t, b)  // each loop has read the new time
	for range 2 { // the second is taken after the first has been posted to the loops
		select {
		case c.ticks <- time.Time{}:
		case <-time.After(Timeout):
			t.Fatal("nobody takes the tick")
		}
	}
	Settle(t, b)
}

// Pass moves the time of b on by d without a tick: what is due has not been looked at when the test goes on.
func (c *Clock) Pass(t testing.TB, b *broker.Broker, d time.Duration) {
	t.Helper()
	Settle(t, b)
	c.now.Add(d.Milliseconds())
	Settle(t, b)
}

// Settle returns when every loop has finished a turn that began after the call.
func Settle(t testing.TB, b *broker.Broker) broker.Metrics {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	var m broker.Metrics
	for range 2 {
		m = b.Metrics(ctx)
	}
	if ctx.Err() != nil {
		t.Fatal("a loop does not answer")
	}
	return m
}

// Until asks for metrics until they are as wanted. What names it.
func Until(t testing.TB, b *broker.Broker, what string, ok func(m *broker.Metrics) bool) broker.Metrics {
	t.Helper()
	deadline := time.Now().Add(Timeout)
	for {
		m := Settle(t, b)
		if ok(&m) {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not happened: %+v", what, m)
		}
	}
}
