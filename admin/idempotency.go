package admin

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/expirable"
)

// How many answers are kept for requests that are made again with the same Idempotency-Key, and how long.
const (
	repliesMax  = 10000
	repliesSize = 64 << 20 // bytes of all bodies
	repliesKept = 24 * time.Hour
	keyMax      = 255 // bytes of a key
)

// replies keeps answers by principal and Idempotency-Key.
type replies struct {
	mu   sync.Mutex
	kept *lru.LRU[string, *reply]
	size atomic.Int64 // bytes of bodies
}

// reply is an answer, or that one is being made.
type reply struct {
	request [sha256.Size]byte // method, path, precondition and body
	done    bool
	status  int
	header  http.Header
	body    []byte
	counted atomic.Int64 // of body, in replies.size
}

func newReplies() *replies {
	p := &replies{}
	p.kept = lru.NewLRU(repliesMax, func(_ string, r *reply) { p.size.Add(-r.counted.Swap(0)) }, repliesKept)
	return p
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
	id := principal + "\x00" + key
	p.mu.Lock()
	old, known := p.kept.Get(id)
	if !known {
		p.kept.Add(id, mine)
	}
	p.mu.Unlock()
	if known {
		p.again(w, old, mine)
		return
	}
	rec := &recorder{ResponseWriter: w}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if rec.status == 0 || rec.status >= http.StatusInternalServerError ||
			rec.status == http.StatusTooManyRequests {
			p.kept.Remove(id) // it may be tried again
			return
		}
		mine.done, mine.status, mine.header = true, rec.status, w.Header().Clone()
		mine.body = rec.body.Bytes()
		if kept, ok := p.kept.Peek(id); !ok || kept != mine {
			return // it was pushed out meanwhile and is not to count
		}
		mine.counted.Store(int64(len(mine.body)))
		p.size.Add(int64(len(mine.body)))
		for p.size.Load() > repliesSize && p.kept.Len() > 0 {
			p.kept.RemoveOldest()
		}
	}()
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
