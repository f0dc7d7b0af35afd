package lookup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCacheIsBounded in answers and in bytes; what was not asked for longest goes first, and it is told.
func TestCacheIsBounded(t *testing.T) {
	for _, tt := range []struct {
		max     int
		bytes   int64
		shared  bool
		holds   int
		evicted int
	}{
		{10, 1 << 20, false, 10, 90},
		{1000, 10 * (entryBytes + 1000), false, 10, 90},
		{1000, 1000 + 20*entryBytes, true, 20, 80}, // one answer for all counts once
		{1000, 1000, false, 0, 100},                // each is larger than all that may be held
	} {
		f, o := &fake{}, &outcomes{}
		l := over(t, f, 1, settings(func(s *Settings) {
			s.Cache.Max, s.Cache.MaxBytes, s.Cache.TTL = tt.max, tt.bytes, Duration(time.Hour)
		}), &Options[string]{Events: o.events(), Cost: func(string) (int, any) {
			if tt.shared {
				return 1000, "all"
			}
			return 1000, nil
		}})
		for i := range 100 {
			if _, err := l.Ask(t.Context(), ask(fmt.Sprint(i), 1)); err != nil {
				t.Fatal(err)
			}
			if n, bytes := l.Cached(); bytes > tt.bytes || n > tt.max {
				t.Fatalf("%+v: %d answers, %d bytes", tt, n, bytes)
			}
			_, _ = l.Ask(t.Context(), ask("0", 1)) // stays
		}
		n, bytes := l.Cached()
		if n != tt.holds || o.of("evicted") < tt.evicted || tt.holds > 0 && o.of("hit") != 100 || (n == 0) != (bytes == 0) {
			t.Errorf("%+v: %d answers, %d bytes, %v", tt, n, bytes, o.n)
		}
		l.Edit(func(string) (string, bool) { return "x", true })
		if m, after := l.Cached(); m != n || after != bytes {
			t.Errorf("%+v: edited to %d answers, %d bytes", tt, m, after)
		}
	}
}

// TestCacheAgrees has random answers of random size and looks whether what is counted is what is held.
func TestCacheAgrees(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	cost := func(a string) (int, any) {
		if strings.HasPrefix(a, "s") {
			return len(a), a
		}
		return len(a), nil
	}
	c := newCache(&Cache{TTL: Duration(time.Hour), Max: 50, MaxBytes: 20000}, true, cost, func() {})
	for range 5000 {
		k := Key{byte(r.IntN(80))}
		a := strings.Repeat([]string{"s", "o"}[r.IntN(2)], 1+r.IntN(5)*100)
		c.put(k, a)
		if x, _, ok := c.get(k); ok && x != a {
			t.Fatalf("seed %d: another answer", seed)
		}
		want, seen := int64(0), map[any]bool{}
		for _, k := range c.mu.lru.Keys() {
			x, _ := c.mu.lru.Peek(k)
			n, of := cost(x.answer)
			want += entryBytes
			if of == nil || !seen[of] {
				want += int64(n)
			}
			seen[of] = of != nil
		}
		if _, bytes := c.size(); bytes != want || bytes > 20000 || len(c.mu.shared) > len(seen) {
			t.Fatalf("seed %d: %d bytes counted, %d held", seed, bytes, want)
		}
	}
}

// TestLast: without a TTL nothing is fresh, but the last answer is there for who may use it, as long as stale says.
func TestLast(t *testing.T) {
	for _, last := range []bool{true, false} {
		for _, ttl := range []time.Duration{0, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{uses: []int{1}}
				l := over(t, f, 1, settings(func(s *Settings) {
					s.Cache.TTL, s.Cache.Stale = Duration(ttl), Duration(time.Hour)
				}), &Options[string]{Last: last})
				if _, ok := l.Last(ask("c", 1)); ok {
					t.Error("an answer from nowhere")
				}
				_, _ = l.Ask(t.Context(), ask("c", 1))
				_, _ = l.Ask(t.Context(), ask("d", 1))
				if n := f.calls.Load(); (n == 1) != (ttl > 0) {
					t.Errorf("ttl %v: asked %d times", ttl, n)
				}
				f.answer = func(context.Context, *Question) (string, error) { return "", errors.New("down") }
				time.Sleep(ttl + 10*time.Minute) // of the bubble
				if _, err := l.Ask(t.Context(), ask("e", 1)); err == nil {
					t.Error("fresh after its time")
				}
				if a, ok := l.Last(ask("f", 1)); ok != last || ok && a == "" {
					t.Errorf("last %v, ttl %v: %q, %v", last, ttl, a, ok)
				}
				if n, _ := l.Cached(); !last && ttl == 0 && n > 0 {
					t.Errorf("%d kept for nobody", n)
				}
				time.Sleep(time.Hour) // of the bubble
				if a, ok := l.Last(ask("f", 1)); ok {
					t.Errorf("%q after its time", a)
				}
				if n, bytes := l.Cached(); n != 0 || bytes != 0 {
					t.Errorf("%d answers, %d bytes after their time", n, bytes)
				}
			})
		}
	}
}

// TestEntryBytes compares what an answer is counted as with what it takes.
func TestEntryBytes(t *testing.T) {
	const n = 50000
	c := newCache[*int](&Cache{TTL: Duration(time.Hour), Max: n, MaxBytes: 1 << 40}, true, nil, func() {})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range n {
		c.put(keyOf([]string{fmt.Sprint(i)}, []int{0}, nil), nil)
	}
	took := (heap() - before) / n
	if took > entryBytes || took < entryBytes/3 {
		t.Errorf("%d bytes a cached answer, counted as %d", took, entryBytes)
	}
	runtime.KeepAlive(c)
}
