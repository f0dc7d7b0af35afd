package lookup

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/sony/gobreaker/v2"
)

// call is a question on its way to the source, for all who wait for its answer. Whoever leaves does not end
// it for the others; when the last one of its group leaves, it is cancelled.
type call[A any] struct {
	q     *Question
	key   Key
	group *group[A]
	done  chan struct{} // closed when the rest is set
	found Found[A]
	panic *Thrown
}

// group is the calls that one request asks. The source is asked on a goroutine of its own, which Close waits
// for: there are as many as the source has turns.
type group[A any] struct {
	calls   []*call[A]
	waiters int // Guarded by the queue's mutex.
	ctx     context.Context
	cancel  context.CancelFunc
	probe   bool // of a source that failed: others wait for what it says
}

// joinLocked has a lookup wait for a call's answer, with the queue's mutex held.
func (c *call[A]) joinLocked(t *turn[A]) {
	c.group.waiters++
	t.call = c
	close(t.came)
}

// fetch asks the source, when there is a turn for it, or waits for who asks the same. What is never sent
// counts neither as time of the source nor as its failure.
func (l *Lookup[A]) fetch(ctx context.Context, q *Question, key Key) (A, error) {
	var none A
	if l.breaker.State() == gobreaker.StateOpen {
		return none, gobreaker.ErrOpenState
	}
	t := &turn[A]{q: q, key: key}
	if !l.queue.enter(t) {
		return none, ErrBusy
	}
	select {
	case <-t.came:
	case <-ctx.Done():
		if l.queue.withdraw(t) {
			return none, errors.Join(ErrBusy, ctx.Err())
		}
		<-t.came // just now
	}
	if t.lost {
		return none, ErrBusy
	}
	c := t.call
	if c == nil {
		var err error
		if c, err = l.begin(ctx, t); err != nil {
			l.queue.leave()
			return none, err
		}
	}
	if c.q != q {
		l.cached("joined")
	}
	return l.await(ctx, c)
}

// begin starts the call of a lookup that has its turn, which the call gives up. While one question finds out
// whether a source answers again, others wait for that; their budget counts. With an error the turn is still
// the lookup's.
func (l *Lookup[A]) begin(ctx context.Context, t *turn[A]) (*call[A], error) {
	patience := time.NewTimer(l.budget)
	defer patience.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(ErrBusy, err)
		}
		state := l.breaker.State()
		if state == gobreaker.StateOpen {
			return nil, gobreaker.ErrOpenState
		}
		c, probe := l.start(t, state == gobreaker.StateHalfOpen)
		if c != nil {
			return c, nil
		}
		if probe == nil {
			return nil, ErrBusy
		}
		select {
		case <-probe:
		case <-patience.C:
			return nil, gobreaker.ErrTooManyRequests
		case <-ctx.Done():
		}
	}
}

// start makes the call of a lookup, or says what to wait for; neither after Close.
func (l *Lookup[A]) start(t *turn[A], halfOpen bool) (c *call[A], probe <-chan struct{}) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	m := &l.queue.mu
	if l.ctx.Err() != nil {
		return nil, nil
	}
	if c = m.under[t.key]; c != nil { // another one with the same key had its turn just before
		c.group.waiters++
		l.queue.leaveLocked()
		return c, nil
	}
	if halfOpen && m.probe != nil {
		return nil, m.probe
	}
	g := &group[A]{waiters: 1}
	if halfOpen {
		g.probe, m.probe = true, make(chan struct{})
	}
	c = l.queue.callLocked(g, t)
	if l.many != nil {
		l.queue.companyLocked(g, l.many.Most())
	}
	g.ctx, g.cancel = context.WithTimeout(l.ctx, l.budget)
	l.running.Go(func() { l.run(g) })
	return c, nil
}

// await waits for the answer of a call.
func (l *Lookup[A]) await(ctx context.Context, c *call[A]) (A, error) {
	select {
	case <-c.done:
	case <-ctx.Done():
		if l.desert(c) {
			var none A
			return none, errors.Join(ErrBusy, ctx.Err())
		}
	}
	if c.panic != nil {
		panic(c.panic)
	}
	return c.found.Answer, c.found.Err
}

// desert is for who does not wait any longer; false if the answer has just come.
func (l *Lookup[A]) desert(c *call[A]) bool {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	select {
	case <-c.done:
		return false
	default:
	}
	g := c.group
	if g.waiters--; g.waiters == 0 {
		g.cancel()
		l.queue.forgetLocked(g)
	}
	return true
}

// forgetLocked has nobody join a group any more.
func (q *queue[A]) forgetLocked(g *group[A]) {
	for _, c := range g.calls {
		if q.mu.under[c.key] == c {
			delete(q.mu.under, c.key)
		}
	}
}

// deserted reports whether nobody waits for a group.
func (l *Lookup[A]) deserted(g *group[A]) bool {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return g.waiters == 0
}

// run asks the source for a group and gives its turn up.
func (l *Lookup[A]) run(g *group[A]) {
	defer g.cancel()
	defer func() {
		var thrown *Thrown
		if v := recover(); v != nil {
			thrown = &Thrown{v, debug.Stack()}
		}
		if left := l.settle(g, thrown); thrown != nil && left == 0 {
			panic(thrown)
		}
	}()
	list, err := l.breaker.Execute(func() ([]Found[A], error) { return l.ask(g) })
	for i, c := range g.calls {
		if c.found.Err = err; err == nil {
			c.found = list[i]
		}
		if c.found.Err == nil {
			l.cache.put(c.key, c.found.Answer)
		}
	}
}

// ask asks the source. A failure after which nobody waits says nothing about it.
func (l *Lookup[A]) ask(g *group[A]) ([]Found[A], error) {
	sent := now()
	defer func() { l.took(now().Sub(sent)) }()
	var list []Found[A]
	var err error
	if l.many != nil {
		questions := make([]*Question, len(g.calls))
		for i, c := range g.calls {
			questions[i] = c.q
		}
		list, err = l.many.AskMany(g.ctx, questions)
	} else {
		var a A
		a, err = l.source.Ask(g.ctx, g.calls[0].q)
		list = []Found[A]{{Answer: a}}
	}
	switch {
	case err == nil, isFinal(err):
	case l.deserted(g):
		err = errors.Join(ErrBusy, err)
	case sent.UnixNano() < l.failed.Load():
		err = sameFailureError{err}
	default:
		l.failed.Store(now().UnixNano())
	}
	return list, err
}

// sameFailureError is the failure of a request that was under way when another one failed: a source that
// stalls for a moment, or cuts its connections, has failed once and not as often as it was being asked.
type sameFailureError struct{ error }

// Unwrap is for errors.Is.
func (f sameFailureError) Unwrap() error { return f.error }

func isSame(err error) bool {
	var f sameFailureError
	return errors.As(err, &f)
}

// settle tells all who wait, and returns how many there are.
func (l *Lookup[A]) settle(g *group[A], thrown *Thrown) int {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	m := &l.queue.mu
	l.queue.forgetLocked(g)
	for _, c := range g.calls {
		c.panic = thrown
		close(c.done)
	}
	if g.probe {
		close(m.probe)
		m.probe = nil
	}
	l.queue.leaveLocked()
	return g.waiters
}
