package traffic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	messages = 12 // of a message minute
	periods  = 10 // of ten idle minutes
)

// Options says what to measure.
type Options struct {
	Noctule string       // our program's path; "": without ours
	Only    []string     // names of stacks; all if empty
	Real    bool         // no time is compressed: a run takes ten minutes
	Log     func(string) // progress; may be nil

	Now func() time.Time // tells the windows' bounds, nothing else
}

// pace is how long things last.
type pace struct {
	gap    time.Duration // between messages
	calm   time.Duration // before a ping that follows messages, and before the last of these
	period time.Duration // between keep-alives
	hold   time.Duration // how long a server may hold a poll
	probe  time.Duration // idle time until a TCP keep-alive; 0: none
}

// pace is the paper's minute, or one in which what cannot influence a count is left out. The gap stays above
// the longest delayed ACK and the shortest retransmission timeout, both 200 ms: closer messages would share
// ACKs. Before and behind the last message there is more of it: our broker takes note of a silence of two
// seconds.
func (o *Options) pace() pace {
	if o.Real {
		return pace{
			gap: 5 * time.Second, calm: 5 * time.Second,
			period: time.Minute, hold: time.Minute, probe: 45 * time.Second,
		}
	}
	return pace{
		gap: 300 * time.Millisecond, calm: 2300 * time.Millisecond,
		period: 300 * time.Millisecond, hold: 2 * time.Second,
	}
}

// Scenario names what is counted.
type Scenario string

// The scenarios. The ones that end in Ping have one ping of the protocol more in a message minute, and a ping
// instead of the end of a held poll in each idle minute.
const (
	Idle     Scenario = "10 minutes idle"
	IdlePing Scenario = "10 minutes idle, pings"
	Bare     Scenario = "12 x hello"
	BarePing Scenario = "12 x hello and a ping"
	Full     Scenario = "12 x hello in full"
	FullPing Scenario = "12 x hello in full and a ping"
)

// Window is what a scenario cost, and what a sniffer needs to count it again.
type Window struct {
	Count
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Ports []int     `json:"ports"` // the client's, of sockets that are still open at the end
}

// Row is what one protocol with one server costs.
type Row struct {
	Stack   string              `json:"stack"`
	Version string              `json:"version"`
	Way     string              `json:"way"`
	Counts  map[Scenario]Window `json:"counts"`
}

// Result is a run.
type Result struct {
	Real    bool              `json:"real"`
	Rows    []Row             `json:"rows"`
	Missing map[string]string `json:"missing"` // stack: why it was left out
}

// Measure starts the stacks that are installed and measures them all. A result that comes with an error is
// good for the rows that are in it.
func Measure(ctx context.Context, o Options) (*Result, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	dir, err := os.MkdirTemp("", "noctule-traffic")
	if err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	r := &run{Options: o, result: &Result{Real: o.Real, Missing: map[string]string{}}, timing: o.pace()}
	for _, s := range stacks(o.Noctule) {
		if !o.wants(s.name) {
			continue
		}
		o.Log("starting " + s.name)
		v, err := s.launch(ctx, filepath.Join(dir, s.name))
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("traffic: %w", ctx.Err())
		}
		if err != nil {
			r.result.Missing[s.name] = err.Error()
			o.Log(s.name + " is left out: " + err.Error())
			continue
		}
		defer v.stop()
		r.add(s, v.version, v.at)
	}
	if o.wants("net/http") {
		p := &pollServer{}
		at, stop, err := p.serve()
		if err != nil {
			return nil, err
		}
		defer stop()
		r.add(pollStack(p), "", places{web: at})
	}
	return r.result, r.do(ctx)
}

// wants tells whether a stack is asked for.
func (o *Options) wants(name string) bool {
	return len(o.Only) == 0 || slices.Contains(o.Only, name)
}

// run is a run in progress.
type run struct {
	Options
	timing pace
	result *Result
	rows   []*rowRun
}

// rowRun is a row in progress.
type rowRun struct {
	way
	at      places
	peer    receiver
	windows []*window
}

// window is one scenario on sockets of its own.
type window struct {
	scenario Scenario
	meter    *Meter
	session  session
	count    Window
}

func (r *run) add(s stack, version string, at places) {
	for _, w := range s.ways {
		r.result.Rows = append(r.result.Rows, Row{
			Stack: s.name, Version: version, Way: w.name, Counts: map[Scenario]Window{},
		})
		r.rows = append(r.rows, &rowRun{way: w, at: at})
	}
}

