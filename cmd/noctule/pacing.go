package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// gcRoom is how much the heap may always grow between two collections, in bytes. With gcPercent alone a small
// heap is collected at every other megabyte, which takes a quarter of a storm of TLS handshakes; with more,
// memory a client that connects grows.
const gcRoom = 4 << 20

// gcPercentMax bounds what that means for a heap that is nearly empty.
const gcPercentMax = 100

// pace keeps gcRoom until ctx is done, unless the environment says how to collect. It looks after each
// collection: once a second would be too late for a heap that grows by ten megabytes in that time.
func pace(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	collected := make(chan struct{}, 1)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for at := gcPercent; ; {
		runtime.AddCleanup(new(sentinel), notice, collected)
		metrics.Read(live)
		if p := percentFor(live[0].Value.Uint64()); p != at {
			debug.SetGCPercent(p)
			at = p
		}
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
	}
}

// sentinel is an object that nobody holds, so that the next collection finds it.
type sentinel struct{ _ [32]byte }

func notice(collected chan struct{}) { collected <- struct{}{} } // there is room: one sentinel at a time

// percentFor is the collector's percentage for a heap of so many bytes in use, in steps, as a change stops
// everything for a moment.
func percentFor(live uint64) int {
	const step = 25
	p := gcPercentMax
	if live > 0 {
		p = int(min(gcRoom*100/live, gcPercentMax))
	}
	return max(p/step*step, gcPercent)
}
