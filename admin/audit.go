package admin

import (
	"net/http"
	"sync"
	"time"

	"noctule/broker/presub"
)

// statusOnly notes the status of an answer.
type statusOnly struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (s *statusOnly) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// refused writes the audit line of what this door has refused to do itself; the engine writes the others.
// What only asks changes nothing and needs none.
func (d *Door) refused(r *http.Request, c *call, status int) {
	switch status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge,
		http.StatusUnprocessableEntity:
	default:
		return
	}
	if r.Method == http.MethodGet {
		return
	}
	d.e.Refused(c.caller())
	d.e.Audit(c.caller(), "refused", "method", r.Method, "path", shortened(r.URL.Path), "status", status)
}

// onlyReads counts a call that would change something with a token that is read-only, and writes its line.
func (d *Door) onlyReads(r *http.Request, g *grant) {
	c := presub.Caller{Door: presub.HTTP, Principal: g.principal}
	d.e.Refused(c)
	d.e.Audit(c, "denied", "reason", "the token is read-only", "method", r.Method,
		"path", shortened(r.URL.Path))
}

// pathMax is how much of a path a line has, in bytes.
const pathMax = 200

func shortened(path string) string { return path[:min(len(path), pathMax)] }

// denialEvery is how often a line is written of calls without a token, which anybody can make.
const denialEvery = time.Second

// denials bounds the lines about calls without a token.
type denials struct {
	mu   sync.Mutex
	last time.Time
	more int // since the last line
}

// next reports whether a line may be written, and how many calls have gone without one since the last.
func (x *denials) next(now time.Time) (more int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if now.Sub(x.last) < denialEvery {
		x.more++
		return 0, false
	}
	more, x.more, x.last = x.more, 0, now
	return more, true
}

// denied counts a call without a token that is known, and writes its audit line.
func (d *Door) denied(r *http.Request) {
	c := presub.Caller{Door: presub.HTTP}
	d.e.Refused(c)
	if more, ok := d.denials.next(time.Now()); ok {
		pairs := []any{"from", r.RemoteAddr, "method", r.Method, "path", shortened(r.URL.Path)}
		if more > 0 {
			pairs = append(pairs, "unlogged before", more)
		}
		d.e.Audit(c, "denied", pairs...)
	}
}
