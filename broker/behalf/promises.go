package behalf

import "context"

// Promises is what the answers of several requests still have to wait for: that what they have changed is
// stored. With it the requests of a batch are stored together. It is for one goroutine.
type Promises struct {
	waits map[int]func(context.Context) bool
}

// Add notes how to wait for one part of the broker; the broker calls it.
func (p *Promises) Add(part int, wait func(context.Context) bool) {
	if p.waits == nil {
		p.waits = make(map[int]func(context.Context) bool)
	}
	p.waits[part] = wait
}

// Wait returns when everything is stored; false when ctx has ended before. A nil Promises has nothing to wait
// for.
func (p *Promises) Wait(ctx context.Context) bool {
	if p == nil {
		return true
	}
	for part, wait := range p.waits {
		if !wait(ctx) {
			return false
		}
		delete(p.waits, part)
	}
	return true
}
