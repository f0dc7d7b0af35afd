package durable

import "slices"

// LateMost is how long an answer in Late waits, in milliseconds; up to a second more, as ticks come.
const LateMost = 1000

// Late is answers that wait for the disk, but not for long: UNSUBACK. A client that wants no more of
// something is not held up by a disk that is full or stands still; what it has had removed is removed from
// the store when that is possible. A kill before that brings the subscription back: the client gets what it
// does not want, and loses nothing. The zero value is ready; it belongs to its loop.
type Late[C comparable] struct{ list []late[C] }

// late is one such answer.
type late[C comparable] struct {
	of    C
	raw   []byte
	post  uint64
	until int64 // milliseconds
}

// Add has the answer of a client wait for a post, at most LateMost from now on.
func (x *Late[C]) Add(of C, raw []byte, post uint64, now int64) {
	x.list = append(x.list, late[C]{of: of, raw: raw, post: post, until: now + LateMost})
}

// Drop forgets the answers of a client whose connection ends.
func (x *Late[C]) Drop(of C) {
	if len(x.list) > 0 {
		x.list = slices.DeleteFunc(x.list, func(l late[C]) bool { return l.of == of })
	}
}

// Leave lets out what need not wait any longer when posts up to one are durable: all if the store fails.
func (x *Late[C]) Leave(post uint64, now int64, fails bool, out func(of C, raw []byte)) {
	if len(x.list) == 0 {
		return
	}
	x.list = slices.DeleteFunc(x.list, func(l late[C]) bool {
		if !fails && l.post > post && l.until > now {
			return false
		}
		out(l.of, l.raw)
		return true
	})
}
