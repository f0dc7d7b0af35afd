package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"noctule/codec"
)

// engine is one run.
type engine struct {
	// Set by newEngine, then read-only:
	plan       Plan
	target     Target
	base       time.Time // of the clock
	groups     []*group
	publishers []*publisher
	loops      []*loop
	filler     []byte

	started bool // start was called; owned by the coordinator

	wg sync.WaitGroup // loops, TLS handshakes

	// Atomic:
	settled atomic.Int64 // clients that are ready or have failed, and those that ended later
	changed chan struct{}
}

// clock is Unix ns; it does not jump when the wall clock is set.
func (e *engine) clock() int64 { return e.base.UnixNano() + int64(time.Since(e.base)) }

// progress tells the coordinator that a client has changed.
func (e *engine) progress() {
	e.settled.Add(1)
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func newEngine(target Target, plan Plan) (*engine, error) {
	plan, err := plan.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &engine{plan: plan, target: target.withDefaults(), base: time.Now(), changed: make(chan struct{}, 1)}
	addr, err := e.target.resolve()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for i := range plan.Threads {
		l := newLoop(e, i)
		l.addr = copyOf(addr)
		e.loops = append(e.loops, l)
	}
	size := 0
	for _, g := range plan.Groups {
		size = max(size, g.Size)
	}
	e.filler = make([]byte, size)
	for i := range e.filler {
		e.filler[i] = 'a' + byte(i%26)
	}
	e.populate()
	e.spread()
	for _, l := range e.loops {
		l.waiting = l.clients
	}
	return e, nil
}

func (t Target) withDefaults() Target {
	if t.Version == 0 {
		t.Version = codec.V311
	}
	if t.Path == "" {
		t.Path = "/mqtt"
	}
	if t.Prefix == "" {
		t.Prefix = "bench"
	}
	if t.PerSource <= 0 {
		t.PerSource = 25000
	}
	return t
}

// populate makes the clients.
func (e *engine) populate() {
	number := 0
	for i := range e.plan.Groups {
		g := &group{Group: e.plan.Groups[i], first: number}
		e.groups = append(e.groups, g)
		pacers := make([]*pacer, len(e.loops))
		for i := range g.Count {
			l := e.loops[number%len(e.loops)]
			if g.Jointly {
				l = e.loops[0]
			}
			c := &client{loop: l, group: g, number: number, index: i, fd: -1}
			if g.Collect > 0 {
				c.collect = &collection{}
			}
			l.clients = append(l.clients, c)
			number++
			if g.Topic == nil {
				continue
			}
			p := e.newPublisher(c, g)
			if p.period == 0 {
				continue
			}
			if pacers[l.index] == nil {
				pacers[l.index] = &pacer{}
			}
			pacers[l.index].pubs = append(pacers[l.index].pubs, p)
		}
		for i, p := range pacers {
			if p != nil {
				e.loops[i].rest = append(e.loops[i].rest, p)
			}
		}
	}
}

func (e *engine) newPublisher(c *client, g *group) *publisher {
	p := &publisher{
		client: c, number: uint32(len(e.publishers)), window: int64(g.Window),
		topic: encoded(g.Topic(c.index)),
	}
	if g.Rate > 0 {
		p.period = int64(1e9 / g.Rate)
	}
	if g.QoS > 0 && p.window == 0 {
		p.window = 60000
	}
	c.pub = p
	e.publishers = append(e.publishers, p)
	return p
}

func encoded(topic string) []byte {
	return append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
}

// spread works out how many deliveries each publisher's messages make.
func (e *engine) spread() {
	for _, g := range e.groups {
		if g.Hears == nil {
			continue
		}
		if g.Jointly {
			g.shared = make([]stream, g.Hears(0).Count)
		}
		if g.Aside {
			continue // nobody waits for it
		}
		n := g.Count
		if g.Jointly {
			n = 1
		}
		for i := range n {
			span := g.Hears(i)
			for j := span.First; j < span.First+span.Count && j < len(e.publishers); j++ {
				e.publishers[j].fan++
			}
		}
	}
}

// start starts the loops.
func (e *engine) start() error {
	started := make(chan error, len(e.loops))
	e.wg.Add(len(e.loops))
	for _, l := range e.loops {
		go l.run(started) // e.wg
	}
	var err error
	for range e.loops {
		err = errors.Join(err, <-started)
	}
	e.started = err == nil
	return err
}

// each runs f on every loop and waits for it.
func (e *engine) each(f func(l *loop)) {
	var wg sync.WaitGroup
	wg.Add(len(e.loops))
	for _, l := range e.loops {
		l.post(func() {
			f(l)
			wg.Done()
		})
	}
	wg.Wait()
}

// total is the sum of the loops' counts.
func (e *engine) total() counts {
	all := make([]counts, len(e.loops))
	e.each(func(l *loop) { all[l.index] = l.count })
	var sum counts
	for _, c := range all {
		sum.add(c)
	}
	return sum
}

func (c *counts) add(o counts) {
	c.sent += o.sent
	c.received += o.received
	c.acknowledged += o.acknowledged
	c.refused += o.refused
	c.duplicated += o.duplicated
	c.reordered += o.reordered
	c.foreign += o.foreign
	c.bytesSent += o.bytesSent
	c.bytesReceived += o.bytesReceived
	c.reads += o.reads
	c.writes += o.writes
	c.turns += o.turns
	c.ready += o.ready
	c.failed += o.failed
	c.ended += o.ended
	c.cut += o.cut
	c.returned += o.returned
	c.stayed += o.stayed
	c.retried += o.retried
	c.resumed += o.resumed
	c.aside += o.aside
	c.bytesAside += o.bytesAside
	c.complete += o.complete
	c.pings += o.pings
	c.granted += o.granted
	c.atOnce += o.atOnce
	c.told += o.told
	c.noEntry += o.noEntry
	c.proven += o.proven
	c.twice += o.twice
}

// connect waits until every client is ready or has failed.
func (e *engine) connect(ctx context.Context, say func()) error {
	want := int64(e.plan.clients())
	return e.await(ctx, want, say, func(c counts) bool { return c.ready+c.failed >= want })
}

// await waits until clients have changed so often and done is true. It says so once a second and at the end.
func (e *engine) await(ctx context.Context, changes int64, say func(), done func(counts) bool) error {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		if e.settled.Load() >= changes && done(e.total()) {
			say()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.changed:
		case <-every.C:
			say()
		}
	}
}

