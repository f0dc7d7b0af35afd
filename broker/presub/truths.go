package presub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/codec"
)

// What happens without anybody asking is written down here: filters that are refused when a client connects,
// requests that were pending and took effect or ran out, and providers that fail. It goes to the log in the
// form of the audit, to metrics, and to Explain.

// trouble is a provider that fails.
type trouble struct {
	mu struct { // Guarded by mu:
		sync.Mutex
		since time.Time // of the first failure in a row; zero: all is well
		times int
		last  string
	}
}

// note takes how a lookup ended. What is said about one client says nothing of the provider, and neither does
// a lookup that had no turn, or was not made since the circuit is open.
func (x *trouble) note(err error) {
	if err != nil && !failing(err) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	m := &x.mu
	if err == nil {
		m.since, m.times, m.last = time.Time{}, 0, ""
		return
	}
	if m.times == 0 {
		m.since = now()
	}
	m.times++
	m.last = err.Error()
}

// text says what is wrong; "" if nothing is.
func (x *trouble) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mu.times == 0 {
		return ""
	}
	const form = "has failed since %s, %d times, at last: %s"
	return fmt.Sprintf(form, x.mu.since.UTC().Format(time.RFC3339), x.mu.times, x.mu.last)
}

// noteTrouble tells of a provider that fails, and of its list if the client is still without.
func (p *provider) noteTrouble(x *Explanation) {
	if owed, why := p.chase.owes(x.ClientID); owed {
		text := "the list of " + p.origin.Name + " has not come yet, the provider goes on being asked"
		if why != "" {
			text += "; at last: " + why
		}
		x.Notes = append(x.Notes, text)
	}
	if text := p.trouble.text(); text != "" {
		if state := p.circuit(); state != "closed" {
			text += fmt.Sprintf(" (its circuit is %s)", state)
		}
		x.Notes = append(x.Notes, fmt.Sprintf("provider %s %s", p.cfg.Name, text))
	}
}

// noteIncomplete tells of lists that have not come, of which the provider may be gone.
func (x *Explanation) noteIncomplete(l *behalf.Listing) {
	for i := range l.Holdings {
		if h := &l.Holdings[i]; h.Late {
			x.Notes = append(x.Notes, fmt.Sprintf("the list of %s is incomplete", h.Origin))
		}
	}
}

// noteQueue tells of a queue that takes no more.
func (e *Engine) noteQueue(ctx context.Context, x *Explanation) {
	if e.b == nil {
		return
	}
	c, ok, err := e.b.Find(ctx, x.ClientID)
	if err == nil && ok && c.QueueFull {
		x.Notes = append(x.Notes, fmt.Sprintf("its queue is full, with %d messages and %d bytes: "+
			"max_queued_messages or max_queued_bytes lets no more wait", c.Queued, c.QueuedBytes))
	}
}

// denial is a filter that a client may not have.
type denial struct {
	origin, filter string
	why            codec.Reason
	at             time.Time
}

// Of so many clients is remembered what was refused at CONNECT, and so many filters of each.
const (
	denialsMax   = 2000
	denialsOfOne = 20
)

// denied hears of the filters of a list that a client that connects may not have.
func (e *Engine) denied(c *Client, p *provider) func(map[string]codec.Reason) {
	id, username := c.ID, c.Username
	return func(refused map[string]codec.Reason) {
		list := make([]denial, 0, len(refused))
		counts := map[string]int{}
		for filter, why := range refused {
			list = append(list, denial{origin: p.origin.Name, filter: filter, why: why, at: now()})
			counts[codeText(why)]++
		}
		for code, n := range counts {
			e.metrics.denied.WithLabelValues(p.cfg.Name, code).Add(float64(n))
		}
		slices.SortFunc(list, func(a, b denial) int { return strings.Compare(a.filter, b.filter) })
		first := &list[0]
		e.audit(Caller{Door: AtConnect, Principal: p.origin.Name}, "refused", "clientid", id,
			"username", username, "topics", len(list), "first", first.filter, "reason", first.why.String())
		old, _ := e.denials.Get(id)
		old = slices.DeleteFunc(slices.Clone(old), func(d denial) bool { return d.origin == p.origin.Name })
		list = append(old, list...)
		e.denials.Add(id, list[:min(len(list), denialsOfOne)])
	}
}

// noteDenied tells what was refused when the client connected.
func (e *Engine) noteDenied(x *Explanation, full string) {
	list, _ := e.denials.Peek(x.ClientID)
	for i := range list {
		d := &list[i]
		if covers(&behalf.Topic{Filter: d.filter}, full) {
			x.Notes = append(x.Notes, fmt.Sprintf("%s of %s was refused at its CONNECT of %s: %s",
				d.filter, d.origin, d.at.UTC().Format(time.RFC3339), strings.ToLower(d.why.String())))
		}
	}
}

// ended records what has become of a request that was pending.
func (e *Engine) ended(c Caller, origin string, a *Answer) {
	what, outcome := "took effect", "effective"
	switch behalf.Code(a.Code) {
	case behalf.Done:
	case behalf.NoSession:
		what, outcome = "ran out", "expired"
	default:
		what, outcome = "failed", "failed"
	}
	e.metrics.ended.WithLabelValues(string(c.Door), outcome).Inc()
	if c.Quiet {
		return
	}
	e.audit(c, what, "clientid", a.ClientID, "username", a.Username, "origin", origin, "revision", a.Revision,
		"reason", a.Error)
}

// failing reports whether an error of a lookup says something of the provider.
func failing(err error) bool {
	var final lookup.Final
	return !errors.As(err, &final) && !errors.Is(err, lookup.ErrBusy) && !errors.Is(err, context.Canceled) &&
		!lookup.IsCircuit(err)
}

// circuit is the state of the provider's circuit.
func (p *provider) circuit() string {
	if p.ask == nil {
		return "closed"
	}
	return p.ask.Circuit()
}
