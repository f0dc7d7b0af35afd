package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Committer makes posts durable in groups, on a goroutine of its own. Posts become durable in the order in
// which they were made, whoever made them: what one loop has posted before it told another is durable before
// what the other posts about it. Methods are for any goroutine.
type Committer struct {
	// Set by NewCommitter, then read-only:
	store   Store
	opts    CommitterOptions
	wake    chan struct{} // holds one
	started chan struct{} // closed by Start
	closing chan struct{}
	stopped chan struct{}

	// Owned by the committer's goroutine:
	sources []uint64 // scratch: highest number of each source in a group
	raws    [][]byte // scratch
	left    int      // operations that gather has left
	last    time.Time

	// Guarded by mu:
	mu struct {
		sync.Mutex
		posts  []post
		shared Batch
		bytes  int
		closed bool
		begun  bool // Start was called

		made, durable uint64     // posts and calls of Shared so far, and how many of them are durable
		hurry         bool       // somebody waits in Sync
		ended         bool       // nothing becomes durable any more
		cond          *sync.Cond // durable or ended has changed
	}

	// Atomic:
	failing atomic.Bool
	pending atomic.Int64 // bytes posted and not yet durable
	spares  sync.Pool
	stats   counts
}

type post struct {
	source int
	number uint64
	ops    []byte
}

// CommitterOptions say how a Committer works.
type CommitterOptions struct {
	// Sources is the number of those who post, from 0.
	Sources int
	// Linger is the least time from one commit to the next; 0 means at once.
	Linger time.Duration
	// FullBytes ends the linger early, once so much waits.
	FullBytes int
	// Done is called on the committer's goroutine when all posts of a source up to a number are durable.
	Done func(source int, number uint64)
	// Failed is called there when a commit has failed that will be tried again, and with nil when one has
	// succeeded after that.
	Failed func(err error)
}

// Times between attempts after a failure.
const (
	retryFirst = 20 * time.Millisecond
	retryMost  = time.Second
)

// groupBytes is about how much one commit takes.
const groupBytes = 8 << 20

// gatherOps is about how many operations are committed at once after a failure.
const gatherOps = 256 << 10

// NewCommitter makes a committer, which takes posts but commits nothing before Start; Close ends it. The
// store is its own from Start on, Close leaves it open.
func NewCommitter(s Store, o CommitterOptions) *Committer {
	c := &Committer{
		store: s, opts: o,
		wake: make(chan struct{}, 1), started: make(chan struct{}), closing: make(chan struct{}),
		stopped: make(chan struct{}), sources: make([]uint64, o.Sources),
	}
	c.mu.cond = sync.NewCond(&c.mu.Mutex)
	go c.run() // Close waits for it
	return c
}

// Start lets commits begin. What was posted before and is closed without Start never reaches the store.
func (c *Committer) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.begun {
		c.mu.begun = true
		close(c.started)
	}
}

// Post hands over the operations of a source, which numbers its posts from 1, and leaves b empty. Under the
// lock that gives posts their order it calls last, if that is not nil, for what must be decided in that
// order. last must be short and must not call the Committer. Posts after Close are lost.
func (c *Committer) Post(source int, number uint64, b *Batch, last func(b *Batch)) {
	var spare []byte
	if s, ok := c.spares.Get().(*[]byte); ok {
		spare = (*s)[:0]
	}
	c.mu.Lock()
	if last != nil {
		last(b)
	}
	ops := b.Take(spare)
	if c.mu.closed {
		c.mu.Unlock()
		return
	}
	c.mu.posts = append(c.mu.posts, post{source, number, ops})
	c.pending.Add(int64(len(ops)))
	c.mu.bytes += len(ops)
	c.mu.made++
	full := c.opts.FullBytes > 0 && c.mu.bytes >= c.opts.FullBytes
	first := len(c.mu.posts) == 1
	c.mu.Unlock()
	if first || full {
		c.signal()
	}
}

func (c *Committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Shared calls f under a lock that all calls share, with a batch that becomes durable no later than any post
// made after the call: for what several sources change, in the order in which they change it. f must be
// short and must not call the Committer.
func (c *Committer) Shared(f func(b *Batch)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.mu.shared)
	c.mu.made++
	if c.mu.shared.Len() > 0 {
		c.signal()
	}
}

// sparedBytes is how much of what may be lost waits at most.
const sparedBytes = 4 << 20

