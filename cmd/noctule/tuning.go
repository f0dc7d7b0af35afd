package main

import (
	"os"
	"runtime/debug"
)

// gcPercent trades a little work of the collector, which idles on the hot paths, for memory per connection.
const gcPercent = 25

// tune sets what the environment does not: memory_limit is the collector's limit too, so that it works harder
// near it; see broker/memory.go for what is refused before.
func tune(memoryLimit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" && memoryLimit > 0 {
		debug.SetMemoryLimit(memoryLimit)
	}
}
