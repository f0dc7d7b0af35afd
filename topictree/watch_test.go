package topictree

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestWatchAgainstModel: what the calls have said last of each filter is what has subscribers, whenever the watcher
// came, while several loops add and remove at once.
func TestWatchAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	x := New(Options{})
	var mu sync.Mutex
	said := map[string]bool{}
	var loops sync.WaitGroup
	have := make([]map[string]FilterID, 4)
	churn := func(loop, steps int, rnd *rand.Rand) {
		for range steps {
			name := fmt.Sprintf("a/%d", rnd.IntN(20))
			if rnd.IntN(2) == 0 {
				name += "/#"
			}
			shared := rnd.IntN(3) == 0
			key := name
			if shared {
				key = "$share/g/" + name
			}
			id, ok := have[loop][key]
			switch {
			case ok && shared:
				x.RemoveShared(id)
				delete(have[loop], key)
			case ok:
				x.Remove(id, loop)
				delete(have[loop], key)
			case shared:
				have[loop][key], _ = x.AddShared([]byte("g"), []byte(name), 0)
			default:
				have[loop][key], _ = x.Add([]byte(name), loop)
			}
		}
	}
	for loop := range have {
		have[loop] = map[string]FilterID{}
		churn(loop, 50, rand.New(rand.NewPCG(seed, uint64(loop))))
	}
	for loop := range have {
		loops.Go(func() { churn(loop, 3000, rand.New(rand.NewPCG(seed+1, uint64(loop)))) })
	}
	stop := x.Watch(func(filter string, wanted bool) {
		mu.Lock()
		defer mu.Unlock()
		said[filter] = wanted
	})
	loops.Wait()
	want := map[string]bool{}
	for _, m := range have {
		for name := range m {
			want[name] = true
		}
	}
	for name, on := range said {
		if on != want[name] {
			t.Errorf("%s: said %v, is %v", name, on, want[name])
		}
	}
	for name := range want {
		if !said[name] {
			t.Errorf("%s was not said", name)
		}
	}
	stop()
	clear(said)
	churn(0, 100, rand.New(rand.NewPCG(seed, 9)))
	if len(said) > 0 {
		t.Errorf("after stop %v", said)
	}
}
