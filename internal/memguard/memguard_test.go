package memguard

import (
	"sync"
	"testing"
)

// Memory is short from the upper mark on until it falls below the lower one, or the limit goes; the collector runs
// then, no more often than it may.
func TestGuard(t *testing.T) {
	used, collections := int64(0), 0
	g := Guard{Measure: func() int64 { return used }, Go: func(func()) { collections++ }}
	var p Probe
	g.SetLimit(1000)
	for i, x := range []struct {
		used, limit, now int64
		turn             Turn
		collections      int
	}{
		{used: 899, limit: 1000, now: 10000},
		{used: 900, limit: 1000, now: 10001, turn: Short, collections: 1},
		{used: 1200, limit: 1000, now: 10002, collections: 1},
		{used: 800, limit: 1000, now: 15000, collections: 1},
		{used: 800, limit: 1000, now: 15001, collections: 2},
		{used: 799, limit: 1000, now: 30000, turn: Enough, collections: 2},
		{used: 5000, limit: 1000, now: 30001, turn: Short, collections: 3},
		{used: 5000, limit: 0, now: 30002, turn: Enough, collections: 3},
		{used: 5000, limit: 0, now: 90000, collections: 3},
	} {
		used = x.used
		g.SetLimit(x.limit)
		was := g.Short()
		turn := g.Sample(&p, x.now)
		n := g.Numbers()
		if turn != x.turn || collections != x.collections || n.Used != x.used || n.Limit != x.limit ||
			n.Heap <= 0 || n.HeapMax < n.Heap || n.Short != g.Short() {
			t.Errorf("%d: turn %d, %d collections, %+v", i, turn, collections, n)
		}
		if g.Short() != (was && turn != Enough || turn == Short) {
			t.Errorf("%d: short %v after turn %d", i, g.Short(), turn)
		}
	}
}

// However many ask, one samples in a while, and nobody without a limit.
func TestDue(t *testing.T) {
	var g Guard
	if g.Due(1 << 40) {
		t.Error("due without a limit")
	}
	g.SetLimit(1)
	count := func(now int64) (n int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if g.Due(now) {
					mu.Lock()
					n++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return n
	}
	if n := count(1000); n != 1 {
		t.Errorf("%d of 8 are to sample at first", n)
	}
	if n := count(1000 + sampleEvery - 1); n != 0 {
		t.Errorf("%d are to sample too early", n)
	}
	if n := count(1000 + sampleEvery); n != 1 {
		t.Errorf("%d are to sample in time", n)
	}
}

// BenchmarkMeasure is what a limit costs, 20 times a second at most.
func BenchmarkMeasure(b *testing.B) {
	var p Probe
	for b.Loop() {
		p.measure()
	}
}
