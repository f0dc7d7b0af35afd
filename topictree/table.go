package topictree

import (
	"hash/maphash"
	"sync/atomic"
)

// named is a pointer to what a table holds. Its name is set before it is published, then read-only.
type named[T any] interface {
	*T
	key() string
	sum(h hasher) uint64 // hash of key
}

// table is an open-addressing hash table of pointers by name. Reads are lock-free; writes need the owner's
// mutex. The zero value is empty and owns no memory.
type table[T any, P named[T]] struct {
	slots atomic.Pointer[slots[T, P]]
}

// slots is one generation of a table; its length is a power of two.
type slots[T any, P named[T]] struct {
	at    []atomic.Pointer[T]
	grave atomic.Pointer[T] // marks slots of removed values; nil until there is one
	live  int32             // Guarded by the owner's mutex
	dead  int32             // Guarded by the owner's mutex: slots of removed values
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
		if P(v).key() == string(name) && v != s.grave.Load() {
			return v
		}
	}
}

// insert adds a value whose name is not there yet.
func (t *table[T, P]) insert(h hasher, v *T) {
	s := t.slots.Load()
	if s == nil || int(s.live+s.dead+1)*4 > len(s.at)*3 {
		s = t.rebuild(h)
	}
	s.put(P(v).sum(h), v)
	s.live++
}

func (s *slots[T, P]) put(hash uint64, v *T) {
	mask := uint64(len(s.at) - 1)
	i := hash & mask
	for s.at[i].Load() != nil {
		i = (i + 1) & mask
	}
	s.at[i].Store(v)
}

// rebuild makes a fresh generation with room for one value more, without graves.
func (t *table[T, P]) rebuild(h hasher) *slots[T, P] {
	next := &slots[T, P]{live: t.len()}
	size := 2
	for size*5 < int(next.live+1)*8 {
		size *= 2
	}
	next.at = make([]atomic.Pointer[T], size)
	t.each(func(v *T) { next.put(P(v).sum(h), v) })
	t.slots.Store(next)
	return next
}

// remove takes a value out.
func (t *table[T, P]) remove(h hasher, v *T) {
	s := t.slots.Load()
	if s == nil {
		return
	}
	mask := uint64(len(s.at) - 1)
	for i := P(v).sum(h) & mask; ; i = (i + 1) & mask {
		switch s.at[i].Load() {
		case v:
			if s.live--; s.live == 0 {
				t.slots.Store(nil)
				return
			}
			if s.grave.Load() == nil {
				s.grave.Store(new(T))
			}
			s.at[i].Store(s.grave.Load())
			s.dead++
			if int(s.live)*8 < len(s.at) && len(s.at) > 64 {
				t.rebuild(h)
			}
			return
		case nil:
			return
		}
	}
}

// len is the number of values. It needs the owner's mutex.
func (t *table[T, P]) len() int32 {
	if s := t.slots.Load(); s != nil {
		return s.live
	}
	return 0
}

// each visits every value.
func (t *table[T, P]) each(f func(*T)) {
	s := t.slots.Load()
	if s == nil {
		return
	}
	for i := range s.at {
		if v := s.at[i].Load(); v != nil && v != s.grave.Load() {
			f(v)
		}
	}
}

// hasher hashes names with a seed that nobody outside knows. It is the runtime's hash, keyed AES on
// processors that have it: inputs that collide whatever the seed are not known for it. For xxhash they are,
// see ADR 14.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed()} }

func (h hasher) sum(name []byte) uint64 { return maphash.Bytes(h.seed, name) }

// text is sum of a string.
func (h hasher) text(name string) uint64 { return maphash.String(h.seed, name) }
