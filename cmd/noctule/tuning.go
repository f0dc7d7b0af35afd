package main

import (
	"math"
	"os"
	"runtime/debug"
)

// gcPercent trades a little work of the collector, which idles on the hot paths, for memory per connection.
const gcPercent = 25

// tune sets what the environment does not.
func tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// limitMemory makes memory_limit the collector's limit too, so that it works harder near it; see
// broker/memory.go for what is refused before. 0 means no limit.
func limitMemory(limit int64) {
	if limit == 0 {
		limit = math.MaxInt64
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}
