// Package ring is a queue in a circular buffer that grows on demand and can be read by position.
package ring

// Ring is a first-in first-out queue. The zero value is empty and owns no memory. Not safe for concurrent
// use.
type Ring[T any] struct {
	buf  []T // length is 0 or a power of two
	head int // position of the oldest value
	n    int
}

// Len is the number of values held.
func (r *Ring[T]) Len() int { return r.n }

// Push adds v as the newest value.
func (r *Ring[T]) Push(v T) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// PushFront adds v as the oldest value.
func (r *Ring[T]) PushFront(v T) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.head = (r.head - 1) & (len(r.buf) - 1)
	r.buf[r.head] = v
	r.n++
}

// At points to the i-th oldest value, 0 <= i < Len. The pointer is good until the next Push or Pop.
func (r *Ring[T]) At(i int) *T { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

// Pop removes and returns the oldest value; the ring must not be empty. The slot is cleared, so that
// nothing is kept alive by it, and the buffer goes when the last value does.
func (r *Ring[T]) Pop() T {
	var zero T
	v := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if r.n == 0 {
		r.head = 0
		if len(r.buf) > keep {
			r.buf = nil
		}
	}
	return v
}

// PopLast removes and returns the newest value; the ring must not be empty.
func (r *Ring[T]) PopLast() T {
	var zero T
	at := r.At(r.n - 1)
	v := *at
	*at = zero
	if r.n--; r.n == 0 && len(r.buf) > keep {
		r.head, r.buf = 0, nil
	}
	return v
}

// keep is the largest buffer an empty ring holds on to, in values.
const keep = 32

// Truncate removes the newest values until n are left, 0 <= n <= Len, and gives memory back when most of it
// is not needed any more.
func (r *Ring[T]) Truncate(n int) {
	var zero T
	for i := n; i < r.n; i++ {
		*r.At(i) = zero
	}
	r.n = n
	size := len(r.buf)
	for size > keep && size >= 4*n {
		size /= 2
	}
	if size < len(r.buf) {
		r.resize(size)
	}
}

func (r *Ring[T]) grow() {
	size := 2 * len(r.buf)
	if size == 0 {
		size = 4
	}
	r.resize(size)
}

// resize moves the values to a buffer of another size, which has room for them.
func (r *Ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = *r.At(i)
	}
	r.buf, r.head = buf, 0
}

// Reset empties the ring and gives its memory back.
func (r *Ring[T]) Reset() { *r = Ring[T]{} }
