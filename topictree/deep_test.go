package topictree

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// deep are shapes of paths of 200 levels, as few bytes as there can be, that have no level in common but
// those said.
var deep = map[string]func(i int) string{
	"literal":     func(i int) string { return fmt.Sprintf("%05d", i) + strings.Repeat("/a", 198) },
	"empty":       func(i int) string { return fmt.Sprintf("%05d", i) + strings.Repeat("/", 198) },
	"common":      func(i int) string { return strings.Repeat("a/", 198) + fmt.Sprintf("%05d", i) },
	"split often": func(i int) string { return splitter(i) },
	"binary":      func(i int) string { return forks(i) + strings.Repeat("/b", 187) },
}

// forks makes paths that part at each of their first 13 levels.
func forks(i int) string {
	path := fmt.Sprintf("%013b", i)
	return strings.Join(strings.Split(path, ""), "/")
}

// splitter is a path that leaves that of another one at another level each time.
func splitter(i int) string {
	return strings.Repeat("a/", i%190) + fmt.Sprintf("%05d", i) + strings.Repeat("/b", 198-i%190)
}

// heap is the bytes of heap that f leaves.
func heap(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// A filter or topic of 200 levels takes a small multiple of its bytes, whatever it looks like.
func TestBytesPerDeepPath(t *testing.T) {
	const n = 2000
	for name, path := range deep {
		for kind, suffix := range map[string]string{"#": "/#", "+": "/+", "plus": ""} {
			x := New(Options{})
			var size int64
			got := heap(func() {
				for i := range n {
					f := []byte(path(i) + suffix)
					if kind == "plus" { // every other level
						f = []byte(strings.ReplaceAll(path(i), "/a/a", "/+/a") + "/+")
					}
					size += int64(len(f))
					if _, err := x.Add(f, 0); err != nil {
						t.Fatal(err)
					}
				}
			})
			t.Logf("%s, %s: %d bytes a filter of %d", name, kind, got/n, size/n)
			if got > 3*size+400*n {
				t.Errorf("%s, %s: %d bytes a filter of %d", name, kind, got/n, size/n)
			}
			runtime.KeepAlive(x)
		}
		r := NewRetained[int](Options{})
		var size int64
		got := heap(func() {
			for i := range n {
				topic := []byte(path(i))
				size += int64(len(topic))
				if _, _, err := r.Set(topic, i); err != nil {
					t.Fatal(err)
				}
			}
		})
		t.Logf("%s: %d bytes a topic of %d", name, got/n, size/n)
		if got > 3*size+400*n {
			t.Errorf("%s: %d bytes a topic of %d", name, got/n, size/n)
		}
		runtime.KeepAlive(r)
	}
}

// deepWord makes a path that goes along with one of a few long ones, and leaves it somewhere or not: paths
// part and come together at every level.
func deepWord(rnd *rand.Rand, wild bool) string {
	levels := strings.Split([]string{
		"a/b/c/d/e/f/g/h/i/j", "a/b/c/d/x/f/g", "/////", "$S/b/c/d/e", "a//b//c//d", "long/longer/longest/long",
	}[rnd.IntN(6)], "/")
	levels = levels[:1+rnd.IntN(len(levels))]
	for range rnd.IntN(3) {
		odd := []string{"", "x", "ab", "+", "$", "lon"}[rnd.IntN(6)]
		if odd == "+" && !wild {
			odd = "y"
		}
		levels[rnd.IntN(len(levels))] = odd
	}
	if wild && rnd.IntN(4) == 0 {
		levels[len(levels)-1] = "#"
	}
	if s := strings.Join(levels, "/"); s != "" {
		return s
	}
	return "a"
}

// checkTrie checks what must hold of all nodes.
func checkTrie[V any](t *testing.T, h hasher, n *node[V]) {
	t.Helper()
	at, kids := n.below(), 0
	check := func(k *node[V]) {
		kids++
		if k.parent != n || n.parent != nil && !strings.HasPrefix(k.path, n.path+"/") {
			t.Fatalf("%q is below %q", k.path, n.path)
		}
		if n.child(h, at, []byte(firstLevel(k.path[at:]))) != k {
			t.Fatalf("%q is not found below %q", k.path, n.path)
		}
		checkTrie(t, h, k)
	}
	n.kids.each(check)
	if k := n.plus.Load(); k != nil {
		check(k)
	}
	holds := n.value.Load() != nil || n.single.Load() != nil || n.multi.Load() != nil
	if n.parent != nil && !holds && kids < 2 {
		t.Fatalf("%q has %d children and holds nothing", n.path, kids)
	}
}

// Paths are parted and joined by writers while others match and walk: what stays is found, once, with a
// value no older than the last that was set before.
func TestConcurrentPartsAndJoins(t *testing.T) {
	stay := []string{"a/b/c/d/e/f/g", "a/b/c", "a/b/c/d/x/y", "/////", "a//b//c"}
	x, r := New(Options{}), NewRetained[int64](Options{})
	var last [5]atomic.Int64
	for i, p := range stay {
		for _, f := range []string{p + "/#", p + "/+", strings.Replace(p, "/", "/+/", 1)} {
			if _, err := x.Add([]byte(f), 1); err != nil {
				t.Fatal(err)
			}
		}
		_, _, _ = r.Set([]byte(p), 0)
		last[i].Store(0)
	}
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 11))
			for n := range int64(15000) {
				f := []byte(deepWord(rnd, true) + fmt.Sprint("/w", w))
				id, err := x.Add(f, 2+w)
				if err != nil {
					continue // "#" is not at the end
				}
				topic := []byte(deepWord(rnd, false) + fmt.Sprint("/w", w))
				_, _, _ = r.Set(topic, n)
				if w == 0 {
					i := rnd.IntN(len(stay))
					_, _, _ = r.Set([]byte(stay[i]), n)
					last[i].Store(n)
				}
				x.Remove(id, 2+w)
				r.Delete(topic)
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			var ms Matches
			for !stop.Load() {
				for _, p := range stay {
					x.Match([]byte(p+"/z"), &ms)
					found := 0
					for _, h := range ms.Hits {
						if h.Loops&2 != 0 && strings.HasPrefix(x.Filter(h.ID), p+"/") {
							found++
						}
					}
					if found != 2 {
						t.Errorf("%s: %d of 2 filters that stay", p, found)
						return
					}
				}
				var before [5]int64
				for i := range before {
					before[i] = last[i].Load()
				}
				seen := map[string]int{}
				for c := r.Cursor([]byte("#")); !c.Next(3, func(topic string, v int64) {
					seen[topic]++
					for i, p := range stay {
						if p == topic && v < before[i] {
							t.Errorf("%s: %d after %d", p, v, before[i])
						}
					}
				}); {
					continue
				}
				for _, p := range stay {
					if seen[p] != 1 {
						t.Errorf("%s seen %d times", p, seen[p])
						return
					}
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	checkTrie(t, x.hash, &x.trie.root)
	checkTrie(t, r.hash, &r.root)
	if r.Len() != len(stay) {
		t.Errorf("%d topics left", r.Len())
	}
}

// A path that is taken out is joined again: churn leaves nothing, and a node keeps no long name alive.
func TestPartsAreJoinedAgain(t *testing.T) {
	x := New(Options{})
	if _, err := x.Add([]byte("a/b/c/d/+"), 0); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("z", 60000) + "/+"
	got := heap(func() {
		for i := range 1000 {
			at := 1 + 2*(i%4)
			id, err := x.Add([]byte("a/b/c/d"[:at]+long), 0)
			if err != nil {
				t.Fatal(err)
			}
			keep := fmt.Appendf(nil, "k/%d", i) // its node is made from the long one
			long, err := x.Add(append(keep, long...), 0)
			if err != nil {
				t.Fatal(err)
			}
			short, err := x.Add(append(keep, "/+"...), 0)
			if err != nil || short == long {
				t.Fatal(err)
			}
			x.Remove(id, 0)
			x.Remove(long, 0)
		}
	})
	if got > 1000*400 {
		t.Errorf("%d bytes are kept", got)
	}
	checkTrie(t, x.hash, &x.trie.root)
	if n := x.trie.root.kids.len(); n != 2 {
		t.Errorf("%d nodes below the root", n)
	}
}
