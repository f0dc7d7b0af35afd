package topictree

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestMatchFilter(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/c", false},
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"+", "a", true},
		{"+", "a/b", false},
		{"+/+", "/a", true},
		{"/+", "/a", true},
		{"+", "/a", false},
		{"a/+/c", "a//c", true},
		{"a/+", "a", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"a", "a/", false},
		{"a/", "a/", true},
	}
	for _, tt := range tests {
		if got := MatchFilter([]byte(tt.filter), []byte(tt.topic)); got != tt.want {
			t.Errorf("%q, %q: %v", tt.filter, tt.topic, got)
		}
	}
}

// word makes a random path over a small alphabet, so that overlaps are frequent.
func word(rnd *rand.Rand, wild bool) string {
	n := 1 + rnd.IntN(4)
	parts := make([]string, 0, n)
	for i := range n {
		switch k := rnd.IntN(10); {
		case wild && k == 0 && i == n-1:
			parts = append(parts, "#")
		case wild && k < 3:
			parts = append(parts, "+")
		case k == 9:
			parts = append(parts, "")
		case i == 0 && k == 8:
			parts = append(parts, "$SYS")
		default:
			parts = append(parts, string(rune('a'+rnd.IntN(4))))
		}
	}
	if s := strings.Join(parts, "/"); s != "" {
		return s
	}
	return "a"
}

// model is the naive index.
type model struct {
	loops  map[string]uint64
	shares map[string]int // "group filter"
}

func (m *model) match(topic string) []string {
	var out []string
	for f, loops := range m.loops {
		if loops != 0 && MatchFilter([]byte(f), []byte(topic)) {
			out = append(out, fmt.Sprintf("%s=%x", f, loops))
		}
	}
	for k, n := range m.shares {
		g, f, _ := strings.Cut(k, " ")
		if n > 0 && MatchFilter([]byte(f), []byte(topic)) {
			out = append(out, fmt.Sprintf("$share/%s/%s=%x", g, f, 1<<home(k)))
		}
	}
	sort.Strings(out)
	return out
}

func home(k string) int { return len(k) % 5 }

func TestModelIndexAgreesWithNaiveMatcher(t *testing.T) {
	steps := 12000
	if testing.Short() {
		steps = 3000
	}
	t.Run("short", func(t *testing.T) { modelIndex(t, steps, word) })
	t.Run("deep", func(t *testing.T) { modelIndex(t, steps, deepWord) })
}

func modelIndex(t *testing.T, steps int, word func(rnd *rand.Rand, wild bool) string) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	x := New(Options{})
	m := model{loops: map[string]uint64{}, shares: map[string]int{}}
	var ms Matches
	for step := range steps {
		f := word(rnd, true)
		loop := rnd.IntN(3)
		group := string(rune('g' + rnd.IntN(2)))
		k := group + " " + f
		switch rnd.IntN(6) {
		case 0, 1:
			if _, err := x.Add([]byte(f), loop); err != nil {
				t.Fatal(err)
			}
			m.loops[f] |= 1 << loop
		case 2, 3:
			if id, ok := x.Lookup([]byte(f)); ok != (m.loops[f] != 0) {
				t.Fatalf("seed %d step %d: lookup %q: %v", seed, step, f, ok)
			} else if ok {
				x.Remove(id, loop)
				m.loops[f] &^= 1 << loop
			}
		case 4:
			if _, err := x.AddShared([]byte(group), []byte(f), home(k)); err != nil {
				t.Fatal(err)
			}
			m.shares[k]++
		default:
			if id, ok := x.LookupShared([]byte(group), []byte(f)); ok != (m.shares[k] > 0) {
				t.Fatalf("seed %d step %d: shared lookup %q: %v", seed, step, k, ok)
			} else if ok {
				x.RemoveShared(id)
				m.shares[k]--
			}
		}
		topic := word(rnd, false)
		x.Match([]byte(topic), &ms)
		var got []string
		for _, h := range ms.Hits {
			got = append(got, fmt.Sprintf("%s=%x", x.Filter(h.ID), h.Loops))
		}
		sort.Strings(got)
		if want := m.match(topic); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("seed %d step %d: topic %q\ngot  %v\nwant %v", seed, step, topic, got, want)
		}
		n := len(ms.Hits)
		for x.Start([]byte(topic), &ms); !x.More([]byte(topic), &ms, 1); {
			continue
		}
		if len(ms.Hits) != n {
			t.Fatalf("seed %d step %d: topic %q: %d hits in pieces, want %d", seed, step, topic, len(ms.Hits), n)
		}
		if step%100 == 0 {
			checkTrie(t, x.hash, &x.trie.root)
		}
	}
}

