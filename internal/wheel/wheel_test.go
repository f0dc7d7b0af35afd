package wheel

import (
	"math/rand/v2"
	"testing"
)

func TestFiresOnceAtItsTick(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := New[int](16)
	want := map[int]int64{}
	now, id := int64(1000), 0
	for range 5000 {
		for range rnd.IntN(4) {
			at := now - 2 + int64(rnd.IntN(60))
			w.Add(now, at, id)
			want[id] = max(at, now+1)
			id++
		}
		step := int64(rnd.IntN(3))
		if rnd.IntN(100) == 0 {
			step = int64(rnd.IntN(50))
		}
		now += step
		w.Advance(now, func(v int, _ int64) {
			due, ok := want[v]
			if !ok {
				t.Fatalf("seed %d: %d fired twice", seed, v)
			}
			if due > now {
				t.Fatalf("seed %d: %d fired at %d, due %d", seed, v, now, due)
			}
			delete(want, v)
		})
		for v, due := range want {
			if due <= now {
				t.Fatalf("seed %d: %d due %d not fired at %d", seed, v, due, now)
			}
		}
		if w.Len() != len(want) {
			t.Fatalf("seed %d: length %d, want %d", seed, w.Len(), len(want))
		}
	}
}

func TestFireMayAdd(t *testing.T) {
	w := New[int](8)
	w.Add(0, 1, 0)
	n := 0
	for now := int64(1); now <= 10; now++ {
		w.Advance(now, func(v int, at int64) {
			n++
			w.Add(now, at+1, v)
		})
	}
	if n != 10 {
		t.Errorf("fired %d times, want 10", n)
	}
}
