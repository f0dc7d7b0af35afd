package auth_test

import (
	"maps"
	"testing"

	"noctule/broker/auth"
)

// Each client is looked at once, and each of its subscriptions after it; a step looks at a slice.
func TestReview(t *testing.T) {
	subs := map[string]int{"none": 0, "one": 1, "many": 2000}
	for i := range 600 {
		subs[string(rune('A'+i))] = 1
	}
	looked, covered := map[string]int{}, map[string]int{}
	steps, most, ends := 0, 0, 0
	r := auth.NewReview(maps.Keys(subs), func(c string) int {
		most++
		looked[c]++
		return subs[c]
	}, func(c string, from, to int) {
		if to-from > auth.ReviewSlice || looked[c] != 1 || to != subs[c]-covered[c] {
			t.Errorf("%s from %d to %d, %d done", c, from, to, covered[c])
		}
		covered[c] += to - from
		most += to - from
	}, func() { ends++ })
	for !r.Step() {
		if most > 2*auth.ReviewSlice {
			t.Fatalf("%d in one step", most)
		}
		most = 0
		steps++
	}
	for c, n := range subs {
		if looked[c] != 1 || covered[c] != n {
			t.Errorf("%s: %d times, %d of %d", c, looked[c], covered[c], n)
		}
	}
	r.End()
	if steps < 6 || ends != 1 || !r.Step() {
		t.Errorf("%d steps, %d ends", steps, ends)
	}
	given := auth.NewReview(maps.Keys(subs), func(string) int { return 5000 }, func(string, int, int) {}, nil)
	given.Step()
	given.End() // and nothing hangs on it
	if !given.Step() {
		t.Error("it goes on when it has been given up")
	}
	given = nil
	given.End()
}

// Clients have their turns one after the other; who is to be looked at anew keeps its place.
func TestUncovered(t *testing.T) {
	var u auth.Uncovered[string]
	if !u.Add("a", 1500) || u.Add("b", 600) {
		t.Error("who is first")
	}
	var got []string
	seen := map[string]int{}
	for u.Len() > 0 {
		c, from, to := u.Next()
		if got = append(got, c); to-from > auth.ReviewSlice {
			t.Errorf("%d at once", to-from)
		}
		if seen[c] += to - from; len(got) == 1 {
			u.Add("a", 1500) // it has got other rights
		}
	}
	if seen["a"] != 1500+auth.ReviewSlice || seen["b"] != 600 || len(got) != 1+3+2 || got[3] != "a" {
		t.Errorf("%v, in the order %v", seen, got)
	}
}
