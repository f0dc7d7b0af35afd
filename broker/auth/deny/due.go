package deny

import "container/heap"

// dueHeap is entries by their end.
type dueHeap struct{ list []*entry }

func (h *dueHeap) push(e *entry) { heap.Push(h, e) }
func (h *dueHeap) remove(at int) { heap.Remove(h, at) }

// Len implements heap.Interface.
func (h *dueHeap) Len() int { return len(h.list) }

// Less implements heap.Interface.
func (h *dueHeap) Less(i, j int) bool { return h.list[i].until < h.list[j].until }

// Swap implements heap.Interface.
func (h *dueHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].at, h.list[j].at = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.at = len(h.list)
	h.list = append(h.list, e)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(h.list) - 1
	e := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	e.at = -1
	return e
}
