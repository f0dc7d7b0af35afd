// Package memguard watches what the process uses of memory against a limit. Go has no allocation that
// fails, so who has a limit measures, and refuses beforehand what would have to be kept.
package memguard

import (
	"runtime"
	"runtime/metrics"
	"sync/atomic"
)

// The marks are percentages of the limit: from High on memory is short, and below Low it no longer is. The
// collector works harder the nearer the limit is (debug.SetMemoryLimit), so there must be room above the
// upper one.
const (
	High = 90
	Low  = 80
)

// sampleEvery is how far apart measurements are under load, in milliseconds; who is idle measures once a
// second. A publisher of 60 MB/s is 3 MB further by then.
const sampleEvery = 50

// collectEvery is the time between collections while memory is short, in milliseconds.
const collectEvery = 5000

// Guard knows whether memory is short. Its methods may be called from any goroutine. The zero value has no
// limit.
type Guard struct {
	// Set before use, then read-only:

	// Measure says what the process uses, in bytes; nil asks the Go runtime.
	Measure func() int64
	// Go runs a collection on a goroutine that somebody waits for.
	Go func(f func())

	// Atomic:
	short       atomic.Bool
	limit       atomic.Int64 // bytes; 0 none
	used        atomic.Int64 // bytes, as seen last
	at          atomic.Int64 // milliseconds of that
	collectedAt atomic.Int64 // milliseconds of the last collection that was asked for
	heap        atomic.Int64 // bytes of the heap's objects, garbage included
	heapMax     atomic.Int64 // the highest seen
}

// Numbers are what was seen last, in bytes.
type Numbers struct {
	Used, Limit   int64 // Limit 0: none
	Heap, HeapMax int64 // of the heap's objects, garbage included
	Short         bool
}

// Turn is a change that a sample has found.
type Turn uint8

// The turns.
const (
	Same   Turn = iota
	Short       // memory has become short
	Enough      // it no longer is
)

// SetLimit sets the limit in bytes; 0 is none.
func (g *Guard) SetLimit(n int64) { g.limit.Store(n) }

// Short reports whether memory is short.
func (g *Guard) Short() bool { return g.short.Load() }

// Numbers are what was seen last.
func (g *Guard) Numbers() Numbers {
	return Numbers{
		Used: g.used.Load(), Limit: g.limit.Load(),
		Heap: g.heap.Load(), HeapMax: g.heapMax.Load(), Short: g.short.Load(),
	}
}

// Due reports whether the caller is to sample under load, at a time in milliseconds: nobody has for some
// time, and there is a limit.
func (g *Guard) Due(now int64) bool {
	if g.limit.Load() == 0 {
		return false
	}
	last := g.at.Load()
	return now-last >= sampleEvery && g.at.CompareAndSwap(last, now)
}

// Sample measures and decides, at a time in milliseconds. The probe is the caller's own. While memory is
// short it has the collector run now and then: who refuses everything allocates little, so it would not
// run by itself, and what has been freed would not be seen.
func (g *Guard) Sample(p *Probe, now int64) (turn Turn) {
	used, objects := p.measure()
	if g.Measure != nil {
		used = g.Measure()
	}
	g.used.Store(used)
	g.heap.Store(objects)
	old := g.heapMax.Load()
	for objects > old && !g.heapMax.CompareAndSwap(old, objects) {
		old = g.heapMax.Load()
	}
	switch limit := g.limit.Load(); {
	case limit > 0 && used >= limit/100*High:
		if g.short.CompareAndSwap(false, true) {
			turn = Short
		}
	case limit == 0, used < limit/100*Low:
		if g.short.CompareAndSwap(true, false) {
			turn = Enough
		}
	}
	if g.short.Load() {
		last := g.collectedAt.Load()
		if now-last >= collectEvery && g.collectedAt.CompareAndSwap(last, now) {
			g.Go(runtime.GC)
		}
	}
	return turn
}

// Probe is what one goroutine measures with. The zero value is ready.
type Probe struct{ samples []metrics.Sample }

// What of the runtime's metrics makes up the process's memory: all of it, without what has gone back to the
// system and without the heap, plus what of the heap was in use after the last collection. Garbage that waits
// for the collector is no reason to refuse.
const (
	memTotal = iota
	memReleased
	memFree
	memUnused
	memObjects
	memLive
)

func memorySamples() []metrics.Sample {
	return []metrics.Sample{
		memTotal:    {Name: "/memory/classes/total:bytes"},
		memReleased: {Name: "/memory/classes/heap/released:bytes"},
		memFree:     {Name: "/memory/classes/heap/free:bytes"},
		memUnused:   {Name: "/memory/classes/heap/unused:bytes"},
		memObjects:  {Name: "/memory/classes/heap/objects:bytes"},
		memLive:     {Name: "/gc/heap/live:bytes"},
	}
}

// measure reads what the process uses and what the heap's objects take, garbage included, in bytes. It does
// not stop the world.
func (p *Probe) measure() (used, objects int64) {
	if p.samples == nil {
		p.samples = memorySamples()
	}
	metrics.Read(p.samples)
	v := func(i int) int64 { return int64(p.samples[i].Value.Uint64()) }
	used = v(memTotal) - v(memReleased) - v(memFree) - v(memUnused) - v(memObjects) + v(memLive)
	return used, v(memObjects)
}
