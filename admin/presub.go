package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"noctule/broker/behalf"
	"noctule/broker/presub"
	"noctule/codec"
)

// Presub is the HTTP door of pre-subscription: the subscriptions of sessions, batches, jobs, explanations,
// and the engine's metrics. Every request needs one of the tokens; without tokens there are only the metrics.
func Presub(e *presub.Engine, t *Tokens) *Door {
	d := &Door{e: e, replies: newReplies(), jobs: newJobs(e), operations: newOperations(), pages: newPages()}
	d.tokens.Store(t)
	return d
}

// SetTokens replaces the tokens; nil closes the door. Requests that have begun are answered, jobs of
// principals that have no token any more that may do the same are stopped.
func (d *Door) SetTokens(t *Tokens) {
	d.tokens.Store(t)
	d.pages.endAll()
	d.jobs.stop(func(x *job) bool { return !t.writes(x.Principal, x.tenants) })
}

// add implements Part.
func (d *Door) add(mux *http.ServeMux, reg prometheus.Registerer) {
	reg.MustRegister(d.e)
	for _, x := range d.routes() {
		mux.HandleFunc(x.method+" "+x.path, d.guard(x.serve))
	}
}

// route is one of the door's.
type route struct {
	method, path string
	serve        func(w http.ResponseWriter, r *http.Request, c *call)
}

// routes are all of the door's; openapi.yaml describes each.
func (d *Door) routes() []route {
	const session, job = "/api/v1/sessions/{clientid}", "/api/v1/presub/jobs/{id}"
	return []route{
		{"GET", "/api/v1/openapi.yaml", describe},
		{"GET", "/api/v1/sessions", d.listSessions},
		{"GET", session, d.getSession},
		{"DELETE", session + "/connection", d.disconnect},
		{"DELETE", "/api/v1/connections", d.disconnectUser},
		{"GET", session + "/subscriptions", d.get},
		{"PUT", session + "/subscriptions", d.change},
		{"DELETE", session + "/subscriptions", d.change},
		{"POST", "/api/v1/presub", d.batch},
		{"GET", "/api/v1/presub/pending", d.pending},
		{"GET", "/api/v1/operations/{id}", d.operation},
		{"POST", "/api/v1/presub/move", d.move},
		{"GET", "/api/v1/presub/explain", d.explain},
		{"POST", "/api/v1/presub/jobs", d.startJob},
		{"GET", "/api/v1/presub/jobs", d.listJobs},
		{"GET", job, d.getJob},
		{"DELETE", job, d.stopJob},
		{"GET", "/api/v1/bans", d.listBans},
		{"POST", "/api/v1/bans", d.addBan},
		{"DELETE", "/api/v1/bans/{kind}/{name}", d.removeBan},
	}
}

// Door is the Part that Presub makes. Any goroutine may use it.
type Door struct {
	// Set by Presub, then read-only:
	e          *presub.Engine
	replies    *replies
	jobs       *jobs
	operations *operations
	pages      *pages

	// Atomic:
	tokens atomic.Pointer[Tokens]

	denials denials
}

// bodyMax is the longest body, in bytes.
const bodyMax = 16 << 20

// requestTime is how long a request is worked on.
const requestTime = 25 * time.Second

// call is a request of a known principal.
type call struct {
	grant
	body []byte
}

func (c *call) caller() presub.Caller {
	return presub.Caller{Door: presub.HTTP, Principal: c.principal, Allowed: true, Tenants: c.tenants}
}

