package message

import "sync/atomic"

// Stored counts who needs a message in a durable store. Its methods may be called from any goroutine.
type Stored struct {
	// Set by who makes it, then read-only:
	ID uint64

	// Atomic:
	state atomic.Int64 // 2 for each reference, and 1 while the message is in the store
}

// Ref adds a reference; put reports that the message must be put into the store with it.
func (s *Stored) Ref() (put bool) {
	for {
		old := s.state.Load()
		if s.state.CompareAndSwap(old, (old+2)|1) {
			return old&1 == 0
		}
	}
}

// Unref removes one; last reports that the message must be deleted from the store.
func (s *Stored) Unref() (last bool) {
	for {
		old := s.state.Load()
		next := old - 2
		if next < 2 {
			next = 0
		}
		if s.state.CompareAndSwap(old, next) {
			return next == 0
		}
	}
}

// Restored makes the count of a message that is in the store already and that nobody refers to yet.
func Restored(id uint64) *Stored {
	s := &Stored{ID: id}
	s.state.Store(1)
	return s
}

// Used reports whether there are references.
func (s *Stored) Used() bool { return s.state.Load() >= 2 }
