package auth

import (
	"iter"

	"noctule/internal/ring"
)

// ReviewSlice is how many clients and subscriptions one turn looks at again.
const ReviewSlice = 512

// Review looks again at many clients after their settings were replaced, and at what each has subscribed to:
// with many of them that takes long, so it goes in slices. It belongs to the loop of the clients.
type Review[C any] struct {
	// Set by NewReview, then read-only:
	next   func() (C, bool)
	stop   func()
	client func(c C) (subscriptions int)
	cover  func(c C, from, to int)

	done func() // called at the end; nil: nothing

	over bool
	of   C   // the one being looked at
	left int // of its subscriptions, from the first, still to be looked at
}

// NewReview begins with all clients that are there. client looks at one and says how many subscriptions are
// to be looked at then, which cover does, some at a time: by the last first, since a removal meanwhile moves
// only what is behind it. all may be a map that changes between two steps: what is deleted is not seen, what
// is added need not be.
// done, unless it is nil, is called at the end.
func NewReview[C any](
	all iter.Seq[C], client func(c C) (subscriptions int), cover func(c C, from, to int), done func(),
) *Review[C] {
	r := &Review[C]{client: client, cover: cover, done: done}
	r.next, r.stop = iter.Pull(all)
	return r
}

// Step is one slice; true when that was the last, or there was none to be done any more.
func (r *Review[C]) Step() (over bool) {
	if r.over {
		return true
	}
	for budget := ReviewSlice; budget > 0; budget-- {
		if r.left > 0 {
			n := min(r.left, budget)
			r.cover(r.of, r.left-n, r.left)
			r.left -= n
			budget -= n
			continue
		}
		c, ok := r.next()
		if !ok {
			r.End()
			return true
		}
		r.of, r.left = c, r.client(c)
	}
	return false
}

// End gives up what is left, if anything is. r may be nil.
func (r *Review[C]) End() {
	if r == nil || r.over {
		return
	}
	r.over = true
	r.stop()
	if r.done != nil {
		r.done()
	}
}

// Uncovered is clients with very many subscriptions that are still to be held against their rights, in
// slices. The zero value is nobody. It belongs to the loop of the clients.
type Uncovered[C comparable] struct {
	list ring.Ring[uncovered[C]]
}

// uncovered is a client whose first subscriptions, so many, have not been looked at.
type uncovered[C comparable] struct {
	of   C
	left int
}

// Len is the number of clients.
func (u *Uncovered[C]) Len() int { return u.list.Len() }

// Add has n subscriptions of a client wait, anew if it waits already. first says that there was nobody.
func (u *Uncovered[C]) Add(c C, n int) (first bool) {
	for i := range u.list.Len() {
		if x := u.list.At(i); x.of == c {
			x.left = n
			return false
		}
	}
	u.list.Push(uncovered[C]{c, n})
	return u.list.Len() == 1
}

// Next is the next slice: subscriptions from one to another of a client, the last first as a Review has them.
func (u *Uncovered[C]) Next() (c C, from, to int) {
	x := u.list.At(0)
	c, to = x.of, x.left
	x.left -= min(x.left, ReviewSlice)
	if from = x.left; from == 0 {
		u.list.Pop()
	}
	return c, from, to
}
