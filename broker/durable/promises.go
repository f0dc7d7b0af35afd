package durable

// Promises is what a client is to be told only when it is durable, from its session's first CONNECT on. The
// zero value is none. It belongs to the client's loop.
type Promises struct {
	gate *Gate  // output that waits; nil: none does
	born uint64 // the post that stores the session, until it is durable
	owed uint64 // the last post that an earlier connection has waited for, or 0
}

// None reports whether there is nothing to remember.
func (p *Promises) None() bool { return p.gate == nil && p.born|p.owed == 0 }

// Gate is the output that waits, nil if nothing does.
func (p *Promises) Gate() *Gate { return p.gate }

// Wait makes what goes to a client from now on wait for the post of this turn, if journals have gates.
func (p *Promises) Wait(j *Journal, of Waiter) {
	if p.gate == nil {
		p.gate = &Gate{}
	}
	j.Wait(of, p.gate)
}

// Bear notes that the post of this turn stores the session.
func (p *Promises) Bear(j *Journal) { p.born = j.Ticket().Number }

// Drop forgets what waits, since the connection ends, but of a durable session not that it has.
func (p *Promises) Drop(durable bool) {
	if p.gate != nil && durable {
		p.owed = p.gate.Last()
	}
	p.gate = nil
}

// Kept notes that what was posted up to a post is durable.
func (p *Promises) Kept(post uint64) {
	if p.born <= post {
		p.born = 0
	}
	if p.owed <= post {
		p.owed = 0
	}
}

// Open lets out of g, which Waiter.Opens has told of, what waits for posts up to one; over says that nothing
// waits any more.
func (p *Promises) Open(g *Gate, post uint64, reserve func(n int) []byte) (over bool) {
	if !g.Open(post, reserve) {
		return false
	}
	p.gate = nil
	p.Kept(post)
	return true
}

// Unborn reports whether the session is not stored yet.
func (p *Promises) Unborn() bool { return p.born > 0 }

// Owes reports whether an earlier connection has ended with something that it was not told, since it was not
// durable, and that is not durable yet.
func (p *Promises) Owes() bool { return p.owed > 0 }
