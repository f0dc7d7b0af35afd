package topictree

import (
	"fmt"
	"slices"
	"testing"
)

func TestEach(t *testing.T) {
	x := New(Options{})
	want := []string{"", "#", "+", "/", "a", "a/b", "a/+/c", "a/#", "+/b/+", "$SYS/#", "$SYS/x", "a/+"}
	for i := range 1000 {
		want = append(want, fmt.Sprintf("deep/%d/exact", i), fmt.Sprintf("deep/%d/+", i))
	}
	for _, f := range want {
		if _, err := x.Add([]byte(f), 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []string{"g", "h"} {
		for _, f := range []string{"a/b", "only/+/shared"} {
			if _, err := x.AddShared([]byte(g), []byte(f), 2); err != nil {
				t.Fatal(err)
			}
			want = append(want, "$share/"+g+"/"+f)
		}
	}
	gone, err := x.Add([]byte("gone/+"), 1)
	if err != nil {
		t.Fatal(err)
	}
	x.Remove(gone, 1)
	var got []string
	x.Each(func(id FilterID) bool {
		got = append(got, x.Filter(id))
		return true
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d filters, want %d: %.200q", len(got), len(want), got)
	}
	n := 0
	x.Each(func(FilterID) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("it went on to %d", n)
	}
}
