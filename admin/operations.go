package admin

import (
	"crypto/rand"
	"net/http"
	"slices"
	"sync"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/presub"
)

// A request that was answered while entries of it wait for their clients is an operation: it says of each
// entry whether it has taken effect, has run out, or waits still.

// Bounds of what is known of operations. They are shared by principals: who has most loses the oldest.
const (
	operationsMax  = 10000
	operationsSize = 32 << 20 // bytes, about
	answersMax     = 100      // sessions of an entry that is for a user
	operationKept  = time.Hour
	operationGrace = 10 * time.Second // for the answer about an entry whose time is over
	operationCost  = 512
)

// operation is one of them in JSON.
type operation struct {
	ID      string    `json:"id"`
	State   string    `json:"state"` // waiting, or done when no entry waits any more
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"` // then it is forgotten
	Entries []outcome `json:"entries"` // those that were pending

	principal string
	size      int64
	added     bool
	early     []presub.Answer // what has come before it was added
}

// What has become of an entry.
const (
	outcomeWaiting    = "waiting"
	outcomeEffective  = "effective"
	outcomeExpired    = "expired"    // the client has not come in time
	outcomeFailed     = "failed"     // the client came, and answers say why it was not done
	outcomeWithdrawn  = "withdrawn"  // a later request has ended what waited
	outcomeSuperseded = "superseded" // the client came, and a later request had taken topics out
	outcomeUnknown    = "unknown"    // its time is over, and nothing was heard
)

// outcome is what has become of an entry, in JSON.
type outcome struct {
	Entry     int             `json:"entry"` // its place in the request, from 0
	ClientID  string          `json:"clientid,omitempty"`
	Username  string          `json:"username,omitempty"`
	Origin    string          `json:"origin"`
	RequestID string          `json:"request_id,omitempty"`
	State     string          `json:"state"`
	Until     time.Time       `json:"until"`
	Answers   []presub.Answer `json:"answers"` // of each session, as second answers over MQTT

	topics map[string]bool // that wait
}

// hear notes the answer for a session. It is about all requests that have been joined in one list.
func (x *outcome) hear(a *presub.Answer) {
	if len(x.Answers) < answersMax {
		x.Answers = append(x.Answers, *a)
	}
	missing := false
	for name := range x.topics {
		is := func(r presub.Result) bool { return r.Topic == name }
		missing = missing || !slices.ContainsFunc(a.Results, is)
	}
	removed := func(r presub.Result) bool { return r.State == "removed" }
	switch code := behalf.Code(a.Code); {
	case code == behalf.NoSession && slices.ContainsFunc(a.Results, removed):
		x.State = outcomeWithdrawn
	case code == behalf.NoSession:
		x.State = outcomeExpired
	case code != behalf.Done:
		x.State = outcomeFailed
	case missing:
		x.State = outcomeSuperseded
	default:
		x.State = outcomeEffective
	}
}

// operations are those that are known.
type operations struct {
	now func() time.Time

	mu    sync.Mutex
	of    map[string]*operationShare // by principal; none is empty
	byID  map[string]*operation
	size  int64
	swept time.Time // when those that are over were last looked for
}

// operationShare is the operations of a principal, the oldest first.
type operationShare struct {
	list []*operation
	size int64
}

// operationSweep is how often those that are over are looked for when there is no room.
const operationSweep = time.Minute

func newOperations() *operations {
	return &operations{
		now: time.Now, of: make(map[string]*operationShare), byID: make(map[string]*operation),
	}
}

// do answers entries. What becomes of those that are pending can be asked for where Location says.
func (d *Door) do(
	w http.ResponseWriter, r *http.Request, c *call, list []presub.Entry,
) ([]presub.Answer, error) {
	now := d.operations.now().UTC()
	op := &operation{ID: rand.Text(), State: outcomeWaiting, Created: now, principal: c.principal}
	caller := c.caller()
	answers, err := d.e.Do(r.Context(), caller, list, func(a presub.Answer) { d.operations.heard(op, a) })
	if err != nil {
		return nil, err
	}
	for i := range answers {
		a := &answers[i]
		e := &list[a.Entry]
		x := outcome{
			Entry: a.Entry, ClientID: e.ClientID, Username: e.Username, RequestID: e.RequestID,
			State: outcomeWaiting, Until: now.Add(d.e.Wait(e)), Answers: []presub.Answer{},
			topics: map[string]bool{},
		}
		if x.Origin, err = d.e.OriginName(caller, e.Origin); err != nil {
			return nil, err // Do would have said so
		}
		for _, t := range a.Results {
			if t.State == "pending" {
				x.topics[t.Topic] = true
			}
		}
		if len(x.topics) > 0 {
			op.Entries = append(op.Entries, x)
		}
	}
	if len(op.Entries) > 0 {
		d.operations.add(op)
		w.Header().Set("Location", "/api/v1/operations/"+op.ID)
	}
	return answers, nil
}

