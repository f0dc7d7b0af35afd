package ring

import (
	"math/rand/v2"
	"testing"
)

func TestRingAgainstSlice(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var r Ring[int]
	var model []int
	for i := range 100000 {
		if rnd.IntN(100) < 50+10*(i/20000%2*2-1) {
			if i%5 == 0 {
				r.PushFront(i)
				model = append([]int{i}, model...)
			} else {
				r.Push(i)
				model = append(model, i)
			}
		} else if last := len(model) - 1; last >= 0 && i%7 == 0 {
			if got := r.PopLast(); got != model[last] {
				t.Fatalf("step %d: popped %d, want %d", i, got, model[last])
			}
			model = model[:last]
		} else if len(model) > 0 {
			if got := r.Pop(); got != model[0] {
				t.Fatalf("step %d: popped %d, want %d", i, got, model[0])
			}
			model = model[1:]
		}
		if r.Len() != len(model) {
			t.Fatalf("step %d: length %d, want %d", i, r.Len(), len(model))
		}
		if len(model) > 0 {
			k := rnd.IntN(len(model))
			if *r.At(k) != model[k] {
				t.Fatalf("step %d: at %d is %d, want %d", i, k, *r.At(k), model[k])
			}
		}
	}
}

func TestRingClearsPoppedSlots(t *testing.T) {
	var r Ring[*int]
	for range 4 {
		r.Push(new(int))
	}
	for range 4 {
		r.Pop()
	}
	for i, p := range r.buf {
		if p != nil {
			t.Errorf("slot %d still holds its value", i)
		}
	}
}

func TestRingGivesBigBufferBack(t *testing.T) {
	var r Ring[int]
	for i := range 1000 {
		r.Push(i)
	}
	for r.Len() > 0 {
		r.Pop()
	}
	if r.buf != nil {
		t.Errorf("empty ring holds %d slots", len(r.buf))
	}
}
