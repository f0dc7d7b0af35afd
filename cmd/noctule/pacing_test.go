package main

import "testing"

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 100, 1: 100, 4 << 20: 100, 5 << 20: 75, 8 << 20: 50, 10 << 20: 25, 16 << 20: 25, 64 << 20: 25, 1 << 40: 25,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d %%", live, got, want)
		}
	}
}
