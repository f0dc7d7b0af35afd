package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker/presub"
)

// A job applies the same topics to many clients, set to set, at its own pace; its progress can be asked for.

// How many jobs are known, how many run at once, and how many targets one may have.
const (
	jobsMax    = 100
	jobsShare  = jobsMax * 3 / 4 // of one principal that have not ended
	jobsAtOnce = 4
	targetsMax = 1000000
	failedMax  = 100 // targets that are named one by one
)

// jobOrder is the body of POST /api/v1/presub/jobs.
type jobOrder struct {
	ClientIDs []string        `json:"clientids"`
	Usernames []string        `json:"usernames"`
	Action    string          `json:"action"`
	Origin    string          `json:"origin"`
	Wait      *int            `json:"wait_seconds"`
	ExpiresIn presub.Lifetime `json:"expires_in"`
	Topics    []presub.Topic  `json:"topics"`
}

// entry is the entry for one target; usernames follow the client ids.
func (o *jobOrder) entry(i int) presub.Entry {
	e := presub.Entry{
		Action: o.Action, Origin: o.Origin, Wait: o.Wait, ExpiresIn: o.ExpiresIn, Topics: o.Topics,
	}
	if i < len(o.ClientIDs) {
		e.ClientID = o.ClientIDs[i]
	} else {
		e.Username = o.Usernames[i-len(o.ClientIDs)]
	}
	return e
}

// job is one of them, and its progress in JSON.
type job struct {
	ID        string          `json:"id"`
	Principal string          `json:"principal"`
	State     string          `json:"state"` // waiting, running, done, stopped
	Total     int             `json:"total"`
	Done      int             `json:"done"` // targets answered
	Sessions  int             `json:"sessions"`
	Results   map[string]int  `json:"results"` // topics by state, over all sessions
	Codes     map[string]int  `json:"codes"`   // topics by reason code, such as 0x87, over all sessions
	Failed    int             `json:"failed"`
	Failures  []presub.Answer `json:"failures,omitempty"` // the first of them
	Started   time.Time       `json:"started"`
	Ended     *time.Time      `json:"ended,omitempty"`

	tenants []string // of the caller

	order  jobOrder
	cancel context.CancelFunc
}

// jobs are those that are known.
type jobs struct {
	e    *presub.Engine
	slot chan struct{}

	mu   sync.Mutex
	list []*job // oldest first
}

func newJobs(e *presub.Engine) *jobs {
	return &jobs{e: e, slot: make(chan struct{}, jobsAtOnce)}
}

// start begins a job; false when there are too many that have not ended.
func (j *jobs) start(by presub.Caller, o jobOrder) (job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := 0
	for _, x := range j.list {
		if x.Principal == by.Principal && x.Ended == nil {
			own++
		}
	}
	if own >= jobsShare {
		return job{}, false
	}
	if len(j.list) >= jobsMax {
		i := slices.IndexFunc(j.list, func(x *job) bool { return x.Ended != nil })
		if i < 0 {
			return job{}, false
		}
		j.list = slices.Delete(j.list, i, i+1)
	}
	x := &job{
		ID: rand.Text(), Principal: by.Principal, tenants: by.Tenants,
		State: "waiting", Total: len(o.ClientIDs) + len(o.Usernames),
		Results: map[string]int{}, Codes: map[string]int{}, Started: time.Now().UTC(), order: o,
	}
	j.list = append(j.list, x)
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	j.e.Go(func(end context.Context) { // the engine's Close waits
		defer cancel()
		stop := context.AfterFunc(end, cancel)
		defer stop()
		j.run(ctx, x)
	})
	return x.copy(), true
}

// copy is the job as it is now. jobs.mu is held.
func (x *job) copy() job {
	c := *x
	c.Failures = slices.Clone(x.Failures)
	c.Results, c.Codes = maps.Clone(x.Results), maps.Clone(x.Codes)
	return c
}

// jobWorkers is how many targets of a job are worked on at a time: each may have to wait for a disk.
const jobWorkers = 16