// Spared is Shared for what may be lost: when the disk fails or is behind, it does not call f and returns
// false.
func (c *Committer) Spared(f func(b *Batch)) bool {
	if c.failing.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed || c.mu.shared.Size() >= sparedBytes {
		return false
	}
	f(&c.mu.shared)
	c.mu.made++
	c.signal()
	return true
}

// Failing reports whether the last attempt has failed: what needs the store is to be refused.
func (c *Committer) Failing() bool { return c.failing.Load() }

// Pending is how many bytes have been posted and are not yet durable. Who posts more and more without waiting
// must stop at some number.
func (c *Committer) Pending() int64 { return c.pending.Load() }

// Close makes durable what has been posted since Start, and stops. It returns the error of the last attempt,
// if that failed.
func (c *Committer) Close() error {
	c.mu.Lock()
	again := c.mu.closed
	c.mu.closed = true
	c.mu.Unlock()
	if !again {
		close(c.closing)
	}
	<-c.stopped
	if c.failing.Load() {
		return errNotDurable
	}
	return nil
}

// run is the committer's goroutine.
func (c *Committer) run() {
	defer close(c.stopped)
	defer c.reached(0, true)
	select {
	case <-c.started:
	case <-c.closing:
		if !c.begun() {
			return
		}
	}
	for {
		var closing bool
		select {
		case <-c.wake:
			closing = c.linger()
		case <-c.closing:
			closing = true
		}
		for {
			group, made, more := c.take()
			if len(group) > 0 && !c.commit(group) {
				return
			}
			if !more {
				c.reached(made, false)
				break
			}
		}
		if closing {
			return
		}
	}
}

func (c *Committer) begun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.begun
}

// linger waits until the next commit may begin; true when the committer is to end.
func (c *Committer) linger() (closing bool) {
	wait := c.opts.Linger - now().Sub(c.last)
	if c.opts.Linger == 0 || wait <= 0 {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for !c.urgent() {
		select {
		case <-timer.C:
			return false
		case <-c.closing:
			return true
		case <-c.wake:
		}
	}
	return false
}

// urgent reports whether a commit should not wait any longer.
func (c *Committer) urgent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.hurry || c.opts.FullBytes > 0 && c.mu.bytes >= c.opts.FullBytes
}

// reached tells those who wait in Sync how far it is.
func (c *Committer) reached(made uint64, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.durable, c.mu.ended = max(c.mu.durable, made), ended
	c.mu.hurry = c.mu.hurry && c.mu.durable < c.mu.made
	c.mu.cond.Broadcast()
}

// Sync returns when everything that was posted before the call is durable.
func (c *Committer) Sync(ctx context.Context) error { return c.await(ctx, false) }

// Attempt is Sync that also returns, without an error, when the store fails: what was posted stays and is
// tried again.
func (c *Committer) Attempt(ctx context.Context) error { return c.await(ctx, true) }

func (c *Committer) await(ctx context.Context, attempt bool) error {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.cond.Broadcast()
	})()
	c.mu.Lock()
	defer c.mu.Unlock()
	for made := c.mu.made; c.mu.durable < made; c.mu.cond.Wait() {
		switch {
		case c.mu.ended:
			return errNotDurable
		case attempt && c.failing.Load():
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c.mu.hurry = true
		c.signal()
	}
	return nil
}

var errNotDurable = errors.New("store: what was posted last is not durable")

// take cuts the next group off the queue; more reports that others are left. made is the number of posts when
// none were left.
func (c *Committer) take() (group []post, made uint64, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.mu.posts) && size < groupBytes {
		size += len(c.mu.posts[n].ops)
		n++
	}
	group = c.mu.posts[:n:n]
	c.mu.posts = c.mu.posts[n:]
	if len(c.mu.posts) == 0 {
		c.mu.posts = nil
	}
	c.mu.bytes -= size
	if c.mu.shared.Len() > 0 { // first: no post refers to what comes after it
		group = append([]post{{source: -1, ops: c.mu.shared.Take(nil)}}, group...)
	}
	return group, c.mu.made, len(c.mu.posts) > 0
}

