package topictree

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
)

func TestModelRetainedAgreesWithNaiveMatcher(t *testing.T) {
	t.Run("short", func(t *testing.T) { modelRetained(t, word) })
	t.Run("deep", func(t *testing.T) { modelRetained(t, deepWord) })
}

func modelRetained(t *testing.T, word func(rnd *rand.Rand, wild bool) string) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := NewRetained[int](Options{})
	m := map[string]int{}
	for step := range 8000 {
		topic := word(rnd, false)
		if rnd.IntN(3) > 0 {
			old, was, err := r.Set([]byte(topic), step)
			if want, ok := m[topic]; err != nil || was != ok || old != want {
				t.Fatalf("seed %d step %d: set %q: %d %v %v", seed, step, topic, old, was, err)
			}
			m[topic] = step
		} else {
			_, was := r.Delete([]byte(topic))
			if _, ok := m[topic]; was != ok {
				t.Fatalf("seed %d step %d: delete %q: %v", seed, step, topic, was)
			}
			delete(m, topic)
		}
		if v, ok := r.Get([]byte(topic)); ok != (m[topic] != 0) && step > 0 || ok && v != m[topic] {
			t.Fatalf("seed %d step %d: get %q: %d %v", seed, step, topic, v, ok)
		}
		if r.Len() != len(m) {
			t.Fatalf("seed %d step %d: length %d, want %d", seed, step, r.Len(), len(m))
		}
		if step%20 > 0 {
			continue
		}
		checkTrie(t, r.hash, &r.root)
		filter := word(rnd, true)
		var got, want []string
		c := r.Cursor([]byte(filter))
		for !c.Next(1+rnd.IntN(5), func(topic string, v int) { got = append(got, fmt.Sprint(topic, "=", v)) }) {
			continue
		}
		for k, v := range m {
			if MatchFilter([]byte(filter), []byte(k)) {
				want = append(want, fmt.Sprint(k, "=", v))
			}
		}
		sort.Strings(got)
		sort.Strings(want)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("seed %d step %d: filter %q\ngot  %v\nwant %v", seed, step, filter, got, want)
		}
	}
}

// While a walk is under way, paths are parted and joined again around it: what stays is seen once, with the
// value that it has by then, and what has gone is not.
func TestModelCursorWhileTheTreeChanges(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 300 {
		r := NewRetained[int](Options{})
		values, touched := map[string]int{}, map[string]bool{}
		for range 60 {
			topic := deepWord(rnd, false)
			values[topic] = rnd.Int()
			_, _, _ = r.Set([]byte(topic), values[topic])
		}
		filter := deepWord(rnd, true)
		if round%3 == 0 {
			filter = "#"
		}
		seen := map[string]int{}
		c := r.Cursor([]byte(filter))
		for !c.Next(1, func(topic string, v int) {
			seen[topic]++
			if want, ok := values[topic]; !ok || v != want {
				t.Fatalf("seed %d round %d: %q has %d, want %d %v", seed, round, topic, v, want, ok)
			}
		}) {
			topic := deepWord(rnd, false)
			if _, ok := values[topic]; ok && rnd.IntN(2) == 0 {
				values[topic] = rnd.Int() // it stays
				_, _, _ = r.Set([]byte(topic), values[topic])
				continue
			}
			touched[topic] = true
			if rnd.IntN(2) == 0 {
				r.Delete([]byte(topic))
				delete(values, topic)
			} else {
				values[topic] = rnd.Int()
				_, _, _ = r.Set([]byte(topic), values[topic])
			}
		}
		for topic := range values {
			if !touched[topic] && MatchFilter([]byte(filter), []byte(topic)) != (seen[topic] == 1) {
				t.Fatalf("seed %d round %d: %q seen %d times for %q", seed, round, topic, seen[topic], filter)
			}
		}
	}
}

// TestCursorSeesWhatStays: topics that are there all the time are seen exactly once while others come and
// go.
func TestCursorSeesWhatStays(t *testing.T) {
	r := NewRetained[int](Options{})
	for i := range 1000 {
		_, _, _ = r.Set(fmt.Appendf(nil, "t/%d/stay", i), i)
	}
	seen := map[string]int{}
	c := r.Cursor([]byte("t/#"))
	for i := 0; !c.Next(10, func(topic string, _ int) {
		if strings.HasSuffix(topic, "stay") {
			seen[topic]++
		}
	}); i++ {
		_, _, _ = r.Set(fmt.Appendf(nil, "t/%d/come", i*7), 1)
		r.Delete(fmt.Appendf(nil, "t/%d/come", i*3))
		_, _, _ = r.Set(fmt.Appendf(nil, "t/new%d", i), 1)
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000 topics seen", len(seen))
	}
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s seen %d times", k, n)
		}
	}
}

func TestDeleteIf(t *testing.T) {
	r := NewRetained[int](Options{})
	_, _, _ = r.Set([]byte("a"), 1)
	if r.DeleteIf([]byte("a"), func(v int) bool { return v == 2 }) || r.Len() != 1 {
		t.Error("deleted although the condition is false")
	}
	if !r.DeleteIf([]byte("a"), func(v int) bool { return v == 1 }) || r.Len() != 0 {
		t.Error("not deleted")
	}
}
