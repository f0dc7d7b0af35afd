package topictree

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// Share groups of one filter come and go: the set agrees with a map, across the size from which it has one.
func TestModelSharesOfOneFilter(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	x := New(Options{})
	want := map[string]int{} // members
	filter := []byte("a/+")
	var ms Matches
	for step := range 20000 {
		group := fmt.Sprint(rnd.IntN(1 + step%3000/20)) // more and more, again and again
		id, ok := x.LookupShared([]byte(group), filter)
		if ok != (want[group] > 0) {
			t.Fatalf("seed %d step %d: lookup %s: %v", seed, step, group, ok)
		}
		if rnd.IntN(5) < 3 != (step%6000 > 3000) {
			if _, err := x.AddShared([]byte(group), filter, 3); err != nil {
				t.Fatal(err)
			}
			want[group]++
		} else if ok {
			x.RemoveShared(id)
			if want[group]--; want[group] == 0 {
				delete(want, group)
			}
		}
		if _, n := x.Len(); n != len(want) {
			t.Fatalf("seed %d step %d: %d shares, want %d", seed, step, n, len(want))
		}
		if step%50 > 0 {
			continue
		}
		x.Match([]byte("a/b"), &ms)
		if len(ms.Hits) != len(want) {
			t.Fatalf("seed %d step %d: %d hits, want %d", seed, step, len(ms.Hits), len(want))
		}
		for _, h := range ms.Hits {
			name := x.Filter(h.ID)
			g := name[len("$share/") : len(name)-len("/a/+")]
			if want[g] == 0 || h.Loops != 1<<3 || !h.Shared {
				t.Fatalf("seed %d step %d: hit %+v of %s", seed, step, h, g)
			}
		}
	}
	for g, n := range want {
		id, _ := x.LookupShared([]byte(g), filter)
		for range n {
			x.RemoveShared(id)
		}
	}
	if f, n := x.Len(); f != 0 || n != 0 {
		t.Errorf("%d filters and %d shares are left", f, n)
	}
}

// While groups come and go, readers find those that stay, each once, and never one without a home.
func TestConcurrentReadersOfShares(t *testing.T) {
	x := New(Options{})
	filter := []byte("a")
	for i := range 20 {
		if _, err := x.AddShared(fmt.Append(nil, "stay", i), filter, 5); err != nil {
			t.Fatal(err)
		}
	}
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 7))
			for range 3000 {
				var ids []FilterID
				for i := range 1 + rnd.IntN(20) {
					id, err := x.AddShared(fmt.Append(nil, "go", w, i), filter, 1)
					if err != nil {
						t.Error(err)
						return
					}
					ids = append(ids, id)
				}
				for _, id := range ids {
					x.RemoveShared(id)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			var ms Matches
			for !stop.Load() {
				x.Match(filter, &ms)
				stay := 0
				for _, h := range ms.Hits {
					switch h.Loops {
					case 1 << 5:
						stay++
					case 1 << 1:
					default:
						t.Errorf("home %b", h.Loops)
						return
					}
				}
				if stay != 20 {
					t.Errorf("%d of 20 groups that stay", stay)
					return
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
}

// A filter with very many share groups is matched with one growth of the result, which is given back after
// each such match.
func TestManyGroupsGrowOnce(t *testing.T) {
	x := New(Options{})
	const groups = 5000
	for i := range groups {
		if _, err := x.AddShared(fmt.Append(nil, i), []byte("a/b"), 1); err != nil {
			t.Fatal(err)
		}
	}
	topic := []byte("a/b")
	var ms Matches
	if n := testing.AllocsPerRun(10, func() {
		x.Match(topic, &ms)
		if len(ms.Hits) != groups {
			t.Fatalf("%d hits", len(ms.Hits))
		}
		ms.Trim()
	}); n > 2 { // growing makes two in instrumented builds; by doubling there were 19
		t.Errorf("%v allocations, want 1 or 2", n)
	}
}
