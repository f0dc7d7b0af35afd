package source

import (
	"runtime"
	"sync"
	"weak"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// held is what one client has of one source.
type held struct {
	source string
	who
}

// table finds what clients have that are connected, or have been a short while ago: who comes again goes on
// with it. It keeps nothing alive but the last ones.
type table[T any] struct {
	mu struct { // Guarded by mu:
		sync.Mutex
		all  map[held]weak.Pointer[T]
		last *simplelru.LRU[held, *T] // nil: none
	}
}

func newTable[T any](last int) *table[T] {
	t := &table[T]{}
	t.mu.all = make(map[held]weak.Pointer[T])
	if last > 0 {
		t.mu.last, _ = simplelru.NewLRU[held, *T](last, nil)
	}
	return t
}

// get is what a client has, made if need be; fresh says that it was.
func (t *table[T]) get(k held, build func() *T) (x *T, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x = t.mu.all[k].Value()
	if fresh = x == nil; fresh {
		x = build()
		t.mu.all[k] = weak.Make(x)
		runtime.AddCleanup(x, t.forget, k)
	}
	if t.mu.last != nil {
		t.mu.last.Add(k, x)
	}
	return x, fresh
}

// drop has something end with its client.
func (t *table[T]) drop(k held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.last != nil {
		t.mu.last.Remove(k)
	}
}

// forget takes out what nobody has any more.
func (t *table[T]) forget(k held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.mu.all[k]; ok && p.Value() == nil {
		delete(t.mu.all, k)
	}
}

// each calls f with what clients have; f must not come back here.
func (t *table[T]) each(f func(k held, x *T)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, p := range t.mu.all {
		if x := p.Value(); x != nil {
			f(k, x)
		}
	}
}

// len is how many there are.
func (t *table[T]) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.mu.all)
}
