package logs

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker"
)

// line is one line without its newline; or something to do between lines.
type line struct {
	level slog.Level
	text  string
	do    func() // if not nil there is no text
}

// queue is what lies between those who log, event loops among them, and destinations that may be slow: a
// disk that hangs, a terminal that is stopped, a pipe that nobody reads. Lines keep their order. When it is
// full the new line is dropped and counted; the last eighth is for warnings and errors. The gap is told by a
// line of its own.
type queue struct {
	// Set by newQueue, then read-only:
	max   int
	write func([]line)
	tell  func(gap int64) line
	wake  chan struct{} // something is there, or it is the end
	done  chan struct{} // the writer has ended

	// Atomic:
	dropped atomic.Int64

	mu struct {
		sync.Mutex
		lines  []line
		gap    int64 // dropped since the last batch was taken
		closed bool
	}
}

// patience is how long a stuck destination may hold up the end of the program, or a reopening.
const patience = 3 * time.Second

var errStuck = errors.New("the log's destination does not take its lines")

// newQueue starts the writer; close waits for it.
func newQueue(size int, write func([]line), tell func(gap int64) line) *queue {
	q := &queue{
		max: size, write: write, tell: tell, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go q.run()
	return q
}

// add puts a line at the end, or drops it. It never blocks for longer than it takes to append.
func (q *queue) add(l line) {
	room := q.max
	if l.level < broker.LevelWarning {
		room -= q.max / 8
	}
	q.mu.Lock()
	if q.mu.closed || len(q.mu.lines) >= room {
		q.mu.gap++
		q.mu.Unlock()
		q.dropped.Add(1)
		return
	}
	q.mu.lines = append(q.mu.lines, l)
	q.mu.Unlock()
	q.signal()
}

// do runs f on the writer's goroutine after the lines that are there, and waits for it, within patience.
func (q *queue) do(f func()) error { return q.doWithin(patience, f) }

// doWithin is do with another patience.
func (q *queue) doWithin(d time.Duration, f func()) error {
	ran := make(chan struct{})
	q.mu.Lock()
	if q.mu.closed {
		q.mu.Unlock()
		return errStuck
	}
	q.mu.lines = append(q.mu.lines, line{do: func() { f(); close(ran) }})
	q.mu.Unlock()
	q.signal()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ran:
		return nil
	case <-t.C:
		return errStuck
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close ends the writer after the lines that are there; false means that it did not end in time.
func (q *queue) close() bool {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	q.signal()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-q.done:
		return true
	case <-t.C:
		return false
	}
}

// run is the writer.
func (q *queue) run() {
	defer close(q.done)
	var spare []line
	for range q.wake {
		q.mu.Lock()
		batch, gap, closed := q.mu.lines, q.mu.gap, q.mu.closed
		q.mu.lines, q.mu.gap = spare, 0
		q.mu.Unlock()
		q.pass(batch)
		if gap > 0 {
			q.write([]line{q.tell(gap)})
		}
		clear(batch)
		spare = batch[:0]
		if closed {
			return
		}
	}
}

// pass writes a batch, in parts where there is something to do in between.
func (q *queue) pass(batch []line) {
	from := 0
	for i := range batch {
		if batch[i].do == nil {
			continue
		}
		if i > from {
			q.write(batch[from:i])
		}
		batch[i].do()
		from = i + 1
	}
	if from < len(batch) {
		q.write(batch[from:])
	}
}