// publish lets the publishers begin; what is due from from to to is measured.
func (e *engine) publish(from, to int64) {
	begin := e.clock()
	e.each(func(l *loop) {
		for _, r := range []*recorder{&l.latency, &l.lateness} {
			r.from, r.to = from, to
		}
		l.pacers = l.rest
		l.beginChurn(begin)
		for _, p := range l.pacers {
			p.begin(begin)
		}
		for _, c := range l.clients {
			if c.pub != nil && c.pub.period == 0 {
				c.pub.active = true
				c.pub.wake(l)
			}
		}
	})
}

// quiet stops the publishers, and waits until what is under way has arrived or has not for long.
func (e *engine) quiet(ctx context.Context) {
	e.each(func(l *loop) {
		l.pacers, l.churners = nil, nil
		for _, c := range l.clients {
			if c.pub != nil {
				c.pub.active = false
			}
		}
	})
	deadline := time.Now().Add(e.plan.Drain)
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for time.Now().Before(deadline) && e.open() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// open is the number of deliveries and acknowledgements still to come.
func (e *engine) open() int64 {
	all := make([]int64, len(e.loops))
	e.each(func(l *loop) {
		for _, c := range l.clients {
			if p := c.pub; p != nil && c.stage == ready {
				all[l.index] += max(int64(p.seq)*p.fan-p.reached.Load(), 0) + p.unacked
			}
		}
	})
	var n int64
	for _, v := range all {
		n += v
	}
	return n
}

// stop ends the loops; nothing runs after it, so that all can be read.
func (e *engine) stop() {
	for _, l := range e.loops {
		l.post(func() { l.closing = true })
	}
	e.wg.Wait()
}

// done tells whether every publisher has reached its limit.
func (e *engine) done() bool {
	active := make([]bool, len(e.loops))
	e.each(func(l *loop) {
		for _, c := range l.clients {
			active[l.index] = active[l.index] || c.pub != nil && c.pub.active && c.stage == ready
		}
	})
	return !slices.Contains(active, true)
}

// lost is the number of messages that were to be delivered and were not, to the groups that are counted
// apart or to the others.
func (e *engine) lost(aside bool) int64 {
	var n int64
	for _, l := range e.loops {
		for _, c := range l.clients {
			if c.group.Aside != aside {
				continue
			}
			if c.group.Collect > 0 {
				n += c.uncollected()
			}
			if c.group.Hears == nil || c.group.Jointly {
				continue
			}
			n += e.missed(c.group.Hears(c.index), c.hears)
		}
	}
	for _, g := range e.groups {
		if g.Jointly && g.Aside == aside {
			n += e.missed(g.Hears(0), g.shared)
		}
	}
	return n
}

func (e *engine) missed(span Span, streams []stream) int64 {
	var n int64
	for i := range span.Count {
		if span.First+i >= len(e.publishers) {
			break
		}
		sent := e.publishers[span.First+i].seq
		if streams == nil {
			n += int64(sent)
		} else {
			n += streams[i].lost(sent)
		}
	}
	return n
}
