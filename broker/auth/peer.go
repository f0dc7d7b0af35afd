package auth

import (
	"container/heap"

	"noctule/internal/places"
	"noctule/internal/ring"
)

// peer is one address that has jobs, or failures that are remembered. The pool's mutex guards it.
type peer struct {
	key     places.Peer
	jobs    ring.Ring[*waiting]
	running int
	place   place

	failures float64 // in the bucket at since
	since    int64   // Unix ms
	due      int64   // Unix ms; when it may go on, while it is late

	prev, next *peer
}

// waiting is a job that waits. The place of a peer's newest one gives way before those of the others.
type waiting struct {
	Job
	place places.Place[*peer]
}

// place is which list a peer is in.
type place uint8

const (
	placeNone place = iota
	placeReady
	placeLate
	placeQuiet
)

// leaked is what is left of the failures now.
func (x *peer) leaked(now int64, rate float64) float64 {
	return max(0, x.failures-rate*float64(now-x.since)/1000)
}

// lateHeap is peers by the time they are due.
type lateHeap struct{ list []*peer }

func (h *lateHeap) push(x *peer) { heap.Push(h, x) }
func (h *lateHeap) pop() *peer   { return heap.Pop(h).(*peer) }
func (h *lateHeap) empty() bool  { return len(h.list) == 0 }
func (h *lateHeap) first() *peer { return h.list[0] }

// Len implements heap.Interface.
func (h *lateHeap) Len() int { return len(h.list) }

// Less implements heap.Interface.
func (h *lateHeap) Less(i, j int) bool { return h.list[i].due < h.list[j].due }

// Swap implements heap.Interface.
func (h *lateHeap) Swap(i, j int) { h.list[i], h.list[j] = h.list[j], h.list[i] }

// Push implements heap.Interface.
func (h *lateHeap) Push(x any) { h.list = append(h.list, x.(*peer)) }

// Pop implements heap.Interface.
func (h *lateHeap) Pop() any {
	last := len(h.list) - 1
	x := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	return x
}

// peerList is a list of peers in the order they came.
type peerList struct {
	first, last *peer
	n           int
}

func (l *peerList) push(x *peer) {
	x.place, x.prev, x.next = placeQuiet, l.last, nil
	if l.last == nil {
		l.first = x
	} else {
		l.last.next = x
	}
	l.last = x
	l.n++
}

// remove takes a peer out, if it is in.
func (l *peerList) remove(x *peer) {
	if x.place != placeQuiet {
		return
	}
	if x.prev == nil {
		l.first = x.next
	} else {
		x.prev.next = x.next
	}
	if x.next == nil {
		l.last = x.prev
	} else {
		x.next.prev = x.prev
	}
	x.place, x.prev, x.next = placeNone, nil, nil
	l.n--
}