// run works a job off.
func (j *jobs) run(ctx context.Context, x *job) {
	select {
	case j.slot <- struct{}{}:
		defer func() { <-j.slot }()
	case <-ctx.Done():
	}
	j.mu.Lock()
	x.State = "running"
	j.mu.Unlock()
	caller := presub.Caller{
		Door: presub.HTTP, Principal: x.Principal, Allowed: true, Tenants: x.tenants, Quiet: true,
	}
	var expires string
	if in := x.order.ExpiresIn; in != 0 {
		expires = (time.Duration(in) * time.Second).String()
	}
	j.e.Audit(caller, "job begins", "id", x.ID, "action", x.order.Action, "origin", x.order.Origin,
		"expires_in", expires, "targets", x.Total, "topics", len(x.order.Topics))
	var workers sync.WaitGroup
	var next atomic.Int64
	for range jobWorkers {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < x.Total && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				answers, err := j.e.Do(ctx, caller, []presub.Entry{x.order.entry(i)}, nil)
				if err != nil { // it is the same for all targets
					x.cancel()
					answers = append(answers, presub.Answer{Code: 0x80, Error: err.Error()})
				}
				j.note(x, answers)
			}
		})
	}
	workers.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now().UTC()
	x.State, x.Ended, x.order = "done", &now, jobOrder{}
	if x.Done < x.Total {
		x.State = "stopped"
	}
	j.e.Audit(caller, "job ends", "id", x.ID, "state", x.State, "done", x.Done, "sessions", x.Sessions,
		"failed", x.Failed)
}

// note counts the answers for one target.
func (j *jobs) note(x *job, answers []presub.Answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	x.Done++
	for i := range answers {
		a := &answers[i]
		if a.Code != 0 {
			x.Failed++
			if len(x.Failures) < failedMax {
				f := *a
				f.Results = []presub.Result{}
				x.Failures = append(x.Failures, f)
			}
			continue
		}
		x.Sessions++
		for _, r := range a.Results {
			x.Results[r.State]++
			x.Codes[fmt.Sprintf("0x%02x", r.Code)]++
		}
	}
}

// stop ends some jobs.
func (j *jobs) stop(which func(x *job) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range j.list {
		if which(x) {
			x.cancel()
		}
	}
}

// find is a job of a principal.
func (j *jobs) find(principal, id string) (*job, bool) {
	i := slices.IndexFunc(j.list, func(x *job) bool { return x.ID == id && x.Principal == principal })
	if i < 0 {
		return nil, false
	}
	return j.list[i], true
}

func (d *Door) startJob(w http.ResponseWriter, _ *http.Request, c *call) {
	var o jobOrder
	if err := presub.Decode(c.body, &o); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	n := len(o.ClientIDs) + len(o.Usernames)
	if n == 0 || n > targetsMax {
		fail(w, http.StatusBadRequest, "1 to 1000000 clientids and usernames are needed")
		return
	}
	for i := range n {
		e := o.entry(i)
		if err := presub.CheckEntries([]presub.Entry{e}); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	o.Topics = d.e.Timed(o.Topics, o.ExpiresIn) // at one time for all targets
	x, ok := d.jobs.start(c.caller(), o)
	if !ok {
		d.e.Refused(c.caller())
		d.e.Audit(c.caller(), "refused", "reason", "too many jobs")
		fail(w, http.StatusTooManyRequests, "too many jobs: 100, or 75 of this principal, have not ended")
		return
	}
	w.Header().Set("Location", "/api/v1/presub/jobs/"+x.ID)
	respond(w, http.StatusAccepted, &x)
}

func (d *Door) listJobs(w http.ResponseWriter, _ *http.Request, c *call) {
	d.jobs.mu.Lock()
	list := []job{}
	for _, x := range d.jobs.list {
		if x.Principal == c.principal {
			list = append(list, x.copy())
		}
	}
	d.jobs.mu.Unlock()
	respond(w, http.StatusOK, list)
}

func (d *Door) getJob(w http.ResponseWriter, r *http.Request, c *call) { d.job(w, r, c, false) }

func (d *Door) stopJob(w http.ResponseWriter, r *http.Request, c *call) { d.job(w, r, c, true) }

func (d *Door) job(w http.ResponseWriter, r *http.Request, c *call, stop bool) {
	d.jobs.mu.Lock()
	x, ok := d.jobs.find(c.principal, r.PathValue("id"))
	var out job
	if ok {
		if stop {
			x.cancel()
		}
		out = x.copy()
	}
	d.jobs.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "no such job")
		return
	}
	respond(w, http.StatusOK, &out)
}
