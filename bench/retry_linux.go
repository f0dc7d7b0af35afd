package bench

import (
	"container/heap"
	"errors"
	"math"
	"math/rand/v2"
	"time"
)

var errTimeout = errors.New("not connected in time")

// defaultBackoff is a Storm's.
const defaultBackoff = 100 * time.Millisecond

// retries are the tries of a loop's clients to come back after a storm.
type retries struct {
	storm   Storm     // none before one
	due     deadlines // clients that wait for their next try
	running deadlines // when a try that is under way has taken too long
}

// next is when something is to be done, Unix ns.
func (r *retries) next() int64 {
	at := int64(math.MaxInt64)
	if len(r.due) > 0 {
		at = r.due[0].at
	}
	if len(r.running) > 0 {
		at = min(at, r.running[0].at)
	}
	return at
}

// wait is how long a client rests before try number n, of which 1 is the first that is not new: half of it is
// fixed and half is chance, so that those who were refused together do not come back together.
func (s *Storm) wait(n int32) time.Duration {
	d := s.Backoff
	if d <= 0 {
		d = defaultBackoff
	}
	for ; n > 1 && d < MaxBackoff; n-- {
		d *= 2
	}
	d = min(d, MaxBackoff)
	return d/2 + rand.N(d/2+1)
}

// watch begins a try of a client.
func (l *loop) watch(c *client) {
	if c.round == 0 {
		return
	}
	c.tries++
	if t := l.retries.storm.Timeout; t > 0 {
		heap.Push(&l.retries.running, deadline{l.now + int64(t), c, c.tries})
	}
}

// again lets a client whose connection failed try again later.
func (l *loop) again(c *client) {
	c.blank()
	heap.Push(&l.retries.due, deadline{l.now + int64(l.retries.storm.wait(c.tries)), c, c.tries})
}

// retry ends the tries that have taken too long, and begins those that are due. Latency goes on from the
// time the first one was due.
func (l *loop) retry() {
	r := &l.retries
	for len(r.running) > 0 && r.running[0].at <= l.now {
		d := heap.Pop(&r.running).(deadline)
		if c := d.client; c.tries == d.turn && c.stage != ready && c.stage != closed && c.stage != idle {
			l.fail(c, errTimeout)
		}
	}
	for n := 0; n < 64 && len(r.due) > 0 && r.due[0].at <= l.now && !l.closing; n++ {
		d := heap.Pop(&r.due).(deadline)
		if c := d.client; c.tries == d.turn && c.stage == idle {
			l.begin(c, c.began)
		}
	}
}
