package topictree

import (
	"hash/maphash"
	"sync/atomic"
)

// named is a pointer to what a table holds. Its name is set before it is published, then read-only. at is
// for nodes: which part of their path is the name in this table.
type named[T any] interface {
	*T
	is(at int, name []byte) bool
	sum(h hasher, at int) uint64 // hash of the name
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
func (t *table[T, P]) find(at int, hash uint64, name []byte) *T {
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
		if P(v).is(at, name) && v != s.grave.Load() {
			return v
		}
	}
}

// insert adds a value whose name is not there yet.
func (t *table[T, P]) insert(h hasher, at int, v *T) {
	s := t.slots.Load()
	if s == nil || int(s.live+s.dead+1)*4 > len(s.at)*3 {
		s = t.rebuild(h, at)
	}
	s.put(P(v).sum(h, at), v)
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
func (t *table[T, P]) rebuild(h hasher, at int) *slots[T, P] {
	next := &slots[T, P]{live: t.len()}
	size := 2
	for size*5 < int(next.live+1)*8 {
		size *= 2
	}
	next.at = make([]atomic.Pointer[T], size)
	t.each(func(v *T) { next.put(P(v).sum(h, at), v) })
	t.slots.Store(next)
	return next
}

// slot finds the place of a value that is there.
func (s *slots[T, P]) slot(hash uint64, v *T) *atomic.Pointer[T] {
	mask := uint64(len(s.at) - 1)
	i := hash & mask
	for s.at[i].Load() != v {
		i = (i + 1) & mask
	}
	return &s.at[i]
}

// replace puts v into the place of a value that is there and has the same name. Who goes through the slots
// sees one of them.
func (t *table[T, P]) replace(h hasher, at int, old, v *T) {
	t.slots.Load().slot(P(old).sum(h, at), old).Store(v)
}

// remove takes a value out that is there.
func (t *table[T, P]) remove(h hasher, at int, v *T) {
	s := t.slots.Load()
	if s.live--; s.live == 0 {
		t.slots.Store(nil)
		return
	}
	if s.grave.Load() == nil {
		s.grave.Store(new(T))
	}
	s.slot(P(v).sum(h, at), v).Store(s.grave.Load())
	s.dead++
	if int(s.live)*8 < len(s.at) && len(s.at) > 64 {
		t.rebuild(h, at)
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
