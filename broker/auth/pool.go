package auth

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"noctule/codec"
	"noctule/internal/places"
	"noctule/internal/ring"
)

// The pool hashes passwords away from the event loops. Who connects chooses how much work there is, so
// everything is bounded: workers, jobs that wait, jobs of one address that wait, addresses remembered.
//
// Addresses take turns, one job each, so a flood from one delays another by one hash at most. An address
// with many failures runs one job at a time and must wait between them: failures fill a bucket that leaks
// FailureRate a second, and above FailureBurst the next job starts when there is room. Its jobs wait in
// its own queue meanwhile, few of them; nobody else is touched. When all waits that may, the newest job of
// the address with most gives way to one of another address.

// PoolConfig are the limits of a Pool. Zero values mean the defaults named.
type PoolConfig struct {
	// Workers is how many hashes run at a time; half of the processors, at least 1.
	Workers int
	// Queue is how many jobs may wait; 8192.
	Queue int
	// QueueBytes bounds the Bytes of jobs that wait; 64 MB. A job counts as QueueBytes/Queue at least.
	QueueBytes int
	// PerAddress is how many such shares the jobs of one address may take that wait; a sixteenth of Queue. An
	// IPv6 /56 has twice as much and a /48 four times. Trusted ones may fill the queue.
	PerAddress int
	// Slowed is how many jobs of an address may wait that is slowed down; 8.
	Slowed int
	// FailureBurst is how many failures an address may have before it is slowed down; 20. Negative: none is
	// ever slowed down. Trusted ones never are.
	FailureBurst int
	// FailureRate is how many failures a second an address may go on with; 2.
	FailureRate float64
	// Remembered is how many addresses with failures are kept in mind; 65536. Beyond it the one whose last
	// failure is longest ago is forgotten.
	Remembered int
	// Now is the time in Unix milliseconds. It must be set.
	Now func() int64
}

func (c PoolConfig) withDefaults() PoolConfig {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.Workers, max(1, runtime.GOMAXPROCS(0)/2))
	set(&c.Queue, 8192)
	set(&c.QueueBytes, 64<<20)
	set(&c.PerAddress, max(1, c.Queue/16))
	set(&c.Slowed, 8)
	set(&c.FailureBurst, 20)
	set(&c.Remembered, 65536)
	if c.FailureRate <= 0 {
		c.FailureRate = 2
	}
	return c
}

// Job is one login to be checked. Of a job that was accepted either Work or Refuse is called, once, on
// another goroutine.
type Job struct {
	// Address is where the login comes from; the zero Addr for unix sockets.
	Address netip.Addr
	// Trusted says that it comes from this machine, where proxies are: Login.Local.
	Trusted bool
	// Bytes is what the job holds in memory while it waits.
	Bytes int
	// Work hashes; it reports a login that failed.
	Work func() (failed bool)
	// Refuse is called instead, without delay, when the job gives way to others before its turn (ServerBusy)
	// or the pool closes (ServerShuttingDown).
	Refuse func(codec.Reason)
}

// PoolStats are counts since the start, except where noted.
type PoolStats struct {
	Checked     int64 // jobs done
	Failed      int64 // of these, logins that failed
	Throttled   int64 // jobs that had to wait because of their address's failures
	RefusedFull int64 // jobs not accepted because the pool was full
	RefusedPeer int64 // jobs refused because their address had too many waiting, when they came or later
	Waiting     int   // jobs that wait now
	Running     int   // jobs that run now
	Remembered  int   // addresses with failures, now
}

// Pool runs jobs on a few goroutines. Its methods may be called from any goroutine and never wait for a job,
// except Close.
type Pool struct {
	// Set by NewPool, then read-only:
	cfg  PoolConfig
	idle chan struct{} // closed once the pool is closed and nothing runs

	mu struct { // Guarded by mu:
		sync.Mutex
		peers   map[places.Peer]*peer
		waiting *places.Table[*peer]
		ready   ring.Ring[*peer] // peers with a job that may run, in turn
		late    lateHeap         // peers that must wait, the next one first
		quiet   peerList         // peers without jobs that have failures, the longest quiet first
		timer   *time.Timer      // for the first of late
		workers int
		closed  bool
		stats   PoolStats
	}
}

