package message

import "sync/atomic"

// Stored counts who needs a message in a durable store. Its methods may be called from any goroutine.
type Stored struct {
	// Set by who makes it, then read-only:
	ID uint64
	// Expiry and Size are those of the message, for who has only this of it.
	Expiry, Size int64

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

// NewStored makes the count of m, which is not in the store yet.
func NewStored(id uint64, m *Message) *Stored {
	return &Stored{ID: id, Expiry: m.Expiry, Size: m.Size()}
}

// Restored makes the count of m, which is in the store already and to which nobody refers yet.
func Restored(id uint64, m *Message) *Stored {
	s := NewStored(id, m)
	s.state.Store(1)
	return s
}

// Expired reports whether the message's Message Expiry Interval has passed at now, in Unix milliseconds.
func (s *Stored) Expired(now int64) bool { return s.Expiry != 0 && now >= s.Expiry }

// Used reports whether there are references.
func (s *Stored) Used() bool { return s.state.Load() >= 2 }
