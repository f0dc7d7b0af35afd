package bench

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"noctule/codec"
)

// cut ends a client's connection on our side. Without DISCONNECT it is a reset, as when a network breaks: it
// leaves no port in TIME-WAIT, of which thousands of clients would run out.
func (l *loop) cut(c *client, politely bool) {
	if c.stage == ready {
		l.count.cut++
	}
	if politely {
		c.touch()
		c.out = codec.AppendHeader(c.out, codec.DISCONNECT, 0, 0)
		l.flush(c)
	} else if c.fd >= 0 && c.stage != closed {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	l.hangUp(c)
	c.blank()
	c.round++
	c.tries, c.gone = 0, l.now
}

// blank makes a client whose socket is closed one that has none.
func (c *client) blank() { c.stage, c.fd, c.tls, c.ws, c.read = idle, -1, nil, nil, 0 }

// online is how many clients are ready.
func (c *counts) online() int64 { return c.ready + c.returned - c.ended - c.cut }

// storm cuts every client that is ready and lets it come back. It returns how many there were.
func (e *engine) storm(s *Storm) int64 {
	n := make([]int64, len(e.loops))
	e.each(func(l *loop) {
		l.now = e.clock()
		l.waiting, l.started, l.rate, l.dialRound = nil, 0, s.Rate, l.now
		l.concurrent = len(l.clients) + 1 // a storm waits for nobody
		l.retries.storm = *s
		for _, c := range l.clients {
			if c.stage == ready {
				l.cut(c, false)
				l.waiting = append(l.waiting, c)
			}
		}
		n[l.index] = int64(len(l.waiting))
	})
	var sum int64
	for _, v := range n {
		sum += v
	}
	return sum
}

// storm runs the storm of a plan.
func (r *runner) storm(ctx context.Context) error {
	e := r.e
	settled := e.settled.Load()
	began := time.Now()
	n := e.storm(e.plan.Storm)
	err := e.await(ctx, settled+n, func() { r.second("storm") },
		func(c counts) bool { return c.returned+c.stayed >= n })
	r.report.Return = &Return{Time: time.Since(began), At: began.Sub(r.began)}
	if err != nil {
		return err
	}
	return r.pass(ctx, "hold", e.plan.Duration)
}

// churner cuts the clients of a group one after the other.
type churner struct {
	clients []*client
	period  int64 // ns from one client to the next
	next    int
	due     int64 // Unix ns
}

// beginChurn makes the churners of the loop's share of the groups.
func (l *loop) beginChurn(now int64) {
	var last *group
	for _, c := range l.clients {
		if c.group.Churn <= 0 {
			continue
		}
		if c.group != last { // a group's clients follow one another
			last = c.group
			l.churners = append(l.churners, churner{})
		}
		h := &l.churners[len(l.churners)-1]
		h.clients = append(h.clients, c)
	}
	for i := range l.churners {
		h := &l.churners[i]
		h.period = int64(h.clients[0].group.Churn) / int64(len(h.clients))
		h.due = now + h.period
	}
}

// churn cuts who is due, and lets who is away try again.
func (l *loop) churn() {
	for i := range l.churners {
		h := &l.churners[i]
		for h.due <= l.now {
			c := h.clients[h.next]
			if c.stage == ready || c.stage == closed {
				l.cut(c, c.stage == ready && c.round%2 == 1)
				l.begin(c, h.due)
			}
			h.next = (h.next + 1) % len(h.clients)
			h.due += h.period
		}
	}
}

// apart works out what is reported of clients that were cut and of groups that are counted apart.
func (r *runner) apart(count counts) {
	e, rep := r.e, &r.report
	if count.cut > 0 || rep.Return != nil {
		if rep.Return == nil {
			rep.Return = &Return{}
		}
		rep.Return.Cut, rep.Return.Returned = count.cut, count.returned
		rep.Return.Failed, rep.Return.Resumed = count.stayed, count.resumed
		rep.Return.Retried = count.retried
		returns, away := newHistogram(), newHistogram()
		for _, l := range e.loops {
			returns.Merge(l.returns.now)
			away.Merge(l.away.now)
		}
		rep.Return.Latency, rep.Return.Away = percentiles(returns), percentiles(away)
		rep.Return.Distribution = distribution(away)
		if rep.Latency.Count == 0 && rep.Measured == 0 {
			rep.Distribution = distribution(returns)
		}
	}
	clients := 0
	for _, g := range e.groups {
		if g.Aside {
			clients += g.Count
		}
	}
	if clients == 0 {
		return
	}
	latency := newHistogram()
	for _, l := range e.loops {
		latency.Merge(l.aside.now) // of the whole run: what they read may have been due long ago
	}
	rep.Aside = &Aside{
		Clients: clients, Received: count.aside, Lost: e.lost(true), Latency: percentiles(latency),
	}
	if d := time.Since(r.began) - rep.Connect; d > 0 {
		rep.Aside.BytesPerSecond = float64(count.bytesAside) / d.Seconds() / float64(clients)
	}
}