// guard finds the principal, sees to it that a token that is read-only changes nothing, reads the body, and
// sees to requests that are made again.
func (d *Door) guard(serve func(w http.ResponseWriter, r *http.Request, c *call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tokens := d.tokens.Load()
		if tokens == nil {
			fail(w, http.StatusNotFound, "the API is closed: there are no tokens")
			return
		}
		g, ok := tokens.grant(r)
		if !ok {
			d.denied(r)
			w.Header().Set("WWW-Authenticate", `Bearer realm="noctule"`)
			fail(w, http.StatusUnauthorized, "a bearer token is needed")
			return
		}
		if g.readOnly && r.Method != http.MethodGet && r.Method != http.MethodHead {
			d.onlyReads(r, &g)
			fail(w, http.StatusForbidden, "the token is read-only")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
		if err != nil {
			var long *http.MaxBytesError
			if errors.As(err, &long) {
				d.refused(r, &call{grant: g}, http.StatusRequestEntityTooLarge)
				fail(w, http.StatusRequestEntityTooLarge, "the body is too long")
				return
			}
			fail(w, http.StatusBadRequest, "the body cannot be read")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		r = r.WithContext(ctx)
		c := &call{grant: g, body: body}
		status := &statusOnly{ResponseWriter: w}
		w = status
		defer func() { d.refused(r, c, status.code) }()
		if r.Method == http.MethodGet {
			serve(w, r, c)
			return
		}
		d.replies.once(w, r, c, func(w http.ResponseWriter, r *http.Request) { serve(w, r, c) })
	}
}

// respond writes JSON.
func respond(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// fail answers a request that nothing was done for, as all answers are.
func fail(w http.ResponseWriter, status int, text string) {
	tryAgain(w, status)
	respond(w, status, &presub.Answer{Code: uint8(codeOf(status)), Error: text, Results: []presub.Result{}})
}

// codeOf is the code of an answer that goes with a status.
func codeOf(status int) behalf.Code {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return behalf.NotAllowed
	case http.StatusNotFound:
		return behalf.NoSession
	case http.StatusPreconditionFailed:
		return behalf.WrongRevision
	case http.StatusTooManyRequests:
		return behalf.TooMuch
	case http.StatusServiceUnavailable:
		return behalf.Busy
	case http.StatusInternalServerError:
		return behalf.Unavailable
	default:
		return behalf.Malformed
	}
}

// holding is the subscriptions of one origin in JSON.
type holding struct {
	Origin   string         `json:"origin"`
	Revision uint64         `json:"revision,omitempty"`
	Topics   []presub.Topic `json:"topics"`
	Muted    []string       `json:"muted,omitempty"` // of Topics: the client has unsubscribed from them
}

// listing is the subscriptions of a session in JSON.
type listing struct {
	ClientID  string    `json:"clientid"`
	Username  string    `json:"username,omitempty"`
	Session   bool      `json:"session"` // false: something waits for its client, no more
	Connected bool      `json:"connected"`
	Revision  uint64    `json:"revision"`
	Origins   []holding `json:"origins"`
	Pending   []waiting `json:"pending,omitempty"`
}

func (d *Door) get(w http.ResponseWriter, r *http.Request, c *call) {
	l, err := d.e.List(r.Context(), r.PathValue("clientid"))
	gone := errors.Is(err, behalf.ErrNoSession)
	switch {
	case gone && len(l.Pending) == 0, (gone || err == nil) && !d.e.Sees(c.caller(), l.ClientID, l.Username):
		fail(w, http.StatusNotFound, "no such session")
		return
	case err != nil && !gone:
		unanswered(w)
		return
	}
	out := listingOf(&l, err == nil)
	tag := out.tag()
	w.Header().Set("ETag", tag)
	if known(r.Header.Values("If-None-Match"), tag) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	respond(w, http.StatusOK, &out)
}

// listingOf is a listing in JSON; session says that there is one.
func listingOf(l *behalf.Listing, session bool) listing {
	out := listing{
		ClientID: l.ClientID, Username: l.Username, Session: session, Connected: l.Connected,
		Revision: l.Revision, Origins: []holding{},
	}
	for _, h := range l.Holdings {
		out.Origins = append(out.Origins, holding{
			Origin: h.Origin, Revision: h.Revision, Topics: presub.TopicsOf(h.Topics, h.Ends),
			Muted: slices.Sorted(slices.Values(h.Muted)),
		})
	}
	for i := range l.Pending {
		out.Pending = append(out.Pending, waitingOf(&l.Pending[i]))
	}
	return out
}

func etag(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }

// order is the body of PUT and DELETE.
type order struct {
	Topics    []presub.Topic  `json:"topics"`
	Origin    string          `json:"origin"`
	Wait      *int            `json:"wait_seconds"`
	ExpiresIn presub.Lifetime `json:"expires_in"`
}

// change makes a list the one that the session has of the principal (PUT), or ends some topics or all
// (DELETE).
func (d *Door) change(w http.ResponseWriter, r *http.Request, c *call) {
	var o order
	if len(c.body) > 0 || r.Method == http.MethodPut {
		if err := presub.Decode(c.body, &o); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	e := presub.Entry{
		ClientID: r.PathValue("clientid"), Action: "replace",
		Origin: o.Origin, Wait: o.Wait, ExpiresIn: o.ExpiresIn, Topics: o.Topics,
	}
	q := r.URL.Query()
	switch names := q["origin"]; {
	case len(names) > 1, len(names) == 1 && o.Origin != "" && o.Origin != names[0]:
		fail(w, http.StatusBadRequest, "there is more than one origin")
		return
	case len(names) == 1:
		e.Origin = names[0]
	}
	if r.Method == http.MethodDelete {
		if err := removal(&e, q["topic"]); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	if status, err := d.precondition(r, c, &e); err != nil {
		fail(w, status, err.Error())
		return
	}
	entries := []presub.Entry{e}
	if err := presub.CheckEntries(entries); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	list, err := d.do(w, r, c, entries)
	if err != nil {
		failure(w, err)
		return
	}
	a := &list[0]
	if a.Revision > 0 {
		w.Header().Set("ETag", etag(a.Revision))
	}
	status := statusOf(a)
	tryAgain(w, status)
	respond(w, status, a)
}

// removal makes an entry of a DELETE: it ends the topics that the body and the query name, and all of the
// origin only when neither names any. A list in the body without a topic is no way to say all.
func removal(e *presub.Entry, query []string) error {
	none := 0
	e.Wait = &none
	if e.Topics != nil && len(e.Topics)+len(query) == 0 {
		return errors.New("the list has no topic; without a list all are removed")
	}
	for _, t := range query {
		e.Topics = append(e.Topics, presub.Topic{Topic: t})
	}
	if len(e.Topics) > 0 {
		e.Action = "unsubscribe"
	} else {
		e.Topics = []presub.Topic{}
	}
	return nil
}

// tryAgain says when a request that was refused for the time being may be made again: RFC 9110, 10.2.3, and
// RFC 6585, 4.
func tryAgain(w http.ResponseWriter, status int) {
	switch status {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "10")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
}

// statusOf is the HTTP status of an answer.
func statusOf(a *presub.Answer) int {
	switch behalf.Code(a.Code) {
	case behalf.Done:
		for _, r := range a.Results {
			if r.State == "pending" {
				return http.StatusAccepted
			}
		}
		return http.StatusOK
	case behalf.NoSession:
		return http.StatusNotFound
	case behalf.NotAllowed:
		return http.StatusForbidden
	case behalf.WrongRevision:
		return http.StatusPreconditionFailed
	case behalf.TooMuch:
		return http.StatusTooManyRequests
	default:
		return http.StatusServiceUnavailable
	}
}

// unanswered says that the broker has not told in time what there is.
func unanswered(w http.ResponseWriter) {
	fail(w, http.StatusServiceUnavailable, "no answer in time")
}

func failure(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if errors.Is(err, presub.ErrNotAllowed) || errors.Is(err, presub.ErrOrigin) {
		status = http.StatusForbidden
	}
	if errors.Is(err, presub.ErrNotDone) {
		status = http.StatusServiceUnavailable
	}
	fail(w, status, err.Error())
}

// batch answers entries, as over MQTT.
func (d *Door) batch(w http.ResponseWriter, r *http.Request, c *call) {
	list, binary, err := presub.ParseEntries(c.body)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	answers, err := d.do(w, r, c, list)
	if err != nil {
		failure(w, err)
		return
	}
	b, err := presub.EncodeAnswers(answers, binary, len(list) == 1)
	if err != nil {
		fail(w, http.StatusInternalServerError, "the answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if binary {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	_, _ = w.Write(b)
}

func (d *Door) explain(w http.ResponseWriter, r *http.Request, c *call) {
	id, topic := r.URL.Query().Get("clientid"), r.URL.Query().Get("topic")
	if err := codec.CheckTopicName([]byte(topic)); err != nil || id == "" {
		fail(w, http.StatusBadRequest, "clientid and topic are needed; topic is a topic name")
		return
	}
	x, err := d.e.Explain(r.Context(), id, topic)
	if err != nil {
		unanswered(w)
		return
	}
	if !d.e.Sees(c.caller(), x.ClientID, x.Username) {
		x = presub.Explanation{ClientID: id, Topic: topic, Matches: []presub.Match{}}
	}
	if !x.Session {
		respond(w, http.StatusNotFound, &x)
		return
	}
	respond(w, http.StatusOK, &x)
}

// moveOrder is the body of POST /api/v1/presub/move.
type moveOrder struct {
	Origin string         `json:"origin"`
	From   []presub.Topic `json:"from"`
	To     []presub.Topic `json:"to"`
}

// moved is how many sessions have another list.
type moved struct {
	Sessions int `json:"sessions"`
}

// move edits a list that many sessions have.
func (d *Door) move(w http.ResponseWriter, r *http.Request, c *call) {
	var o moveOrder
	if err := presub.Decode(c.body, &o); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if len(o.From) == 0 {
		fail(w, http.StatusBadRequest, "from has no topics")
		return
	}
	n, err := d.e.Move(r.Context(), c.caller(), o.Origin, o.From, o.To)
	if err != nil {
		failure(w, err)
		return
	}
	respond(w, http.StatusOK, &moved{n})
}