// do signs everybody in, then measures all at once, so that nobody's sign-in disturbs a window.
func (r *run) do(ctx context.Context) error {
	errs := make([]error, len(r.rows))
	for i, row := range r.rows {
		defer row.close()
		if errs[i] = r.connect(ctx, row); errs[i] != nil {
			r.Log(fmt.Sprintf("%s: %v", line(r.result.Rows[i].Stack, row.name), errs[i]))
		}
	}
	r.Log("measuring")
	var all sync.WaitGroup
	for i, row := range r.rows {
		if errs[i] == nil {
			all.Go(func() { errs[i] = r.measure(ctx, row) })
		}
	}
	all.Wait()
	var good []Row
	for i, row := range r.rows {
		name := line(r.result.Rows[i].Stack, row.name)
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", name, errs[i])
			r.result.Missing[name] = errs[i].Error()
			continue
		}
		for _, w := range row.windows {
			r.result.Rows[i].Counts[w.scenario] = w.count
		}
		good = append(good, r.result.Rows[i])
	}
	r.result.Rows = good
	return errors.Join(errs...)
}

// connect opens a row's sessions, one for each scenario.
func (r *run) connect(ctx context.Context, row *rowRun) (err error) {
	limit, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	row.peer, err = row.way.peer(limit, settings{NewMeter(0), r.timing.hold}, row.at)
	if err != nil {
		return fmt.Errorf("the receiver: %w", err)
	}
	scenarios := []Scenario{Bare, BarePing, Full, FullPing, Idle}
	if row.name == viaBOSH {
		scenarios = append(scenarios, IdlePing)
	}
	for _, s := range scenarios {
		w := &window{scenario: s, meter: NewMeter(r.timing.probe)}
		period := r.timing.period
		if row.held {
			period = time.Minute // as long as no held request may end
		}
		if row.held && s == Idle {
			period = r.timing.hold
		}
		if w.session, err = row.dial(limit, settings{w.meter, period}, row.at); err != nil {
			return err
		}
		row.windows = append(row.windows, w)
	}
	return nil
}

// measure measures a row's scenarios at once and asks the receiver whether all messages came.
func (r *run) measure(ctx context.Context, row *rowRun) error {
	errs := make([]error, len(row.windows)+1)
	var all sync.WaitGroup
	sent := 0
	for i, w := range row.windows {
		if w.scenario != Idle && w.scenario != IdlePing {
			sent += messages
		}
		all.Go(func() {
			if err := w.measure(ctx, r.timing, r.Now); err != nil {
				errs[i] = fmt.Errorf("%s: %w", w.scenario, err)
			}
		})
	}
	limit, cancel := context.WithTimeout(ctx, startTime+2*messages*r.timing.gap+r.timing.calm)
	defer cancel()
	all.Go(func() { errs[len(row.windows)] = row.peer.receive(limit, sent) })
	all.Wait()
	return errors.Join(errs...)
}

func (row *rowRun) close() {
	for _, w := range row.windows {
		w.session.close()
	}
	if row.peer != nil {
		row.peer.close()
	}
}

// measure counts what the scenario costs, from a quiet line to a quiet line.
func (w *window) measure(ctx context.Context, t pace, now func() time.Time) error {
	if w.scenario == Idle { // begin where a held request begins
		if err := w.session.idle(ctx); err != nil {
			return err
		}
	}
	if err := w.session.rest(ctx, look); err != nil { // what came since it signed in
		return err
	}
	before, err := w.meter.Settled(ctx)
	if err != nil {
		return err
	}
	from := now()
	if err := w.act(ctx, t); err != nil {
		return err
	}
	after, err := w.meter.Settled(ctx)
	w.count = Window{Count: after.Sub(before), From: from, To: now(), Ports: w.meter.ports()}
	return err
}

// act is the scenario's play.
func (w *window) act(ctx context.Context, t pace) error {
	steps, step, gap := messages, func() error { return w.session.send(ctx, false) }, t.gap
	switch w.scenario {
	case Idle:
		steps, step, gap = periods, func() error { return w.session.idle(ctx) }, 0
	case IdlePing:
		steps, step, gap = periods, func() error { return w.session.ping(ctx) }, t.period
		if gap == time.Minute {
			gap -= time.Second // before the server answers the held request
		}
	case Bare, BarePing:
	case Full, FullPing:
		step = func() error { return w.session.send(ctx, true) }
	}
	pings := w.scenario == BarePing || w.scenario == FullPing
	for i := range steps {
		if pings && i == steps-1 {
			gap = t.calm
		}
		if err := w.session.rest(ctx, gap); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	if !pings {
		return nil
	}
	if err := w.session.rest(ctx, gap); err != nil {
		return err
	}
	return w.session.ping(ctx)
}
