package source

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"noctule/broker/auth"
	"noctule/internal/places"
)

// Rules that a source has for a user are asked for when it logs in, and again behind its back while it is
// connected: topics are matched here. While nobody answers, they stay as they were.

// live are rules of one client that are asked for again.
type live struct {
	// Set by hold, then read-only:
	source string
	who

	// Atomic:
	given atomic.Pointer[given]
}

// given is what a source has said.
type given struct {
	login *answer
	rules auth.Rules
}

// Check implements auth.Rules.
func (x *live) Check(a auth.Access, topic []byte) auth.Verdict {
	return x.given.Load().rules.Check(a, topic)
}

// Covers implements auth.Rules. What is covered is not asked about any more, and these rules may change.
func (x *live) Covers([]byte) bool { return false }

// lives has them asked for. It has one goroutine while there are any.
type lives struct {
	// Set by newLives, then read-only:
	e     *Engine
	table *table[live]

	wake chan struct{} // a buffer of one: something is due earlier

	mu struct { // Guarded by mu:
		sync.Mutex
		due     dues
		running bool
		closed  bool
	}
}

// due is when one is to be asked for.
type due struct {
	at time.Time
	of weak.Pointer[live]
}

func newLives(e *Engine) *lives {
	return &lives{e: e, table: newTable[live](0), wake: make(chan struct{}, 1)}
}

// hold gives a client its rules, which are as r has them now; nil stays nil.
func (l *lives) hold(r *running, w who, login *answer, rules auth.Rules) auth.Rules {
	if rules == nil {
		return nil
	}
	login = &answer{groups: login.groups, rules: login.rules, listed: login.listed}
	x, fresh := l.table.get(held{r.key(), w}, func() *live {
		x := &live{source: r.key(), who: w}
		x.given.Store(&given{login, rules})
		return x
	})
	x.given.Store(&given{login, rules})
	if fresh {
		l.push(x, now().Add(jitter(time.Duration(r.cfg.Refresh))))
	}
	return x
}

// jitter keeps those apart that came together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

func (l *lives) push(x *live, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return
	}
	heap.Push(&l.mu.due, due{at, weak.Make(x)})
	if !l.mu.running {
		l.mu.running = true
		l.e.work.Go(l.run)
		return
	}
	l.nudge()
}

func (l *lives) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// all has all of them asked for soon: what decides is another.
func (l *lives) all() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.mu.due {
		l.mu.due[i].at = now()
	}
	l.nudge()
}

// close ends the asking.
func (l *lives) close() {
	l.mu.Lock()
	l.mu.closed = true
	l.mu.due = nil
	l.mu.Unlock()
	l.nudge()
}

// refreshers is how many are asked for at a time.
const refreshers = 8

// run asks for those that are due, until there are none.
func (l *lives) run() {
	turns := make(chan struct{}, refreshers)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		x, wait, more := l.next()
		if !more {
			break
		}
		if x == nil {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-l.wake:
			}
			continue
		}
		turns <- struct{}{}
		l.e.work.Go(func() {
			defer func() { <-turns }()
			l.refresh(x)
		})
	}
}

// next is one that is due, or how long nothing is; more is false once there is nothing.
func (l *lives) next() (x *live, wait time.Duration, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.mu.due) > 0 {
		first := l.mu.due[0]
		x := first.of.Value()
		if x != nil {
			if wait = first.at.Sub(now()); wait > 0 {
				return nil, wait, true
			}
		}
		heap.Pop(&l.mu.due)
		if x != nil {
			return x, 0, true
		}
	}
	l.mu.running = false
	return nil, 0, false
}

// refresh asks for rules again.
func (l *lives) refresh(x *live) {
	interval := refresh
	r := l.e.acquire(x.source)
	if r != nil {
		defer l.e.release(r)
		interval = time.Duration(r.cfg.Refresh)
	}
	if r != nil && r.rights != nil {
		ctx, cancel := context.WithTimeout(l.e.ctx, askMax)
		rights, err := r.askRights(ctx, x.who, places.Peer{Trusted: true})
		cancel()
		if err == nil {
			login := x.given.Load().login
			rules := r.rulesOf(x.who, login, rights)
			if rules == nil {
				rules = all{}
			}
			x.given.Store(&given{login, rules})
		} else if l.e.ctx.Err() == nil {
			r.failing.Add(fmt.Sprintf("Logins: source %s does not say the rules of %q, they stay: %v",
				r.cfg.Name, x.username, err))
		}
	}
	l.push(x, now().Add(jitter(interval)))
}

// dues is a heap, who is next first.
type dues []due

// Len implements heap.Interface.
func (d *dues) Len() int { return len(*d) }

// Less implements heap.Interface.
func (d *dues) Less(i, j int) bool { return (*d)[i].at.Before((*d)[j].at) }

// Swap implements heap.Interface.
func (d *dues) Swap(i, j int) { (*d)[i], (*d)[j] = (*d)[j], (*d)[i] }

// Push implements heap.Interface.
func (d *dues) Push(x any) { *d = append(*d, x.(due)) }

// Pop implements heap.Interface.
func (d *dues) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = due{}
	*d = (*d)[:last]
	return x
}