// NewPool returns a pool. It has no goroutine while there is nothing to do.
func NewPool(cfg PoolConfig) *Pool {
	p := &Pool{cfg: cfg.withDefaults(), idle: make(chan struct{})}
	p.mu.peers = make(map[places.Peer]*peer)
	unit, queue := p.unit(), int64(p.cfg.Queue)
	share := int64(p.cfg.PerAddress) * unit
	p.mu.waiting = places.New[*peer](places.Limits{
		Total: queue * unit, Address: share, Net56: 2 * share, Net48: 4 * share,
	}, places.Newest)
	return p
}

// unit is what a job weighs at least.
func (p *Pool) unit() int64 { return int64(max(1, p.cfg.QueueBytes/p.cfg.Queue)) }

// Submit hands in a job. False means that it was not accepted, because there are too many: nothing of it
// will be called.
func (p *Pool) Submit(j Job) bool {
	p.mu.Lock()
	gone, ok := p.submitLocked(j)
	p.mu.Unlock()
	refuse(gone)
	return ok
}

// refuse tells jobs that they have given way.
func refuse(gone []Job) {
	for _, j := range gone {
		j.Refuse(codec.ServerBusy)
	}
}

// submitLocked is Submit; those that have given way are still to hear of it.
func (p *Pool) submitLocked(j Job) (gone []Job, ok bool) {
	m := &p.mu
	if m.closed {
		m.stats.RefusedFull++
		return nil, false
	}
	from := places.Peer{Addr: j.Address, Trusted: j.Trusted}
	key := from.Key()
	x := m.peers[key]
	if x != nil && x.jobs.Len() >= p.cfg.Slowed && p.slowed(x, p.cfg.Now()) {
		m.stats.RefusedPeer++
		return nil, false
	}
	if x == nil {
		x = &peer{key: key}
	}
	w := &waiting{Job: j}
	w.place.Value = x
	others, verdict := m.waiting.Take(&w.place, from, max(p.unit(), int64(j.Bytes)))
	for _, o := range others { // each is the newest of its peer
		gone = append(gone, o.Value.jobs.PopLast().Job)
	}
	m.stats.Waiting -= len(gone)
	m.stats.RefusedPeer += int64(len(gone))
	switch verdict {
	case places.AddressFull:
		m.stats.RefusedPeer++
		return gone, false
	case places.Full:
		m.stats.RefusedFull++
		return gone, false
	case places.Taken:
	}
	m.peers[key] = x
	m.quiet.remove(x)
	x.jobs.Push(w)
	m.stats.Waiting++
	p.placeLocked(x)
	return gone, true
}

// slowed says that a peer has failed too often.
func (p *Pool) slowed(x *peer, now int64) bool {
	return !x.key.Trusted && p.cfg.FailureBurst >= 0 &&
		x.leaked(now, p.cfg.FailureRate)+1 > float64(p.cfg.FailureBurst)
}

// trimLocked takes the newest jobs of a peer that is slowed down, of which there are too many.
func (p *Pool) trimLocked(x *peer) (gone []Job) {
	for x.jobs.Len() > p.cfg.Slowed {
		w := x.jobs.PopLast()
		p.mu.waiting.Leave(&w.place)
		gone = append(gone, w.Job)
	}
	p.mu.stats.Waiting -= len(gone)
	p.mu.stats.RefusedPeer += int64(len(gone))
	return gone
}

