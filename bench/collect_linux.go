package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// collection is what a client has of the retained messages. Their numbers come in any order, so that a bit
// each is kept and not a stream.
type collection struct {
	have  []uint64
	n     uint32
	began int64 // Unix ns of SUBSCRIBE
}

// collected takes a retained message.
func (c *client) collected(h header) {
	l, k := c.loop, c.collect
	switch word, bit := h.seq/64, uint64(1)<<(h.seq%64); {
	case h.seq >= c.group.Collect || k.have == nil:
		l.count.foreign++
	case k.have[word]&bit != 0:
		l.count.duplicated++
	default:
		k.have[word] |= bit
		k.n++
		if k.n == c.group.Collect {
			l.count.complete++
			l.collects.record(l.now-k.began, l.now)
			l.engine.progress()
		}
	}
}

func (c *client) uncollected() int64 { return int64(c.group.Collect - c.collect.n) }

func (p *Plan) collects() bool {
	for _, g := range p.Groups {
		if g.Collect > 0 {
			return true
		}
	}
	return false
}

// collect lets every client subscribe at once and waits until each has everything, or the time is up.
func (r *runner) collect(ctx context.Context) error {
	e := r.e
	first := r.look()
	began := e.clock()
	e.each(func(l *loop) {
		l.now = e.clock()
		for _, c := range l.clients {
			if c.collect != nil && c.stage == ready {
				c.collect.began = began
				c.collect.have = make([]uint64, (c.group.Collect+63)/64)
				c.subscribe()
			}
		}
	})
	limited, cancel := context.WithTimeout(ctx, e.plan.Duration)
	defer cancel()
	err := e.await(limited, 0, func() { r.second("measure") },
		func(c counts) bool { return c.complete+c.ended >= first.count.ready })
	r.measured(first, r.look())
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // what is missing is counted as lost
	}
	return err
}

// RunRetained stores retained messages, lets subscribers collect them by a wildcard, and deletes them.
// Report.Latency is the time of each subscriber from SUBSCRIBE to the last message; Report.Lost counts what
// did not come within Duration.
func RunRetained(ctx context.Context, target Target, p Retained, opts Options) (*Report, error) {
	if err := p.store(ctx, target, false); err != nil {
		return nil, err
	}
	plan := p.Shape
	plan.Name, plan.Groups = "retained", []Group{{
		Name: "subscribers", Count: p.Subscribers, SubQoS: p.QoS, Collect: p.Messages,
		Filters: func(int) []string { return []string{p.root() + "/retained/#"} },
	}}
	r, err := Run(ctx, target, plan, opts)
	if r != nil {
		r.Stored = int64(p.Messages)
	}
	// An interrupt, too, leaves a tidy broker.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return r, errors.Join(err, p.store(late, target, true))
}

// store publishes the messages, or deletes them, with QoS 1: it must be known that they are there.
func (p *Retained) store(ctx context.Context, target Target, deleting bool) error {
	target.Prefix = target.withDefaults().Prefix + "-store"
	target.Persistent = false
	plan := Plan{
		Name: "store", Duration: time.Hour, UntilDone: true,
		Groups: []Group{{
			Name: "publisher", Count: 1, QoS: 1, Window: 256, Retain: true, Limit: p.Messages, Size: p.Size,
			Clear: deleting, Topic: func(int) string { return p.root() + "/retained" },
			TopicOf: func(_ int, seq uint32) string { return fmt.Sprintf("%s/retained/%06d", p.root(), seq) },
		}},
	}
	r, err := Run(ctx, target, plan, Options{})
	switch {
	case err != nil:
		return err
	case r.TotalSent != int64(p.Messages) || r.Unacknowledged+r.Refused+r.Failed+r.Ended > 0:
		return fmt.Errorf("bench: retained messages: %d of %d sent, %d refused, %d unacknowledged: %v",
			r.TotalSent, p.Messages, r.Refused, r.Unacknowledged, r.Failures)
	}
	return nil
}
