package main

import (
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
