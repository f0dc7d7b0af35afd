package presub

import (
	"container/list"
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// lane is work of one kind that waits, and the goroutines that do it: each kind has its own, so that what is
// slow delays only what needs it. Those for whom it is take turns, one piece of work each, and none of them
// may have more than three quarters of the places.
type lane struct {
	// Set by newLane, then read-only:
	ctx      context.Context // what waits is given up when it ends
	limits   laneLimits
	overload prometheus.Counter

	wg sync.WaitGroup // of the goroutines
	mu struct {       // Guarded by mu:
		sync.Mutex
		lines   map[string]*laneLine
		order   list.List // of *laneLine, who is next first; each has something that waits
		waiting int
		bytes   int64
		running int // goroutines
		closed  bool
	}
}

// laneLimits bound a lane.
type laneLimits struct {
	workers int // at once
	waiting int
	bytes   int64 // of what waits
}

// laneLine is what waits for one of them, the oldest first.
type laneLine struct {
	key  string
	work list.List // of laneWork
}

// laneWork is a piece of work.
type laneWork struct {
	do    func(context.Context)
	bytes int64
}

// laneCost is what a piece of work counts beside its bytes.
const laneCost = 256

func newLane(ctx context.Context, limits laneLimits, overload prometheus.Counter) *lane {
	l := &lane{ctx: ctx, limits: limits, overload: overload}
	l.mu.lines = make(map[string]*laneLine)
	return l
}

// submit has do run; false when too much waits. It may be called on an event loop.
func (l *lane) submit(key string, size int, do func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.mu
	bytes := int64(size) + laneCost
	line := m.lines[key]
	if m.closed || !l.roomLocked(line, l.limits.waiting, bytes) {
		l.overload.Inc()
		return false
	}
	if line == nil {
		line = &laneLine{key: key}
		m.lines[key] = line
		m.order.PushBack(line)
	}
	line.work.PushBack(laneWork{do, bytes})
	m.waiting++
	m.bytes += bytes
	if m.running < l.limits.workers {
		m.running++
		l.wg.Go(l.run) // close waits
	}
	return true
}

// roomy reports whether there is room for one more, with as many places to spare as there are.
func (l *lane) roomy(key string, size int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roomLocked(l.mu.lines[key], l.limits.waiting/2, 2*(int64(size)+laneCost)+l.limits.bytes/2)
}

// roomLocked reports whether a line may have one more when so many places are given away.
func (l *lane) roomLocked(line *laneLine, places int, bytes int64) bool {
	if line != nil && line.work.Len() >= (places*3+3)/4 {
		return false
	}
	return l.mu.waiting < places && l.mu.bytes+bytes <= l.limits.bytes
}

// run does what waits, and ends when nothing does.
func (l *lane) run() {
	for {
		do, ok := l.next()
		if !ok {
			return
		}
		do(l.ctx)
	}
}

// next takes who is next.
func (l *lane) next() (do func(context.Context), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.mu
	first := m.order.Front()
	if first == nil || m.closed {
		m.running--
		return nil, false
	}
	line := first.Value.(*laneLine)
	w := line.work.Remove(line.work.Front()).(laneWork)
	m.waiting--
	m.bytes -= w.bytes
	if line.work.Len() > 0 {
		m.order.MoveToBack(first)
	} else {
		m.order.Remove(first)
		delete(m.lines, line.key)
	}
	return w.do, true
}

// close gives up what waits, and waits for what is under way, whose context has to have ended.
func (l *lane) close() {
	l.mu.Lock()
	l.mu.closed = true
	l.mu.Unlock()
	l.wg.Wait()
}
