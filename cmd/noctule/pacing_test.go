package main

import "testing"

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 400, 1: 400, 4 << 20: 400, 8 << 20: 200, 16 << 20: 100, 17 << 20: 75, 40 << 20: 25, 64 << 20: 25, 1 << 40: 25,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d %%", live, got, want)
		}
	}
}
