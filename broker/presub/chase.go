package presub

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
)

// chase goes on asking a provider for the lists of clients that were let in without, and applies them when
// they come. A provider that cannot be asked is tried with one lookup at a time, at growing intervals; a
// client that it has no list for has intervals of its own. There is a goroutine only while lists are missing.
type chase struct {
	p     *provider
	slots int // lookups at a time

	mu struct { // Guarded by mu:
		sync.Mutex
		owed    map[string]*debt // by client id
		due     debts            // those that are not under way
		away    int              // under way
		fails   int              // in a row, of the provider
		window  int              // lookups at a time since the last failure; 0: slots
		good    int              // lookups that went well since window last grew
		resume  time.Time        // until then it is left alone
		running bool
		wake    chan struct{} // closed when something has changed
	}
}

// debt is a list that a client has not got.
type debt struct {
	c     Client
	tries int
	due   time.Time
	last  string // why it has not come
}

// debts is a heap of what is due first.
type debts []*debt

// Len implements heap.Interface.
func (h debts) Len() int { return len(h) }

// Less implements heap.Interface.
func (h debts) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

// Swap implements heap.Interface.
func (h debts) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *debts) Push(x any) { *h = append(*h, x.(*debt)) }

// Pop implements heap.Interface.
func (h *debts) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return d
}

// The longest intervals, from which up to a half is taken off by chance.
const (
	providerPause = 3 * time.Second
	clientPause   = 5 * time.Minute
)

// owedMax is how many lists may be missing; beyond it nobody is let in without.
const owedMax = 200000

// sweepMany is how many clients are looked for in one pause of the provider: those who have gone are owed
// nothing.
const sweepMany = 1000

// backOff is the interval after so many failures.
func backOff(failures int, longest time.Duration) time.Duration {
	d := min(500*time.Millisecond<<min(failures, 12), longest)
	return d - time.Duration(rand.Int64N(int64(d)/2))
}

func newChase(p *provider, slots int) *chase {
	x := &chase{p: p, slots: slots}
	x.mu.owed, x.mu.wake = make(map[string]*debt), make(chan struct{})
	return x
}

// add notes that a client is in without its list. It may be called on an event loop.
func (x *chase) add(c Client, in time.Duration) {
	c.Password, c.connects = nil, false
	x.mu.Lock()
	defer x.mu.Unlock()
	d := &debt{c: c, due: now().Add(in)}
	x.mu.owed[c.ID] = d // instead of an earlier one, which next finds to be nobody's
	heap.Push(&x.mu.due, d)
	x.startLocked()
}

// startLocked sees to it that there is a goroutine, which keeps the provider open.
func (x *chase) startLocked() {
	x.wakeLocked()
	if x.mu.running || x.p.e.ctx.Err() != nil {
		return
	}
	x.mu.running = true
	x.p.e.again(x.p)
	x.p.e.Go(x.run)
}

func (x *chase) wakeLocked() {
	close(x.mu.wake)
	x.mu.wake = make(chan struct{})
}

// forget is for a client that connects anew: it is asked for with its CONNECT.
func (x *chase) forget(clientID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.mu.owed, clientID)
}

// owes reports whether a client has not got its list yet, and why it was not there when last asked for.
func (x *chase) owes(clientID string) (owed bool, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := x.mu.owed[clientID]; d != nil {
		return true, d.last
	}
	return false, ""
}

// len is the number of clients without their list.
func (x *chase) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.mu.owed)
}

