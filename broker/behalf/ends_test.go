package behalf

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"noctule/codec/im"
)

// TestEndsCostNothing: a set in which nothing ends is as large as it was before anything could.
func TestEndsCostNothing(t *testing.T) {
	if a, b := unsafe.Sizeof(Set{}), unsafe.Sizeof(Topic{}); a > 48 || b > 24 {
		t.Errorf("a set has %d bytes, a topic %d", a, b)
	}
	x := set("a", "b")
	if x.Ends() != nil || x.After(1<<60) != x || x.FirstEnd() != 0 || x.LastEnd() != 0 || x.EndOf("a") != 0 {
		t.Error("something ends")
	}
	if y := NewEndingSet([]Topic{{Filter: "b", QoS: 1}, {Filter: "a", QoS: 1}}, []int64{0, 0}); y.Key() != x.Key() || y.Ends() != nil {
		t.Error("a set in which nothing ends is another")
	}
}

// TestEndsAgainstMap makes random sets in which topics end, and holds each operation against a map. Keys are the
// contents, ends included.
func TestEndsAgainstMap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	random := func() (*Set, map[string]int64) {
		m := map[string]int64{}
		var list []Topic
		var ends []int64
		for range rnd.IntN(8) {
			x := Topic{Filter: fmt.Sprint(rnd.IntN(6)), QoS: uint8(rnd.IntN(2))}
			at := max(0, rnd.Int64N(5)-1)
			list, ends = append(list, x), append(ends, at)
			m[x.Filter] = at
		}
		return NewEndingSet(list, ends), m
	}
	same := func(what string, x *Set, m map[string]int64) {
		t.Helper()
		got, first, last := map[string]int64{}, int64(0), int64(0)
		for i, topic := range x.Topics() {
			at := x.End(i)
			if got[topic.Filter] = at; at != x.EndOf(topic.Filter) {
				t.Fatalf("seed %d: %s: %d and %d", seed, what, at, x.EndOf(topic.Filter))
			}
			if at != 0 && (first == 0 || at < first) {
				first = at
			}
			last = max(last, at)
		}
		if slices.Contains(x.Ends(), 0) || x.Len() == 0 {
			last = 0
		}
		if !maps.Equal(got, m) || first != x.FirstEnd() || last != x.LastEnd() || !slices.IsSortedFunc(x.Topics(), byFilter) {
			t.Fatalf("seed %d: %s is %v %v, want %v", seed, what, x.Topics(), x.Ends(), m)
		}
		again := NewEndingSet(slices.Clone(x.Topics()), slices.Clone(x.Ends()))
		if again.Key() != x.Key() && x.Len() > 0 {
			t.Fatalf("seed %d: %s has not the key of its contents", seed, what)
		}
	}
	for range 2000 {
		a, am := random()
		b, bm := random()
		same("set", a, am)
		union, less, after, mounted := maps.Clone(am), maps.Clone(am), maps.Clone(am), map[string]int64{}
		maps.Copy(union, bm)
		same("union", a.With(b), union)
		maps.DeleteFunc(less, func(f string, _ int64) bool { _, ok := bm[f]; return ok })
		same("difference", a.Without(b), less)
		now := rnd.Int64N(5)
		maps.DeleteFunc(after, func(_ string, at int64) bool { return at != 0 && at <= now })
		same("what is left", a.After(now), after)
		for f, at := range am {
			mounted["m/"+f] = at
		}
		same("mounted", a.Mounted("m/"), mounted)
		same("capped", a.Capped(0), am)
		if a.Len() > 0 && b.Len() > 0 && (a.Key() == b.Key()) != (slices.Equal(a.Topics(), b.Topics()) && slices.Equal(a.Ends(), b.Ends())) {
			t.Fatalf("seed %d: keys of %v %v and %v %v", seed, a.Topics(), a.Ends(), b.Topics(), b.Ends())
		}
		terms := Terms{Room: -1, MaxQoS: 1, Mount: "m/"}
		p := NewPlan(a.Capped(1).Mounted("m/"), im.Subscribe, b, &terms)
		for f, at := range union {
			if p.Want.EndOf("m/"+f) != at {
				t.Fatalf("seed %d: %s ends at %d, want %d", seed, f, p.Want.EndOf("m/"+f), at)
			}
		}
		same("first", a, am)
		same("second", b, bm)
	}
}
