package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"noctule/broker"
	"noctule/codec"
)

// Sessions are listed a page at a time and their connections ended, by the doors that operators have.

// session is a session in JSON.
type session struct {
	ClientID      string     `json:"clientid"`
	Username      string     `json:"username,omitempty"`
	Connected     bool       `json:"connected"`
	Address       string     `json:"address,omitempty"`
	Listener      string     `json:"listener,omitempty"` // network and address as configured
	Version       string     `json:"version"`            // 3.1, 3.1.1 or 5
	KeepAlive     int        `json:"keep_alive_seconds"` // 0: none
	WebSocket     bool       `json:"websocket"`
	TLS           bool       `json:"tls"`
	Bridge        bool       `json:"bridge"`
	Expiry        *int64     `json:"expiry_seconds,omitempty"` // without: the session never ends by itself
	OfflineSince  *time.Time `json:"offline_since,omitempty"`
	Stored        bool       `json:"stored"` // it survives a restart
	Subscriptions int        `json:"subscriptions"`
	Granted       int        `json:"granted"` // subscriptions made by servers
	Queued        int        `json:"queued"`
	QueuedBytes   int64      `json:"queued_bytes"`
	Inflight      int        `json:"inflight"`
}

func sessionOf(c *broker.Client) session {
	s := session{
		ClientID: c.ID, Username: c.Username, Connected: c.Connected, Listener: c.Listener,
		Version: versionName(c.Version), KeepAlive: int(c.KeepAlive / time.Second), WebSocket: c.WebSocket,
		TLS: c.TLS, Bridge: c.Bridge, Stored: c.Stored, Subscriptions: c.Subscriptions, Granted: c.Granted,
		Queued: c.Queued, QueuedBytes: c.QueuedBytes, Inflight: c.Inflight,
	}
	if c.Address.IsValid() {
		s.Address = c.Address.String()
	}
	if c.Expiry != broker.SessionForever {
		n := int64(c.Expiry / time.Second)
		s.Expiry = &n
	}
	if !c.OfflineSince.IsZero() {
		at := c.OfflineSince.UTC()
		s.OfflineSince = &at
	}
	return s
}

func versionName(v codec.Version) string {
	switch v {
	case codec.V31:
		return "3.1"
	case codec.V311:
		return "3.1.1"
	default:
		return "5"
	}
}

// sessionsPage is a page of sessions in JSON.
type sessionsPage struct {
	Sessions []session `json:"sessions"`
	// Next is the cursor of the next page; without it this is the last. It is good for a minute.
	Next string `json:"next,omitempty"`
}

// Bounds of listings that are under way.
const (
	pagesMax   = 32
	pagesIdle  = time.Minute
	limitUsual = 100
	limitMax   = 1000
)

// pages are listings whose next page may be asked for. The longest idle of who has most gives way.
type pages struct {
	mu   sync.Mutex
	open map[string]*listingOpen
}

// listingOpen is one of them.
type listingOpen struct {
	id        string
	principal string
	cursor    *broker.Cursor[broker.Client]
	timer     *time.Timer // ends it when it is idle
	used      time.Time

	mu   sync.Mutex
	page int          // the number of last
	last sessionsPage // for who asks for it again
}

func newPages() *pages { return &pages{open: make(map[string]*listingOpen)} }

// begin makes a listing known.
func (p *pages) begin(principal string, cursor *broker.Cursor[broker.Client]) *listingOpen {
	x := &listingOpen{id: rand.Text(), principal: principal, cursor: cursor, used: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= pagesMax {
		p.endLocked(p.idleLocked())
	}
	p.open[x.id] = x
	x.timer = time.AfterFunc(pagesIdle, func() { p.end(x) })
	return x
}

// idleLocked is the longest idle of the principal that has most.
func (p *pages) idleLocked() *listingOpen {
	count := map[string]int{}
	for _, x := range p.open {
		count[x.principal]++
	}
	var out *listingOpen
	for _, x := range p.open {
		n, most := count[x.principal], 0
		if out != nil {
			most = count[out.principal]
		}
		if n > most || n == most && x.used.Before(out.used) {
			out = x
		}
	}
	return out
}

// find is the listing and number of a cursor that a page has named.
func (p *pages) find(principal, cursor string) (x *listingOpen, page int, ok bool) {
	id, number, _ := strings.Cut(cursor, ".")
	page, err := strconv.Atoi(number)
	p.mu.Lock()
	defer p.mu.Unlock()
	x = p.open[id]
	if err != nil || x == nil || x.principal != principal {
		return nil, 0, false
	}
	x.used = time.Now()
	x.timer.Reset(pagesIdle)
	return x, page, true
}

// endAll ends all listings: whom they were for may see others now.
func (p *pages) endAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.open {
		p.endLocked(x)
	}
}