// placeLocked puts a peer where it belongs after something has changed: ready, late, quiet or away.
func (p *Pool) placeLocked(x *peer) {
	m := &p.mu
	now := p.cfg.Now()
	switch {
	case x.place == placeReady || x.place == placeLate:
	case x.jobs.Len() > 0:
		wait, alone := p.delay(x, now)
		switch {
		case alone && x.running > 0: // its end comes back here
		case wait > 0:
			m.stats.Throttled++
			x.place, x.due = placeLate, now+wait
			m.late.push(x)
			p.armLocked(now)
		default:
			x.place = placeReady
			m.ready.Push(x)
			p.hireLocked()
		}
	case x.running > 0:
	case x.leaked(now, p.cfg.FailureRate) > 0 && !x.key.Trusted && p.cfg.FailureBurst >= 0:
		m.quiet.push(x)
		for m.quiet.n > p.cfg.Remembered || m.quiet.n > 0 &&
			m.quiet.first.leaked(now, p.cfg.FailureRate) == 0 {
			old := m.quiet.first
			m.quiet.remove(old)
			delete(m.peers, old.key)
		}
		m.stats.Remembered = m.quiet.n
	default:
		delete(m.peers, x.key)
	}
}

// delay is how long a peer must wait before its next job, in milliseconds; alone says that it may not run
// two at a time.
func (p *Pool) delay(x *peer, now int64) (wait int64, alone bool) {
	if x.key.Trusted || p.cfg.FailureBurst < 0 {
		return 0, false
	}
	over := x.leaked(now, p.cfg.FailureRate) + 1 - float64(p.cfg.FailureBurst)
	if over+float64(x.running) <= 0 {
		return 0, false
	}
	return int64(1000*max(0, over)/p.cfg.FailureRate + 0.5), true
}

// armLocked sets the timer for the first that is late.
func (p *Pool) armLocked(now int64) {
	m := &p.mu
	if m.late.empty() || m.closed {
		return
	}
	d := time.Duration(max(1, m.late.first().due-now)) * time.Millisecond
	if m.timer == nil {
		m.timer = time.AfterFunc(d, p.wake)
		return
	}
	m.timer.Reset(d)
}

// wake moves those who have waited enough.
func (p *Pool) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.mu
	now := p.cfg.Now()
	for !m.closed && !m.late.empty() && m.late.first().due <= now {
		x := m.late.pop()
		x.place = placeReady
		m.ready.Push(x)
		p.hireLocked()
	}
	p.armLocked(now)
}

// hireLocked starts a worker if there may be one more. It ends when nothing is ready; Close waits for it.
func (p *Pool) hireLocked() {
	if p.mu.workers < p.cfg.Workers {
		p.mu.workers++
		go p.work()
	}
}

func (p *Pool) work() {
	p.mu.Lock()
	m := &p.mu
	for m.ready.Len() > 0 && !m.closed {
		x := m.ready.Pop()
		x.place = placeNone
		if x.jobs.Len() == 0 { // all have given way
			p.placeLocked(x)
			continue
		}
		j := x.jobs.Pop()
		m.waiting.Leave(&j.place)
		x.running++
		m.stats.Waiting--
		m.stats.Running++
		p.placeLocked(x)
		p.mu.Unlock()
		failed := j.Work()
		p.mu.Lock()
		m.stats.Running--
		m.stats.Checked++
		x.running--
		var gone []Job
		if failed {
			m.stats.Failed++
			now := p.cfg.Now()
			x.failures, x.since = x.leaked(now, p.cfg.FailureRate)+1, now
			if p.slowed(x, now) {
				gone = p.trimLocked(x)
			}
		}
		p.placeLocked(x)
		if len(gone) > 0 {
			p.mu.Unlock()
			refuse(gone)
			p.mu.Lock()
		}
	}
	m.workers--
	if m.closed && m.workers == 0 {
		close(p.idle)
	}
	p.mu.Unlock()
}

// Stats returns the counts.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.stats
}

// Close refuses what waits and all that comes, and returns when no job runs any more, or with the error of
// ctx.
func (p *Pool) Close(ctx context.Context) error {
	for _, j := range p.shut() {
		j.Refuse(codec.ServerShuttingDown)
	}
	select {
	case <-p.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shut closes the pool and takes all jobs that wait out of it.
func (p *Pool) shut() []Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.mu
	if m.closed {
		return nil
	}
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	if m.workers == 0 {
		close(p.idle)
	}
	var left []Job
	for _, x := range m.peers {
		for x.jobs.Len() > 0 {
			w := x.jobs.Pop()
			m.waiting.Leave(&w.place)
			left = append(left, w.Job)
		}
	}
	m.stats.Waiting = 0
	return left
}