// add makes an operation known.
func (o *operations) add(op *operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op.Expires, op.size = op.Created, operationCost
	for i := range op.Entries {
		x := &op.Entries[i]
		if end := x.Until.Add(operationKept); end.After(op.Expires) {
			op.Expires = end
		}
		op.size += 256 + int64(len(x.ClientID)+len(x.Username)+len(x.Origin)+len(x.RequestID))
		for name := range x.topics {
			op.size += 32 + int64(len(name))
		}
	}
	op.added = true
	share := o.of[op.principal]
	if share == nil {
		share = &operationShare{}
		o.of[op.principal] = share
	}
	share.list = append(share.list, op)
	o.byID[op.ID] = op
	o.growLocked(op, op.size)
	for i := range op.early {
		o.heardLocked(op, &op.early[i])
	}
	op.early = nil
	o.makeRoomLocked()
}

// makeRoomLocked forgets what is over, and if that is not enough, the oldest of who has most.
func (o *operations) makeRoomLocked() {
	full := func() bool { return len(o.byID) > operationsMax || o.size > operationsSize }
	if !full() {
		return
	}
	if now := o.now(); now.Sub(o.swept) > operationSweep {
		o.swept = now
		for _, op := range o.byID {
			if now.After(op.Expires) {
				o.forgetLocked(op)
			}
		}
	}
	for full() {
		var most *operationShare
		for _, share := range o.of {
			if most == nil || share.size > most.size {
				most = share
			}
		}
		o.forgetLocked(most.list[0])
	}
}

// growLocked counts bytes of an operation.
func (o *operations) growLocked(op *operation, bytes int64) {
	o.of[op.principal].size += bytes
	o.size += bytes
}

func (o *operations) forgetLocked(op *operation) {
	delete(o.byID, op.ID)
	o.growLocked(op, -op.size)
	share := o.of[op.principal]
	share.list = slices.DeleteFunc(share.list, func(x *operation) bool { return x == op })
	if len(share.list) == 0 {
		delete(o.of, op.principal)
	}
}

// heard notes what has become of an entry of an operation.
func (o *operations) heard(op *operation, a presub.Answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !op.added {
		op.early = append(op.early, a) // one or so for each entry
		return
	}
	o.heardLocked(op, &a)
}

func (o *operations) heardLocked(op *operation, a *presub.Answer) {
	if o.byID[op.ID] != op {
		return
	}
	at := slices.IndexFunc(op.Entries, func(x outcome) bool { return x.Entry == a.Entry })
	if at < 0 {
		return
	}
	size := 128 + int64(len(a.ClientID)) + 64*int64(len(a.Results))
	op.size += size
	o.growLocked(op, size)
	op.Entries[at].hear(a)
	o.makeRoomLocked()
}

// find is an operation of a principal as it is now.
func (o *operations) find(principal, id string) (operation, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op := o.byID[id]
	now := o.now()
	if op == nil || op.principal != principal || now.After(op.Expires) {
		return operation{}, false
	}
	out := *op
	out.State, out.Entries = "done", slices.Clone(op.Entries)
	for i := range out.Entries {
		x := &out.Entries[i]
		x.Answers = slices.Clone(x.Answers)
		if x.State == outcomeWaiting && now.After(x.Until.Add(operationGrace)) {
			x.State = outcomeUnknown
		}
		if x.State == outcomeWaiting {
			out.State = outcomeWaiting
		}
	}
	return out, true
}

// operation tells of one.
func (d *Door) operation(w http.ResponseWriter, r *http.Request, c *call) {
	op, ok := d.operations.find(c.principal, r.PathValue("id"))
	if !ok {
		fail(w, http.StatusNotFound, "no such operation")
		return
	}
	respond(w, http.StatusOK, &op)
}
