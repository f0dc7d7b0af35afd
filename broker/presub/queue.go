package presub

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"noctule/internal/places"
)

// A webservice or database is asked so many things at a time and no more; other lookups wait here. The time
// that a lookup may take counts from its turn on, and what has had no turn says nothing about who would have
// been asked.
//
// Addresses take turns, one lookup each, so that one with many clients delays another's by one lookup at
// most. What waits is bounded; above it the newest lookup of the address with most gives way.

// errBusy is why a lookup ends that has had no turn.
var errBusy = errors.New("too many lookups wait")

// queue is the lookups of one provider.
type queue struct {
	mu struct { // Guarded by mu:
		sync.Mutex
		free    int // turns that nobody has
		waiting *places.Table[*turn]
		lines   map[places.Peer]*line
		order   list.List // of *line, who is next first; each has somebody waiting
	}
}

// line is the lookups of one address that wait, the oldest first.
type line struct {
	key   places.Peer
	turns list.List // of *turn
	at    *list.Element
}

// turn is one lookup on its way. Its fields but the first are guarded by the queue's mutex until came is
// closed, and whoever reads came then has them.
type turn struct {
	c     *Client
	place places.Place[*turn]
	line  *line
	at    *list.Element // nil when it waits no longer
	came  chan struct{} // closed when it waits no longer, except when it gives up itself
	lost  bool          // it gave way
	found *found        // by one who has asked for it as well; nil: it asks for itself
}

// found is what a source says about one client.
type found struct {
	list []Topic
	err  error
}

func newQueue(turns, waiting int) *queue {
	q := &queue{}
	q.mu.free = turns
	q.mu.waiting = places.New[*turn](places.Limits{Total: int64(waiting)}, places.Newest)
	q.mu.lines = make(map[places.Peer]*line)
	return q
}

// wait returns when a lookup has its turn, which leave gives up, or when another one has answered it along
// with its own. The error is errBusy if it comes to neither.
func (q *queue) wait(ctx context.Context, t *turn, from places.Peer) error {
	if !q.enter(t, from) {
		return errBusy
	}
	select {
	case <-t.came:
		if t.lost {
			return errBusy
		}
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	if t.at != nil {
		q.removeLocked(t)
		q.mu.Unlock()
		return errors.Join(errBusy, ctx.Err())
	}
	q.mu.Unlock()
	<-t.came // its turn has come just now; the source looks at ctx itself
	if t.lost {
		return errBusy
	}
	return nil
}

// enter puts a lookup into its line, or gives it a turn at once; false when there is no place.
func (q *queue) enter(t *turn, from places.Peer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := &q.mu
	t.came, t.place.Value = make(chan struct{}), t
	if m.free > 0 { // then nobody waits
		m.free--
		close(t.came)
		return true
	}
	gone, verdict := m.waiting.Take(&t.place, from, 1)
	for _, o := range gone {
		o.Value.lost = true
		q.removeLocked(o.Value)
		close(o.Value.came)
	}
	if verdict != places.Taken {
		return false
	}
	key := from.Key()
	l := m.lines[key]
	if l == nil {
		l = &line{key: key}
		m.lines[key] = l
		l.at = m.order.PushBack(l)
	}
	t.line, t.at = l, l.turns.PushBack(t)
	return true
}

// removeLocked takes a lookup out of its line.
func (q *queue) removeLocked(t *turn) {
	q.mu.waiting.Leave(&t.place)
	l := t.line
	l.turns.Remove(t.at)
	t.at = nil
	if l.turns.Len() == 0 {
		q.mu.order.Remove(l.at)
		delete(q.mu.lines, l.key)
	}
}

// nextLocked takes the lookup that is next out of its line; nil if none waits.
func (q *queue) nextLocked() *turn {
	first := q.mu.order.Front()
	if first == nil {
		return nil
	}
	q.mu.order.MoveToBack(first)
	t := first.Value.(*line).turns.Front().Value.(*turn)
	q.removeLocked(t)
	return t
}

// company is t, whose turn it is, and up to n-1 others that are next, for whom it asks as well. Whoever does
// fills found in and closes came of each.
func (q *queue) company(t *turn, n int) []*turn {
	group := []*turn{t}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(group) < n {
		other := q.nextLocked()
		if other == nil {
			break
		}
		group = append(group, other)
	}
	return group
}

// leave gives a turn up; who is next has it.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.nextLocked(); t != nil {
		close(t.came)
		return
	}
	q.mu.free++
}

// len is the number of lookups that wait.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.waiting.Len()
}
