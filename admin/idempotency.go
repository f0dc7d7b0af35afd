package admin

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"maps"
	"net/http"
	"sync"
	"time"
)

// How many answers are kept for requests that are made again with the same Idempotency-Key, and how long.
// They are shared by principals: who has most loses the oldest, so that nobody's go for another's that has
// more.
const (
	repliesMax   = 10000
	repliesSize  = 64 << 20 // bytes of all bodies
	repliesKept  = 24 * time.Hour
	repliesSweep = time.Minute // how often those that are over are looked for
	keyMax       = 255         // bytes of a key
)

// replies keeps answers by principal and Idempotency-Key.
type replies struct {
	// Set by newReplies, then read-only:
	now func() time.Time

	mu    sync.Mutex
	of    map[string]*replyShare // by principal; none is empty
	count int
	size  int64 // bytes of bodies
	swept time.Time
}

// replyShare is the answers to a principal.
type replyShare struct {
	byKey map[string]*reply
	order list.List // of *reply, the oldest first
	size  int64
}

// reply is an answer, or that one is being made.
type reply struct {
	request [sha256.Size]byte // method, path, precondition and body
	done    bool
	status  int
	header  http.Header
	body    []byte

	// Owned by replies:
	principal, key string
	at             *list.Element // in order; nil: it is not kept
	over           time.Time
	counted        int64 // of body, in sizes
}

func newReplies() *replies { return &replies{now: time.Now, of: make(map[string]*replyShare)} }

// begin keeps r, to which nothing has been answered yet, unless there is one of the key: then it returns
// that.
func (p *replies) begin(principal, key string, r *reply) (old *reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweepLocked()
	share := p.of[principal]
	if share == nil {
		share = &replyShare{byKey: make(map[string]*reply)}
		p.of[principal] = share
	}
	if old = share.byKey[key]; old != nil {
		return old
	}
	r.principal, r.key, r.over = principal, key, p.now().Add(repliesKept)
	r.at = share.order.PushBack(r)
	share.byKey[key] = r
	p.count++
	p.makeRoomLocked()
	return nil
}

// end keeps what was answered, if r was not pushed out meanwhile.
func (p *replies) end(r *reply, rec *recorder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.at == nil {
		return
	}
	if rec.status == 0 || rec.status >= http.StatusInternalServerError ||
		rec.status == http.StatusTooManyRequests {
		p.forgetLocked(r) // it may be tried again
		return
	}
	r.done, r.status, r.header, r.body = true, rec.status, rec.Header().Clone(), rec.body.Bytes()
	r.counted = int64(len(r.body))
	p.size += r.counted
	p.of[r.principal].size += r.counted
	p.makeRoomLocked()
}

// makeRoomLocked forgets the oldest of who has most: places, or bytes.
func (p *replies) makeRoomLocked() {
	for p.count > repliesMax || p.size > repliesSize {
		var most *replyShare
		for _, x := range p.of {
			more := most == nil || x.order.Len() > most.order.Len()
			if most != nil && p.count <= repliesMax {
				more = x.size > most.size
			}
			if more {
				most = x
			}
		}
		p.forgetLocked(most.order.Front().Value.(*reply))
	}
}

// sweepLocked forgets what is over.
func (p *replies) sweepLocked() {
	now := p.now()
	if now.Sub(p.swept) < repliesSweep {
		return
	}
	p.swept = now
	for _, x := range p.of {
		for at := x.order.Front(); at != nil; at = x.order.Front() {
			r := at.Value.(*reply)
			if now.Before(r.over) {
				break
			}
			p.forgetLocked(r)
		}
	}
}

func (p *replies) forgetLocked(r *reply) {
	x := p.of[r.principal]
	x.order.Remove(r.at)
	r.at = nil
	delete(x.byKey, r.key)
	x.size -= r.counted
	p.size -= r.counted
	p.count--
	if x.order.Len() == 0 {
		delete(p.of, r.principal)
	}
}

// recorder keeps what a handler answers while it is written.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

// once serves a request, or answers as it was answered before. The body has been read.
func (p *replies) once(w http.ResponseWriter, r *http.Request, c *call, serve http.HandlerFunc) {
	principal, body := c.principal, c.body
	key := r.Header.Get("Idempotency-Key")
	switch {
	case key == "":
		serve(w, r)
		return
	case len(key) > keyMax:
		fail(w, http.StatusBadRequest, "Idempotency-Key is too long")
		return
	}
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.RequestURI(), r.Header.Get("If-Match")} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(body)
	mine := &reply{}
	copy(mine.request[:], h.Sum(nil))
	if old := p.begin(principal, key, mine); old != nil {
		p.again(w, old, mine)
		return
	}
	rec := &recorder{ResponseWriter: w}
	defer p.end(mine, rec)
	serve(rec, r)
}

// again answers a request that was made before.
func (p *replies) again(w http.ResponseWriter, old, now *reply) {
	p.mu.Lock()
	same, done := old.request == now.request, old.done
	p.mu.Unlock()
	switch {
	case !same:
		fail(w, http.StatusUnprocessableEntity, "Idempotency-Key was used for another request")
		return
	case !done:
		fail(w, http.StatusConflict, "the request is being worked on")
		return
	}
	maps.Copy(w.Header(), old.header)
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(old.status)
	_, _ = w.Write(old.body)
}
