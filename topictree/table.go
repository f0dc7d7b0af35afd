package topictree

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// named is embedded in what a table holds. Set before it is published, then read-only.
type named struct {
	hash uint64
	name string
}

func (n *named) key() *named { return n }

// keyed is a pointer to what a table holds.
type keyed[T any] interface {
	*T
	key() *named
}

// table is an open-addressing hash table of pointers by name. Reads are lock-free; writes need the owner's
// mutex. The zero value is empty and owns no memory.
type table[T any, P keyed[T]] struct {
	slots atomic.Pointer[slots[T, P]]
	live  int32 // Guarded by the owner's mutex
	dead  int32 // Guarded by the owner's mutex: slots of removed values
}

// slots is one generation of a table; its length is a power of two.
type slots[T any, P keyed[T]] struct {
	at    []atomic.Pointer[T]
	grave *T // marks slots of removed values
}

// find looks a name up.
func (t *table[T, P]) find(hash uint64, name []byte) *T {
	s := t.slots.Load()
	if s == nil {
		return nil
	}
	mask := uint64(len(s.at) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		v := s.at[i].Load()
		if v == nil {
			return nil
		}
		if v == s.grave {
			continue
		}
		if k := P(v).key(); k.hash == hash && k.name == string(name) {
			return v
		}
	}
}

// insert adds a value whose name is not there yet.
func (t *table[T, P]) insert(v *T) {
	s := t.slots.Load()
	if s == nil || int(t.live+t.dead)*4 >= len(s.at)*3 {
		s = t.rebuild()
	}
	s.put(P(v).key().hash, v)
	t.live++
}

func (s *slots[T, P]) put(hash uint64, v *T) {
	mask := uint64(len(s.at) - 1)
	i := hash & mask
	for s.at[i].Load() != nil {
		i = (i + 1) & mask
	}
	s.at[i].Store(v)
}

// rebuild makes a fresh generation with room to grow, without graves.
func (t *table[T, P]) rebuild() *slots[T, P] {
	size := 4
	for size*5 < int(t.live+1)*8 {
		size *= 2
	}
	next := &slots[T, P]{at: make([]atomic.Pointer[T], size), grave: new(T)}
	t.each(func(v *T) {
		next.put(P(v).key().hash, v)
	})
	t.dead = 0
	t.slots.Store(next)
	return next
}

// remove takes a value out.
func (t *table[T, P]) remove(v *T) {
	s := t.slots.Load()
	hash := P(v).key().hash
	mask := uint64(len(s.at) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch s.at[i].Load() {
		case v:
			s.at[i].Store(s.grave)
			t.live--
			t.dead++
			if t.live == 0 {
				t.slots.Store(nil)
				t.dead = 0
			} else if int(t.live)*8 < len(s.at) && len(s.at) > 64 {
				t.rebuild()
			}
			return
		case nil:
			return
		}
	}
}

// each visits every value.
func (t *table[T, P]) each(f func(*T)) {
	s := t.slots.Load()
	if s == nil {
		return
	}
	for i := range s.at {
		if v := s.at[i].Load(); v != nil && v != s.grave {
			f(v)
		}
	}
}

// hasher hashes names with a seed of its own.
type hasher struct{ seed uint64 }

// sum is xxhash of the name, mixed with the seed so that nobody can prepare collisions of the table.
func (h hasher) sum(name []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(h.seed)
	_, _ = d.Write(name)
	return d.Sum64()
}