// commit makes a group durable, however often it takes; false when the committer was closed meanwhile.
func (c *Committer) commit(group []post) bool {
	c.raws, c.left = c.raws[:0], 0
	c.last = now()
	size := c.add(group)
	for wait := retryFirst; len(c.raws) > 0; wait = min(2*wait, retryMost) {
		err := c.store.Commit(c.raws...)
		if err == nil {
			break
		}
		c.stats.errors.Add(1)
		c.fails(err)
		closing := false
		select {
		case <-time.After(wait):
		case <-c.closing: // once more, then it is given up
			closing = true
		}
		group = c.gather(group, &size)
		c.last = now()
		if closing {
			if err := c.store.Commit(c.raws...); err != nil {
				return false
			}
			break
		}
	}
	if c.failing.Swap(false) && c.opts.Failed != nil {
		c.opts.Failed(nil)
	}
	c.stats.add(now().Sub(c.last), len(group), size)
	c.tell(group)
	return true
}

// add adds the operations of posts to what the next attempt commits, and returns their size.
func (c *Committer) add(group []post) (size int) {
	for i := range group {
		if len(group[i].ops) > 0 {
			c.raws = append(c.raws, group[i].ops)
			size += len(group[i].ops)
		}
	}
	return size
}

// gather adds what has been posted meanwhile to a group that could not be committed, and keeps of all that
// what is left of it: what is too large for a full disk fits when what has come behind it, such as a
// client's acknowledgement, has undone it. Nothing overtakes: posts build on those before them, so a kill
// between the two would lose something.
func (c *Committer) gather(group []post, size *int) []post {
	for more := true; more && c.left < gatherOps; {
		var next []post
		if next, _, more = c.take(); len(next) == 0 && len(c.raws) == 1 {
			break
		}
		c.add(next)
		group = append(group, next...)
		var left Batch
		if err := net(&left, c.raws); err != nil {
			break // the store says so too
		}
		c.left, *size = left.Len(), left.Size()
		c.raws = append(c.raws[:0], left.Bytes())
	}
	return group
}

// fails notes and tells that a commit has failed.
func (c *Committer) fails(err error) {
	if c.failing.Swap(true) {
		return
	}
	if c.opts.Failed != nil {
		c.opts.Failed(fmt.Errorf("store: %w", err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.cond.Broadcast() // Attempt waits for it
}

// tell tells each source how far it has got, and keeps the memory for later.
func (c *Committer) tell(group []post) {
	clear(c.sources)
	size := int64(0)
	for i := range group {
		p := &group[i]
		if p.source >= 0 {
			c.sources[p.source] = p.number
			size += int64(len(p.ops))
		}
		if b := p.ops; cap(b) > 0 && cap(b) <= spareMost {
			c.spares.Put(&b)
		}
	}
	clear(c.raws)
	c.pending.Add(-size)
	for source, number := range c.sources {
		if number > 0 {
			c.opts.Done(source, number)
		}
	}
}

// spareMost is the largest buffer that is kept.
const spareMost = 256 << 10

// bounds are the upper bounds, in seconds, of the commit latencies that Stats counts.
func bounds() [buckets]float64 {
	return [buckets]float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1}
}

const buckets = 11

// Stats is what a Committer has counted.
type Stats struct {
	Commits, Posts, Bytes, Errors int64
	Pending                       int64 // bytes that wait
	Failing                       bool
	Seconds                       float64 // sum of the commit latencies

	// Counts is the commits by bound of their latency, not cumulative; the last is above all bounds.
	Counts [buckets + 1]int64
}

// Latency is the commits by upper bound of their latency in seconds, each with those below.
func (s *Stats) Latency() map[float64]uint64 {
	m := make(map[float64]uint64, buckets)
	var n uint64
	for i, limit := range bounds() {
		n += uint64(s.Counts[i])
		m[limit] = n
	}
	return m
}

type counts struct {
	commits, posts, bytes, errors, nanos atomic.Int64
	latency                              [buckets + 1]atomic.Int64
}

func (n *counts) add(d time.Duration, posts, bytes int) {
	n.commits.Add(1)
	n.posts.Add(int64(posts))
	n.bytes.Add(int64(bytes))
	n.nanos.Add(int64(d))
	i := 0
	for _, limit := range bounds() {
		if d.Seconds() <= limit {
			break
		}
		i++
	}
	n.latency[i].Add(1)
}

// Stats returns the numbers so far.
func (c *Committer) Stats() Stats {
	n := &c.stats
	s := Stats{
		Commits: n.commits.Load(), Posts: n.posts.Load(), Bytes: n.bytes.Load(), Errors: n.errors.Load(),
		Failing: c.failing.Load(), Seconds: time.Duration(n.nanos.Load()).Seconds(),
	}
	for i := range s.Counts {
		s.Counts[i] = n.latency[i].Load()
	}
	s.Pending = c.pending.Load()
	return s
}