// TestConcurrentReadersAndWriters: filters that are there all the time are always found, others never
// wrongly.
func TestConcurrentReadersAndWriters(t *testing.T) {
	x := New(Options{})
	for i := range 100 {
		for _, f := range []string{fmt.Sprintf("stay/%d", i), fmt.Sprintf("stay/%d/#", i)} {
			if _, err := x.Add([]byte(f), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 7))
			for range 8000 {
				f := fmt.Appendf(nil, "%s/%d", []string{"go", "stay", "+"}[rnd.IntN(3)], 200+rnd.IntN(50))
				id, err := x.Add(f, 2+w)
				if err != nil {
					t.Error(err)
					return
				}
				x.Remove(id, 2+w)
			}
		})
	}
	for r := range 2 {
		readers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 9))
			var ms Matches
			for !stop.Load() {
				topic := fmt.Appendf(nil, "stay/%d", rnd.IntN(100))
				x.Match(topic, &ms)
				found := 0
				for _, h := range ms.Hits {
					if !MatchFilter([]byte(x.Filter(h.ID)), topic) {
						t.Errorf("%s matched %s", x.Filter(h.ID), topic)
					}
					if h.Loops&2 != 0 {
						found++
					}
				}
				if found != 2 {
					t.Errorf("%s: found %d of 2 filters that stay", topic, found)
					return
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if n, _ := x.Len(); n != 200 {
		t.Errorf("%d filters left, want 200", n)
	}
}

func TestLimits(t *testing.T) {
	x := New(Options{MaxCount: 1, MaxBytes: 600})
	if _, err := x.Add([]byte(strings.Repeat("/", 201)), 0); err != ErrTooDeep {
		t.Errorf("201 slashes: %v", err)
	}
	if _, err := x.Add([]byte(strings.Repeat("a", 601)), 0); err != ErrTooLong {
		t.Errorf("601 bytes: %v", err)
	}
	if _, err := x.Add([]byte("a"), 0); err != nil {
		t.Error(err)
	}
	if _, err := x.Add([]byte("b"), 0); err != ErrFull {
		t.Errorf("second filter: %v", err)
	}
}

// TestAdversarialFilters: a topic of 200 levels against all mixes of + and a literal visits no more nodes
// than there are.
func TestAdversarialFilters(t *testing.T) {
	x := New(Options{})
	for i := range 201 {
		parts := make([]string, 201)
		for j := range parts {
			parts[j] = "+"
			if j == i {
				parts[j] = "a"
			}
		}
		if _, err := x.Add([]byte(strings.Join(parts, "/")), 0); err != nil {
			t.Fatal(err)
		}
	}
	topic := []byte(strings.TrimSuffix(strings.Repeat("a/", 201), "/"))
	var ms Matches
	x.Match(topic, &ms)
	if len(ms.Hits) != 201 {
		t.Errorf("%d hits", len(ms.Hits))
	}
	if cap(ms.todo) > 512 {
		t.Errorf("room for %d nodes", cap(ms.todo))
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x := New(Options{})
	for i := range 1000 {
		_, _ = x.Add(fmt.Appendf(nil, "dev/%d/+", i), 0)
		_, _ = x.Add(fmt.Appendf(nil, "dev/%d/state", i), 0)
	}
	var ms Matches
	topic := []byte("dev/500/state")
	x.Match(topic, &ms)
	if n := testing.AllocsPerRun(1000, func() { x.Match(topic, &ms) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if len(ms.Hits) != 2 {
		t.Errorf("%d hits", len(ms.Hits))
	}
}

// fill adds n filters and returns the bytes of heap that each takes.
func fill(x *Index, n int, format string) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		_, _ = x.Add(fmt.Appendf(nil, format, i), 0)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
}

func TestBytesPerFilter(t *testing.T) {
	for format, budget := range map[string]float64{"site/%06d/state": 110, "site/%06d/+": 160} {
		x := New(Options{})
		if b := fill(x, 100000, format); b > budget {
			t.Errorf("%s: %.0f bytes a filter, budget %.0f", format, b, budget)
		}
		runtime.KeepAlive(x)
	}
}

func TestChurnKeepsMemoryFlat(t *testing.T) {
	x := New(Options{})
	for i := range 200000 {
		id, err := x.Add(fmt.Appendf(nil, "c/%d/+", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		x.Remove(id, 0)
	}
	if n, _ := x.Len(); n != 0 || x.trie.root.kids.len() != 0 {
		t.Errorf("%d filters and %d nodes left", n, x.trie.root.kids.len())
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("#", "$SYS/x")
	f.Add("/+", "/")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if !valid(filter) || topic == "" || strings.ContainsAny(topic, "+#") || strings.Count(topic, "/") > 200 {
			return
		}
		x := New(Options{})
		if _, err := x.Add([]byte(filter), 3); err != nil {
			return
		}
		var ms Matches
		x.Match([]byte(topic), &ms)
		if got, want := len(ms.Hits) == 1, MatchFilter([]byte(filter), []byte(topic)); got != want {
			t.Errorf("filter %q, topic %q: index %v, definition %v", filter, topic, got, want)
		}
	})
}

// valid is the wildcard rule of filters.
func valid(filter string) bool {
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) || strings.Contains(l, "+") && l != "+" {
			return false
		}
	}
	return filter != ""
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1000, 1000000} {
		for name, format := range map[string]string{"exact": "site/%06d/state", "wildcard": "site/%06d/+"} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				x := New(Options{})
				bytes := fill(x, n, format)
				topics := make([][]byte, 4096)
				for i := range topics {
					topics[i] = fmt.Appendf(nil, "site/%06d/state", rand.IntN(n))
				}
				var ms Matches
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					x.Match(topics[i&4095], &ms)
					i++
				}
				b.ReportMetric(bytes, "bytes/filter")
			})
		}
	}
}
