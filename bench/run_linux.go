package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sample is one look at everything.
type sample struct {
	at    time.Time
	count counts
	usage Usage
	own   time.Duration
}

// runner drives one run.
type runner struct {
	e       *engine
	opts    Options
	began   time.Time
	last    sample
	report  Report
	watched error
}

// Run does what the plan says and reports it. The report is valid, as far as it goes, also with an error.
func Run(ctx context.Context, target Target, plan Plan, opts Options) (*Report, error) {
	e, err := newEngine(target, plan)
	if err != nil {
		return nil, err
	}
	r := &runner{e: e, opts: opts, began: time.Now()}
	r.report.Name, r.report.Plan = plan.Name, e.plan
	r.report.Target, r.report.Groups, r.report.Machine = e.target.String(), e.plan.words(), ThisMachine()
	r.report.Began = r.began
	if opts.AskVersion {
		r.report.BrokerVersion = brokerVersion(ctx, e.target)
		r.began = time.Now()
		r.report.Began = r.began
	}
	before := r.look()
	r.last = before
	if err := e.start(); err != nil {
		e.stop()
		return nil, err
	}
	err = r.phases(ctx, before)
	r.finish(err)
	if target.Persistent && !opts.KeepSessions {
		err = errors.Join(err, e.endSessions(ctx))
	}
	return &r.report, errors.Join(err, r.watched)
}

// endSessions connects every client once more, with a clean session, and is done with it: the broker has
// nothing left of them. The engine has stopped.
func (e *engine) endSessions(ctx context.Context) error {
	target := e.target
	target.Persistent, target.Will = false, nil
	plan := Plan{
		Threads: e.plan.Threads, Concurrent: e.plan.Concurrent, ConnectRate: e.plan.ConnectRate,
		OwnFiles: e.plan.OwnFiles,
	}
	for _, g := range e.plan.Groups {
		plan.Groups = append(plan.Groups, Group{Name: g.Name, Count: g.Count})
	}
	again, err := newEngine(target, plan)
	if err != nil {
		return err
	}
	defer again.stop()
	if err := again.start(); err != nil {
		return err
	}
	if ctx.Err() != nil { // the user's end of the run is not the end of tidying up
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
	}
	if err := again.connect(ctx, func() {}); err != nil {
		return fmt.Errorf("bench: sessions are left behind: %w", err)
	}
	if n := again.total().failed; n > 0 {
		return fmt.Errorf("bench: %d sessions may be left behind", n)
	}
	return nil
}

// cleanupTime is how long ending the sessions of a run that was stopped may take.
const cleanupTime = 10 * time.Second

func (r *runner) phases(ctx context.Context, before sample) error {
	e, presub := r.e, r.e.plan.presub
	back := presub.leave(ctx, e)
	if err := e.connect(ctx, func() { r.second("connect") }); err != nil {
		return errors.Join(err, back())
	}
	r.report.Connect = time.Since(r.began)
	if err := back(); err != nil {
		return err
	}
	if presub != nil {
		if err := presub.waiting(ctx, r); err != nil {
			return err
		}
	}
	if err := r.pass(ctx, "hold", e.plan.Hold); err != nil {
		return err
	}
	idle := r.look()
	if n := idle.count.ready - before.count.ready; n > 0 && r.opts.PID > 0 {
		r.report.Broker.ResidentPerClient = float64(idle.usage.Resident-before.usage.Resident) / float64(n)
		r.report.Broker.ConnectCPU = idle.usage.CPU - before.usage.CPU
	}
	switch {
	case presub != nil:
		return presub.holding(ctx, r)
	case e.plan.Storm != nil:
		return r.storm(ctx)
	case e.plan.Duration <= 0:
		return nil
	case e.plan.collects():
		return r.collect(ctx)
	}
	from := e.clock() + int64(e.plan.Warmup)
	to := from + int64(e.plan.Duration)
	e.publish(from, to)
	if err := r.pass(ctx, "warm-up", time.Duration(from-e.clock())); err != nil {
		return err
	}
	first := r.look()
	trace := r.trace(ctx)
	err := r.publishing(ctx, to)
	r.measured(first, r.look())
	r.traced(trace)
	if err != nil {
		return err
	}
	e.quiet(ctx)
	r.second("drain")
	return nil
}

// publishing waits until the measured part is over.
func (r *runner) publishing(ctx context.Context, to int64) error {
	left := time.Duration(to - r.e.clock())
	if !r.e.plan.UntilDone {
		return r.pass(ctx, "measure", left)
	}
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for r.e.clock() < to && (!r.e.done() || r.e.open() > 0) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		}
		if time.Since(r.last.at) >= time.Second {
			r.second("measure")
		}
	}
	r.second("measure")
	return nil
}

// pass lets time pass, looking once a second.
func (r *runner) pass(ctx context.Context, phase string, d time.Duration) error {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		t := time.NewTimer(min(left, time.Second))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if left > time.Second/2 {
			r.second(phase)
		}
	}
}

