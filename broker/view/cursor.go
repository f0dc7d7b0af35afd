package view

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// Loops are the event loops that cursors ask, by their numbers.
type Loops interface {
	Len() int
	// Ask runs f on a loop and waits for it. An error says that ctx has ended first, or the loop: f may or
	// may not still run.
	Ask(ctx context.Context, loop int, f func()) error
	// Post runs f on a loop and does not wait. Nothing but the end of a cursor is posted, once a cursor.
	Post(loop int, f func())
}

// Pages is the cursors of a broker that are open, a bounded number. It is ready with its Loops; any
// goroutine.
type Pages struct {
	Loops Loops // set before the first cursor, then read-only

	mu   sync.Mutex
	list []interface{ Close() } // Guarded by mu: oldest first
}

// Cursor reads a long list a page at a time, so that neither the broker nor who asks ever holds all of it.
// What comes or goes while it is read may be in it or not; what is there all the time is in it once. It is
// used by one goroutine at a time, not by a loop's.
type Cursor[T any] struct {
	// Set by newCursor, then read-only:
	pages *Pages
	read  func(ctx context.Context, page []T, limit int) (next []T, over bool, err error)
	stop  func() // lets go of what it holds; any goroutine

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
	c.pages.leave(c)
}

func (x *Pages) enter(c interface{ Close() }) {
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

func (x *Pages) leave(c interface{ Close() }) {
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
	p *Pages, stop func(), read func(ctx context.Context, page []T, limit int) ([]T, bool, error),
) *Cursor[T] {
	c := &Cursor[T]{pages: p, read: read, stop: stop}
	p.enter(c)
	return c
}

// cursorSlice is how many entries of a loop's table one turn looks at.
const cursorSlice = 512

// cursorTime is how long a loop may take to answer a cursor whose caller sets no bound.
const cursorTime = time.Minute

// OfLoop makes a cursor of what one loop has. step runs there, once a page: it adds items up to limit, and
// says whether that was all.
func OfLoop[T any](p *Pages, loop int, step func(page []T, limit int) ([]T, bool)) *Cursor[T] {
	return newCursor(p, func() {}, func(ctx context.Context, page []T, limit int) ([]T, bool, error) {
		ctx, cancel := context.WithTimeout(ctx, cursorTime)
		defer cancel()
		over := false
		if err := p.Loops.Ask(ctx, loop, func() { page, over = step(page, limit) }); err != nil {
			return nil, false, err
		}
		return page, over, nil
	})
}

// walk reads a table of each loop, one loop after the other, in slices.
type walk[E, T any] struct {
	loops Loops
	table func(loop int) iter.Seq[E]
	show  func(loop int, e E) (T, bool) // on the loop; false: not wanted

	at   int // loop
	next func() (E, bool)
	stop func()
}

// OfTables makes a cursor of a table that each loop has; table and show run on the loops, and show says
// whether an entry is wanted. The tables are maps, which may change between two steps.
func OfTables[E, T any](
	p *Pages, table func(loop int) iter.Seq[E], show func(loop int, e E) (T, bool),
) *Cursor[T] {
	w := &walk[E, T]{loops: p.Loops, table: table, show: show}
	return newCursor(p, w.end, w.read)
}

func (w *walk[E, T]) read(ctx context.Context, page []T, limit int) ([]T, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, cursorTime)
	defer cancel()
	for len(page) < limit {
		if w.at == w.loops.Len() {
			return page, true, nil
		}
		over := false
		if err := w.loops.Ask(ctx, w.at, func() { page, over = w.step(page, limit) }); err != nil {
			return nil, false, err // the step may come yet: page is its own
		}
		if over {
			w.at++
		}
	}
	return page, false, nil
}

// step is one slice. On the loop.
func (w *walk[E, T]) step(page []T, limit int) ([]T, bool) {
	if w.next == nil {
		w.next, w.stop = iter.Pull(w.table(w.at))
	}
	for left := cursorSlice; left > 0 && len(page) < limit; left-- {
		e, ok := w.next()
		if !ok {
			w.next, w.stop = nil, nil
			return page, true
		}
		if x, wanted := w.show(w.at, e); wanted {
			page = append(page, x)
		}
	}
	return page, false
}

// end stops the walk on its loop, behind a step that may still be under way there.
func (w *walk[E, T]) end() {
	if w.at == w.loops.Len() {
		return
	}
	w.loops.Post(w.at, func() {
		if w.stop != nil {
			w.stop()
			w.next, w.stop = nil, nil
		}
	})
}
