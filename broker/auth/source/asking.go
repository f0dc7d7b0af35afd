package source

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/lookup"
	"noctule/codec"
	"noctule/internal/places"
)

// A webservice is asked about each topic, when a client publishes or subscribes; what it says is kept for a
// while, so that a client that goes on is not held. Deliveries ask nobody: what may be delivered is what the
// client has subscribed to with a yes to both, to subscribe and to read the filter as it is written.

// asker are the rules of one client.
type asker struct {
	// Set by hold, then read-only:
	e      *Engine
	source string
	who

	// Atomic:
	base     atomic.Pointer[auth.Rules] // which have to grant as well; nil: none
	readable atomic.Pointer[auth.Rules] // filters that were granted; nil: none

	mu struct { // Guarded by mu:
		sync.RWMutex
		recent  map[question]said
		granted []grant
		bytes   int // of granted
	}
}

type question struct {
	access auth.Access
	topic  string
}

// grant is a filter that may be read, as it was subscribed to and without the group that shares it.
type grant struct{ name, filter string }

// said is an answer.
type said struct {
	verdict auth.Verdict
	until   time.Time
}

// Limits of what is kept of one client.
const (
	recentMax  = 64
	topicMax   = 128 // bytes, of those
	grantedMax = 4096
	keptMax    = 4096 // bytes of grants, of a client that has gone
)

// askMax bounds a question that nobody waits for.
const askMax = 20 * time.Second

// askers makes them.
type askers struct {
	e     *Engine
	table *table[asker]
}

// askersMax is how many clients that have gone keep what they were granted: with all that one may have, some
// 20 KB.
const askersMax = 4096

func newAskers(e *Engine) *askers { return &askers{e, newTable[asker](askersMax)} }

// hold gives a client its rules; base have to grant as well, nil has no opinion.
func (l *askers) hold(r *running, w who, base auth.Rules) auth.Rules {
	x, _ := l.table.get(held{r.key(), w}, func() *asker {
		x := &asker{e: l.e, source: r.key(), who: w}
		x.mu.recent = make(map[question]said)
		return x
	})
	if !x.small() {
		l.table.drop(held{r.key(), w})
	}
	if base == nil {
		x.base.Store(nil)
	} else {
		x.base.Store(&base)
	}
	return x
}

// Check implements auth.Rules.
func (x *asker) Check(a auth.Access, topic []byte) auth.Verdict {
	if base := x.base.Load(); base != nil {
		if v := (*base).Check(a, topic); v == auth.Deny {
			return v
		}
	}
	switch a {
	case auth.Unsubscribe: // Ask has work to do
		return auth.Ask
	case auth.Read:
		if r := x.readable.Load(); r != nil && (*r).Check(auth.Read, topic) == auth.Allow {
			return auth.Allow
		}
	default:
	}
	at := now()
	x.mu.RLock()
	s, ok := x.mu.recent[question{a, string(topic)}]
	x.mu.RUnlock()
	if ok && at.Before(s.until) {
		return s.verdict
	}
	return auth.Ask
}

// Covers implements auth.Rules. What is covered is not asked about any more, and a grant may be taken back.
func (x *asker) Covers([]byte) bool { return false }

// Ask implements auth.Asker.
func (x *asker) Ask(ctx context.Context, a auth.Access, topic []byte) auth.Verdict {
	r := x.e.acquire(x.source)
	if r == nil || r.topics == nil {
		if r != nil {
			x.e.release(r)
		}
		return auth.Ignore
	}
	defer x.e.release(r)
	name := string(topic)
	switch a {
	case auth.Unsubscribe: // nobody is kept from that
		x.revoke(name)
		return auth.Allow
	case auth.Read, auth.Write:
		return x.one(ctx, r, a, name)
	default:
	}
	filter := name
	if _, inner, shared := codec.SplitShare(topic); shared {
		filter = string(inner)
	}
	v := x.one(ctx, r, auth.Subscribe, name)
	if v == auth.Allow {
		v = x.one(ctx, r, auth.Read, filter)
	}
	switch v {
	case auth.Allow:
		if !x.grant(name, filter) {
			const text = "Logins: source %s: client %q has more than %d filters that may be read"
			r.failing.Add(fmt.Sprintf(text, r.cfg.Name, x.clientID, grantedMax))
			v = auth.Deny
		}
		if !x.small() {
			x.e.asking.table.drop(held{x.source, x.who})
		}
	case auth.Deny:
		x.revoke(name)
		x.note(r, question{auth.Subscribe, name}, auth.Deny) // also where only reading is denied
	default:
	}
	return v
}

// one asks one thing.
func (x *asker) one(ctx context.Context, r *running, a auth.Access, topic string) auth.Verdict {
	got, err := r.ask(ctx, r.topics, &lookup.Question{
		Values: []string{x.username, x.clientID, topic, wordOf(a), strconv.Itoa(a.Number())},
		From:   places.Peer{Trusted: true},
	})
	if err != nil {
		r.failing.Add(fmt.Sprintf("Logins: source %s does not answer about topics: %v", r.cfg.Name, err))
		if r.cfg.OnFailure == Open && ctxLives(err) {
			return auth.Allow
		}
		return auth.Ignore
	}
	v := auth.Deny
	if got.verdict == auth.Allow {
		v = auth.Allow
	}
	if a != auth.Subscribe { // what is subscribed to is to be granted each time
		x.note(r, question{a, topic}, v)
	}
	return v
}

// note keeps an answer for a while.
func (x *asker) note(r *running, q question, v auth.Verdict) {
	ttl := time.Duration(r.cfg.ACL.Cache.TTL)
	if v != auth.Allow {
		ttl = min(ttl, time.Duration(r.cfg.Refused))
	}
	if ttl <= 0 || len(q.topic) > topicMax {
		return
	}
	s := said{v, now().Add(jitter(ttl))}
	x.mu.Lock()
	defer x.mu.Unlock()
	for old := range x.mu.recent { // any: what is asked about often comes back
		if len(x.mu.recent) < recentMax {
			break
		}
		delete(x.mu.recent, old)
	}
	x.mu.recent[q] = s
}

// grant lets what a filter matches be delivered; false if there are too many.
func (x *asker) grant(name, filter string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := grant{name, filter}
	switch {
	case slices.Contains(x.mu.granted, g):
		return true
	case len(x.mu.granted) >= grantedMax:
		return false
	}
	x.mu.granted = append(x.mu.granted, g)
	x.mu.bytes += 2*len(name) + 64
	x.rebuildLocked()
	return true
}

// revoke takes a grant back.
func (x *asker) revoke(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := slices.IndexFunc(x.mu.granted, func(g grant) bool { return g.name == name })
	if i < 0 {
		return
	}
	x.mu.granted = slices.Delete(x.mu.granted, i, i+1)
	x.mu.bytes -= 2*len(name) + 64
	x.rebuildLocked()
}

// small reports whether it may be kept of a client that has gone.
func (x *asker) small() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.mu.bytes <= keptMax
}

func (x *asker) rebuildLocked() {
	list := make([]auth.Rule, len(x.mu.granted))
	for i, g := range x.mu.granted {
		list[i] = auth.Rule{Access: auth.Read, Filter: g.filter}
	}
	rules, err := auth.NewRules(list)
	if err != nil { // each is a filter
		rules, _ = auth.NewRules(nil)
	}
	x.readable.Store(&rules)
}

// forget has all asked again: another webservice may decide.
func (x *asker) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.mu.recent)
}
