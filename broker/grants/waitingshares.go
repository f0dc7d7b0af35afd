package grants

import (
	"sync"

	"noctule/broker/behalf"
)

// waitingShares are how much waits by whose requests they are: nobody may have more than three quarters of
// the places, so that there is always room for another. Any goroutine.
type waitingShares struct {
	mu struct { // Guarded by mu:
		sync.Mutex
		of map[string]waitingShare // without those that have nothing
	}
}

// waitingShare is what waits of one owner.
type waitingShare struct {
	count int
	bytes int64
}

// ownerOf is whose request it is.
func ownerOf(r *behalf.Request) string {
	if r.Origin.Owner != "" {
		return r.Origin.Owner
	}
	return r.Origin.Name
}

// take counts a request of so many bytes that takes the place of count others, 0 or 1, with the bytes freed,
// which are still counted; false if the owner may not have it, and nothing is counted.
func (x *waitingShares) take(owner string, count, freed, bytes int64, l *Limits) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.mu.of[owner]
	s.count++
	s.bytes += bytes
	if count == 0 && s.count > threeQuarters(l.Pending) ||
		bytes > freed && s.bytes-freed > threeQuarters(l.PendingBytes) {
		return false
	}
	if x.mu.of == nil {
		x.mu.of = make(map[string]waitingShare)
	}
	x.mu.of[owner] = s
	return true
}

// threeQuarters is rounded up.
func threeQuarters[N int | int64](n N) N { return n - n/4 }

// give counts a request no longer.
func (x *waitingShares) give(owner string, bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.mu.of[owner]
	s.count--
	s.bytes -= bytes
	if x.mu.of[owner] = s; s == (waitingShare{}) {
		delete(x.mu.of, owner)
	}
}
