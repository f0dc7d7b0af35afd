package lookup

import (
	"container/list"
	"sync"

	"noctule/internal/places"
)

// A webservice or database is asked so many things at a time and no more; other lookups wait here. The time
// that a lookup may take counts from its turn on, and what has had no turn says nothing about who would have
// been asked.
//
// Addresses take turns, one lookup each, so that one with many clients delays another's by one lookup at
// most. What waits is bounded; above it the newest lookup of the address with most gives way. Lookups with
// the same key are one question: who of them has its turn first asks for all, so none waits in another's
// line.

// queue is the lookups of one source.
type queue[A any] struct {
	mu struct { // Guarded by mu:
		sync.Mutex
		free    int // turns that nobody has
		waiting *places.Table[*turn[A]]
		lines   map[places.Peer]*line
		order   list.List                     // of *line, who is next first; each has somebody waiting
		same    map[Key]map[*turn[A]]struct{} // those that wait, by key
		under   map[Key]*call[A]              // those that are asked; nobody waits with such a key
		probe   chan struct{}                 // closed when it is known whether a source is back
	}
}

// line is the lookups of one address that wait, the oldest first.
type line struct {
	key   places.Peer
	turns list.List // of *turn
	at    *list.Element
}

// turn is one lookup on its way to its turn. Its fields but the first two are guarded by the queue's mutex
// until came is closed, and whoever reads came then has them.
type turn[A any] struct {
	q     *Question
	key   Key
	place places.Place[*turn[A]]
	line  *line
	at    *list.Element // nil when it waits no longer
	came  chan struct{} // closed when it waits no longer, except when it gives up itself
	lost  bool          // it gave way
	call  *call[A]      // by one who asks for it as well; nil: it has the turn
}

func newQueue[A any](turns, waiting int) *queue[A] {
	q := &queue[A]{}
	m := &q.mu
	m.free = turns
	m.waiting = places.New[*turn[A]](places.Limits{Total: int64(waiting)}, places.Newest)
	m.lines = make(map[places.Peer]*line)
	m.same = make(map[Key]map[*turn[A]]struct{})
	m.under = make(map[Key]*call[A])
	return q
}

// enter joins the call of a lookup's key if it is under way; else it puts the lookup into its line, or gives
// it a turn at once. It reports false when there is no place.
func (q *queue[A]) enter(t *turn[A]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := &q.mu
	t.came, t.place.Value = make(chan struct{}), t
	if c := m.under[t.key]; c != nil {
		c.joinLocked(t)
		return true
	}
	if m.free > 0 { // then nobody waits
		m.free--
		close(t.came)
		return true
	}
	gone, verdict := m.waiting.Take(&t.place, t.q.From, 1)
	for _, o := range gone {
		o.Value.lost = true
		q.removeLocked(o.Value)
		close(o.Value.came)
	}
	if verdict != places.Taken {
		return false
	}
	key := t.q.From.Key()
	l := m.lines[key]
	if l == nil {
		l = &line{key: key}
		m.lines[key] = l
		l.at = m.order.PushBack(l)
	}
	t.line, t.at = l, l.turns.PushBack(t)
	if m.same[t.key] == nil {
		m.same[t.key] = make(map[*turn[A]]struct{}, 1)
	}
	m.same[t.key][t] = struct{}{}
	return true
}

// withdraw takes a lookup out that still waits; false if it does not.
func (q *queue[A]) withdraw(t *turn[A]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.at == nil {
		return false
	}
	q.removeLocked(t)
	return true
}

// removeLocked takes a lookup out of its line.
func (q *queue[A]) removeLocked(t *turn[A]) {
	m := &q.mu
	m.waiting.Leave(&t.place)
	if delete(m.same[t.key], t); len(m.same[t.key]) == 0 {
		delete(m.same, t.key)
	}
	l := t.line
	l.turns.Remove(t.at)
	t.at = nil
	if l.turns.Len() == 0 {
		m.order.Remove(l.at)
		delete(m.lines, l.key)
	}
}

// nextLocked takes the lookup that is next out of its line; nil if none waits.
func (q *queue[A]) nextLocked() *turn[A] {
	first := q.mu.order.Front()
	if first == nil {
		return nil
	}
	q.mu.order.MoveToBack(first)
	t := first.Value.(*line).turns.Front().Value.(*turn[A])
	q.removeLocked(t)
	return t
}

// callLocked makes the call of a lookup, for all that wait with its key.
func (q *queue[A]) callLocked(g *group[A], t *turn[A]) *call[A] {
	c := &call[A]{q: t.q, key: t.key, group: g, done: make(chan struct{})}
	g.calls = append(g.calls, c)
	q.mu.under[t.key] = c
	for other := range q.mu.same[t.key] {
		q.removeLocked(other)
		c.joinLocked(other)
	}
	return c
}

// companyLocked has others that are next asked in the same request, up to n questions.
func (q *queue[A]) companyLocked(g *group[A], n int) {
	for len(g.calls) < n {
		t := q.nextLocked()
		if t == nil {
			return
		}
		q.callLocked(g, t).joinLocked(t)
	}
}

// leave gives a turn up; who is next has it.
func (q *queue[A]) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leaveLocked()
}

func (q *queue[A]) leaveLocked() {
	if t := q.nextLocked(); t != nil {
		close(t.came)
		return
	}
	q.mu.free++
}

// len is the number of lookups that wait.
func (q *queue[A]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.waiting.Len()
}