func (p *pages) end(x *listingOpen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked(x)
}

func (p *pages) endLocked(x *listingOpen) {
	delete(p.open, x.id)
	x.timer.Stop()
	go x.cursor.Close() // behind a page that is being read; it ends with that
}

// read returns a page: the next, or the last one again.
func (x *listingOpen) read(ctx context.Context, page, limit int) (sessionsPage, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch page {
	case x.page:
		return x.last, nil
	case x.page + 1:
	default:
		return sessionsPage{}, broker.ErrCursor
	}
	list, err := x.cursor.Next(ctx, limit)
	if err != nil {
		return sessionsPage{}, err
	}
	out := sessionsPage{Sessions: make([]session, 0, len(list))}
	for i := range list {
		out.Sessions = append(out.Sessions, sessionOf(&list[i]))
	}
	if len(list) == limit {
		out.Next = x.id + "." + strconv.Itoa(page+1)
	}
	x.page, x.last = page, out
	return out, nil
}

// limitOf reads ?limit; a call that has another value is answered.
func limitOf(w http.ResponseWriter, r *http.Request) (limit int, ok bool) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return limitUsual, true
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > limitMax {
		fail(w, http.StatusBadRequest, "limit is 1 to "+strconv.Itoa(limitMax))
		return 0, false
	}
	return limit, true
}

// listSessions answers with a page of the sessions that the caller may see, those of a user or all.
func (d *Door) listSessions(w http.ResponseWriter, r *http.Request, c *call) {
	q := r.URL.Query()
	limit, ok := limitOf(w, r)
	if !ok {
		return
	}
	var x *listingOpen
	page := 1
	if cursor := q.Get("cursor"); cursor != "" {
		if x, page, ok = d.pages.find(c.principal, cursor); !ok {
			fail(w, http.StatusGone, "the cursor has ended: begin anew")
			return
		}
	} else {
		x = d.pages.begin(c.principal, d.e.Sessions(c.caller(), q["username"]))
	}
	out, err := x.read(r.Context(), page, limit)
	if err != nil {
		d.pages.end(x)
	}
	switch {
	case errors.Is(err, broker.ErrCursor):
		fail(w, http.StatusGone, "the cursor has ended: begin anew")
	case err != nil:
		unanswered(w)
	default:
		respond(w, http.StatusOK, &out)
	}
}

// getSession answers with one session.
func (d *Door) getSession(w http.ResponseWriter, r *http.Request, c *call) {
	s, ok, err := d.e.Session(r.Context(), c.caller(), r.PathValue("clientid"))
	switch {
	case err != nil:
		unanswered(w)
	case !ok:
		fail(w, http.StatusNotFound, "no such session")
	default:
		out := sessionOf(&s)
		respond(w, http.StatusOK, &out)
	}
}

// disconnected is how many connections a call has ended.
type disconnected struct {
	Disconnected int `json:"disconnected"`
}

// disconnect ends the connection of a client.
func (d *Door) disconnect(w http.ResponseWriter, r *http.Request, c *call) {
	will, ok := wantsWill(w, r)
	if !ok {
		return
	}
	n, err := d.e.Disconnect(r.Context(), c.caller(), r.PathValue("clientid"), will)
	switch {
	case err != nil:
		unanswered(w)
	case n == 0:
		fail(w, http.StatusNotFound, "it is not connected")
	default:
		respond(w, http.StatusOK, &disconnected{n})
	}
}

// disconnectUser ends the connections of a user.
func (d *Door) disconnectUser(w http.ResponseWriter, r *http.Request, c *call) {
	will, ok := wantsWill(w, r)
	if !ok {
		return
	}
	names := r.URL.Query()["username"]
	if len(names) != 1 {
		fail(w, http.StatusBadRequest, "one username is needed")
		return
	}
	n, err := d.e.DisconnectUser(r.Context(), c.caller(), names[0], will)
	if err != nil {
		unanswered(w)
		return
	}
	respond(w, http.StatusOK, &disconnected{n})
}

// wantsWill reads ?will; a call that has another value is answered.
func wantsWill(w http.ResponseWriter, r *http.Request) (will, ok bool) {
	switch r.URL.Query().Get("will") {
	case "", "true":
		return true, true
	case "false":
		return false, true
	}
	fail(w, http.StatusBadRequest, "will is true or false")
	return false, false
}