// run asks until nothing is owed, or another provider has taken the place of this one.
func (x *chase) run(ctx context.Context) {
	defer x.p.e.release(x.p)
	var under sync.WaitGroup
	defer under.Wait()
	for ctx.Err() == nil && !x.handOver() {
		d, wait, wake := x.next()
		switch {
		case d != nil:
			under.Go(func() { x.try(ctx, d) })
		case wake == nil:
			return
		default:
			x.sweep(ctx)
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-wake:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}

// next is the debt that is due; else how long to wait, or until wake. Without either the goroutine ends.
func (x *chase) next() (d *debt, wait time.Duration, wake <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := &x.mu
	for len(m.due) > 0 && m.owed[m.due[0].c.ID] != m.due[0] {
		heap.Pop(&m.due)
	}
	at := now()
	switch {
	case len(m.due) == 0 && m.away == 0:
		m.running, m.fails = false, 0
		return nil, 0, nil
	case len(m.due) == 0, m.away >= x.limitLocked():
		return nil, time.Hour, m.wake
	case at.Before(m.resume):
		return nil, m.resume.Sub(at), m.wake
	case at.Before(m.due[0].due):
		return nil, m.due[0].due.Sub(at), m.wake
	}
	m.away++
	return heap.Pop(&m.due).(*debt), 0, nil
}

// limitLocked is how many lookups may be under way. A provider that has failed is asked for one list at a
// time, and for one more when so many have come: one that can do so much and no more would else fail again.
func (x *chase) limitLocked() int { return cmp.Or(x.mu.window, x.slots) }

// growLocked counts a lookup that went well.
func (x *chase) growLocked() {
	m := &x.mu
	if m.good++; m.good >= x.limitLocked() {
		m.window, m.good = min(x.limitLocked()+1, x.slots), 0
	}
}

// sweep forgets clients whose sessions have ended while the provider is left alone.
func (x *chase) sweep(ctx context.Context) {
	var list []*debt
	x.mu.Lock()
	if now().Before(x.mu.resume) {
		for _, d := range x.mu.owed { // each time others
			if list = append(list, d); len(list) == sweepMany {
				break
			}
		}
	}
	x.mu.Unlock()
	for _, d := range list {
		if _, err := x.p.e.broker.List(ctx, d.c.ID); !errors.Is(err, behalf.ErrNoSession) {
			continue
		}
		x.mu.Lock()
		if x.mu.owed[d.c.ID] == d {
			delete(x.mu.owed, d.c.ID)
		}
		x.mu.Unlock()
	}
}

// try looks one list up and applies it.
func (x *chase) try(ctx context.Context, d *debt) {
	defer x.p.e.guard("looking up the topics of client", d.c.ID)
	if !x.p.isFor(&d.c) { // since a reload
		x.forget(d.c.ID)
	}
	var set *behalf.Set
	var err error
	if x.isOwed(d) {
		set, _, err = x.p.lookup(ctx, &d.c)
		x.p.trouble.note(err)
	}
	if err == nil && x.isOwed(d) {
		err = applied(x.p.apply(ctx, &d.c, set))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.wakeLocked()
	m := &x.mu
	m.away--
	if err != nil {
		d.last = err.Error()
	}
	var final lookup.Final
	switch {
	case err == nil:
		m.fails, m.resume = 0, time.Time{}
		x.growLocked()
		if m.owed[d.c.ID] == d {
			delete(m.owed, d.c.ID)
		}
		return
	case x.p.ask == nil, errors.As(err, &final), errors.Is(err, errNotApplied):
		m.fails, m.resume = 0, time.Time{}
		d.tries++
		d.due = now().Add(backOff(d.tries, clientPause))
	case now().Before(m.resume): // one of several that were under way when it failed
	default:
		m.fails++
		m.window, m.good = 1, 0
		m.resume = now().Add(backOff(m.fails, providerPause))
		d.due = m.resume // behind the others, if it is this one's fault after all
	}
	heap.Push(&m.due, d)
}

func (x *chase) isOwed(d *debt) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.mu.owed[d.c.ID] == d
}

// errNotApplied is why a list that has come is tried again.
var errNotApplied = errors.New("the broker has not applied it")

// applied says whether a list is with its session, or the session with nobody, or with another user.
func applied(answers []behalf.Answer) error {
	for i := range answers {
		switch answers[i].Code {
		case behalf.Done, behalf.NoSession, behalf.NotAllowed:
		default:
			return errNotApplied
		}
	}
	return nil
}

// handOver gives what is owed to the provider that has taken the place of this one, if one has; without a
// successor it is forgotten.
func (x *chase) handOver() bool {
	next := x.p.e.rules.Load().provider(x.p.cfg.Name)
	if next == x.p {
		return false
	}
	x.mu.Lock()
	owed := x.mu.owed
	x.mu.owed, x.mu.due, x.mu.running = make(map[string]*debt), nil, false
	x.mu.Unlock()
	if next == nil {
		return true
	}
	for _, d := range owed {
		next.chase.add(d.c, 0)
	}
	return true
}

// wakeUp has the goroutine look whether the provider is still in force.
func (x *chase) wakeUp() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked()
}
