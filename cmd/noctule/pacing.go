package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcRoom is how much the heap may always grow between two collections, in bytes. With gcPercent alone a small
// heap is collected at every other megabyte, which takes a quarter of a storm of TLS handshakes.
const gcRoom = 16 << 20

// gcPercentMax bounds what that means for a heap that is nearly empty.
const gcPercentMax = 400

// pace keeps gcRoom until ctx is done, unless the environment says how to collect.
func pace(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for at := gcPercent; ; {
		metrics.Read(live)
		if p := percentFor(live[0].Value.Uint64()); p != at {
			debug.SetGCPercent(p)
			at = p
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

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
