package broker

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// Cursor reads a long list a page at a time, so that neither the broker nor who asks ever holds all of it.
// What comes or goes while it is read may be in it or not; what is there all the time is in it once. It is
// used by one goroutine at a time, not by a loop's.
type Cursor[T any] struct {
	// Set by newCursor, then read-only:
	b    *Broker
	read func(ctx context.Context, page []T, limit int) (next []T, over bool, err error)
	stop func() // lets go of what it holds; any goroutine

	mu struct {
		sync.Mutex
		over  bool
		ended bool // stop has been called
		err   error
	}
}

// pageMax is how many items one call of Next returns at most.
const pageMax = 10000

// cursorsMax is how many cursors may be open; the oldest ends for a further one.
const cursorsMax = 64

// ErrCursor says that a cursor has been closed, or had to go for others, or that an earlier wait for it has
// ended.
var ErrCursor = errors.New("broker: the cursor has ended")

// Next returns the next items, limit at most; none says that the list has ended. An error ends the cursor.
func (c *Cursor[T]) Next(ctx context.Context, limit int) ([]T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil || c.mu.over {
		return nil, c.mu.err
	}
	limit = min(max(limit, 1), pageMax)
	page := make([]T, 0, min(limit, 128))
	page, over, err := c.read(ctx, page, limit)
	if c.mu.over = over; over || err != nil {
		c.endLocked(err)
	}
	if err != nil {
		return nil, err
	}
	return page, nil
}

// Close ends it. One that has been read to its end needs none.
func (c *Cursor[T]) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.over {
		c.endLocked(ErrCursor)
	}
}

func (c *Cursor[T]) endLocked(err error) {
	c.mu.err = err
	if c.mu.ended {
		return
	}
	c.mu.ended = true
	c.stop()
	c.b.cursors.leave(c)
}

// cursors are those that are open, oldest first.
type cursors struct {
	mu   sync.Mutex
	list []interface{ Close() }
}

func (x *cursors) enter(c interface{ Close() }) {
	x.mu.Lock()
	x.list = append(x.list, c)
	var oldest interface{ Close() }
	if len(x.list) > cursorsMax {
		oldest = x.list[0]
	}
	x.mu.Unlock()
	if oldest != nil {
		oldest.Close() // when its Next has returned
	}
}

func (x *cursors) leave(c interface{ Close() }) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, o := range x.list {
		if o == c {
			x.list = append(x.list[:i], x.list[i+1:]...)
			return
		}
	}
}

func newCursor[T any](
	b *Broker, stop func(), read func(ctx context.Context, page []T, limit int) ([]T, bool, error),
) *Cursor[T] {
	c := &Cursor[T]{b: b, read: read, stop: stop}
	b.cursors.enter(c)
	return c
}

// cursorSlice is how many entries of a loop's table one turn looks at.
const cursorSlice = 512

// cursorTime is how long a loop may take to answer a cursor whose caller sets no bound.
const cursorTime = time.Minute

// walk reads a table of each loop, one loop after the other, in slices.
type walk[E, T any] struct {
	b     *Broker
	table func(s *shard) iter.Seq[E]
	show  func(s *shard, e E) (T, bool) // on the loop; false: not wanted

	at   int // shard
	next func() (E, bool)
	stop func()
}

// cursorOf makes a cursor of a table. The tables are maps, which may change between two steps.
func cursorOf[E, T any](
	b *Broker, table func(*shard) iter.Seq[E], show func(*shard, E) (T, bool),
) *Cursor[T] {
	w := &walk[E, T]{b: b, table: table, show: show}
	return newCursor(b, w.end, w.read)
}

func (w *walk[E, T]) read(ctx context.Context, page []T, limit int) ([]T, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, cursorTime)
	defer cancel()
	for len(page) < limit {
		if w.at == len(w.b.shards) {
			return page, true, nil
		}
		s := w.b.shards[w.at]
		over := false
		if !w.b.onLoop(ctx, s, func() { page, over = w.step(s, page, limit) }) {
			return nil, false, unanswered(ctx) // the step may come yet: page is its own
		}
		if over {
			w.at++
		}
	}
	return page, false, nil
}

// step is one slice. On the loop.
func (w *walk[E, T]) step(s *shard, page []T, limit int) ([]T, bool) {
	if w.next == nil {
		w.next, w.stop = iter.Pull(w.table(s))
	}
	for left := cursorSlice; left > 0 && len(page) < limit; left-- {
		e, ok := w.next()
		if !ok {
			w.next, w.stop = nil, nil
			return page, true
		}
		if x, wanted := w.show(s, e); wanted {
			page = append(page, x)
		}
	}
	return page, false
}

// end stops the walk on its loop, behind a step that may still be under way there.
func (w *walk[E, T]) end() {
	if w.at == len(w.b.shards) {
		return
	}
	w.b.shards[w.at].post(func() { // one a cursor
		if w.stop != nil {
			w.stop()
			w.next, w.stop = nil, nil
		}
	})
}
