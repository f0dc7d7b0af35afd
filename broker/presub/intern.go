package presub

import (
	"runtime"
	"sync"
	"weak"

	"noctule/broker/behalf"
)

// interner keeps one set of each contents for as long as anybody else holds it, so that the cached lists of
// many clients with the same topics are one.
type interner struct {
	mu   sync.Mutex
	sets map[behalf.Key]weak.Pointer[behalf.Set]
}

func newInterner() *interner {
	return &interner{sets: make(map[behalf.Key]weak.Pointer[behalf.Set])}
}

// intern returns the one set with x's contents.
func (n *interner) intern(x *behalf.Set) *behalf.Set {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p, ok := n.sets[x.Key()]; ok {
		if have := p.Value(); have != nil {
			return have
		}
	}
	n.sets[x.Key()] = weak.Make(x)
	runtime.AddCleanup(x, n.forget, x.Key())
	return x
}

// forget drops the entry of a set that has been collected, unless there is a new one.
func (n *interner) forget(k behalf.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p, ok := n.sets[k]; ok && p.Value() == nil {
		delete(n.sets, k)
	}
}

// len is the number of different lists held.
func (n *interner) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.sets)
}