func (r *runner) look() sample {
	s := sample{at: time.Now(), own: ownCPU()}
	if r.e.started {
		s.count = r.e.total()
	}
	if r.opts.PID > 0 {
		var err error
		if s.usage, err = UsageOf(r.opts.PID); err != nil && r.watched == nil {
			r.watched = err
		}
	}
	return s
}

// second reports the time since the last one.
func (r *runner) second(phase string) {
	now := r.look()
	d := now.at.Sub(r.last.at)
	if d <= 0 {
		return
	}
	s := Second{
		Phase: phase, At: now.at.Sub(r.began), Length: d,
		Connected: now.count.online(), Failed: now.count.failed + now.count.ended + now.count.stayed,
		Sent: now.count.sent - r.last.count.sent, Received: now.count.received - r.last.count.received,
		Duplicated: now.count.duplicated - r.last.count.duplicated,
		Reordered:  now.count.reordered - r.last.count.reordered,
		CPU:        float64(now.usage.CPU-r.last.usage.CPU) / float64(d), Resident: now.usage.Resident,
	}
	all := newHistogram()
	parts := make([]func(), len(r.e.loops))
	r.e.each(func(l *loop) {
		h := l.latency.now
		l.latency.now = newHistogram()
		parts[l.index] = func() { all.Merge(h) }
	})
	for _, merge := range parts {
		merge()
	}
	s.Latency = percentiles(all)
	r.last = now
	r.report.Seconds = append(r.report.Seconds, s)
	if r.opts.Each != nil {
		r.opts.Each(s)
	}
}

// measured works out the figures of the measured part.
func (r *runner) measured(a, b sample) {
	rep := &r.report
	d := b.at.Sub(a.at)
	rep.Measured = d
	rep.Sent = b.count.sent - a.count.sent
	rep.Received = b.count.received - a.count.received
	rep.Acknowledged = b.count.acknowledged - a.count.acknowledged
	rep.BytesSent = b.count.bytesSent - a.count.bytesSent
	rep.BytesReceived = b.count.bytesReceived - a.count.bytesReceived
	rep.SentRate = float64(rep.Sent) / d.Seconds()
	rep.ReceivedRate = float64(rep.Received) / d.Seconds()
	rep.Generator.CPU = float64(b.own-a.own) / float64(d)
	rep.Generator.Reads = b.count.reads - a.count.reads
	rep.Generator.Writes = b.count.writes - a.count.writes
	if r.opts.PID == 0 {
		return
	}
	cpu := b.usage.CPU - a.usage.CPU
	rep.Broker.CPU = float64(cpu) / float64(d)
	rep.Broker.KernelShare = float64(b.usage.Kernel-a.usage.Kernel) / float64(max(cpu, 1))
	rep.Broker.Resident = b.usage.Resident
	if n := max(rep.Received, 0); n > 0 {
		rep.Broker.CPUPerMessage = float64(cpu.Nanoseconds()) / 1000 / float64(n)
	} else if rep.Sent > 0 {
		rep.Broker.CPUPerMessage = float64(cpu.Nanoseconds()) / 1000 / float64(rep.Sent)
	}
}

// finish stops the loops and counts what is left to count.
func (r *runner) finish(err error) {
	e, rep := r.e, &r.report
	count := e.total()
	e.stop()
	rep.Took = time.Since(r.began)
	rep.Clients, rep.Connected = e.plan.clients(), count.ready
	rep.Failed, rep.Ended = count.failed, count.ended
	rep.TotalSent, rep.TotalReceived = count.sent, count.received
	rep.Duplicated, rep.Reordered = count.duplicated, count.reordered
	rep.Foreign, rep.Refused, rep.Pings = count.foreign, count.refused, count.pings
	rep.Failures = map[string]int64{}
	latency, lateness, connects := newHistogram(), newHistogram(), newHistogram()
	for _, l := range e.loops {
		latency.Merge(l.latency.all)
		latency.Merge(l.collects.now)
		lateness.Merge(l.lateness.all)
		connects.Merge(l.connects.now)
		for text, n := range l.failures {
			rep.Failures[text] += n
		}
	}
	rep.Latency, rep.Generator.Lateness = percentiles(latency), percentiles(lateness)
	rep.ConnectLatency = percentiles(connects)
	rep.Distribution = distribution(latency)
	if rep.Latency.Count == 0 && rep.Measured == 0 {
		rep.Distribution = distribution(connects)
	}
	rep.Lost = e.lost(false)
	if p := e.plan.presub; p != nil {
		p.told(rep, e, count)
	}
	r.apart(count)
	rep.Broker.Slope = slope(rep.Seconds)
	for _, p := range e.publishers {
		rep.Unacknowledged += p.unacked
	}
	if err != nil {
		rep.Error = err.Error()
	}
	rep.Warnings = rep.warnings()
}
