package goauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/codec"
)

// client is what one client may do: auth.Rules that are an Asker.
//
// What backends have lists of is fetched when it is let in, and behind its back when it is too old; all that
// is delivered is decided by that. Backends that have to be asked about each topic are asked when it
// publishes or subscribes. A filter that they have granted, to subscribe to and to read, covers what it
// matches.
type client struct {
	// Set before it is shared, then read-only:
	c      *Chain
	q      question
	only   *member // the only one that is asked; nil: all are
	barred bool    // it may do nothing
	will   string  // the topic of its will, if that was granted when it came; ""

	granted filters
	recent  answers

	// Atomic:
	known   atomic.Pointer[rights]
	renewal atomic.Bool // is under way
}

// rights are what is known of it. They are immutable.
type rights struct {
	all    bool // it is a superuser
	fixed  bool // no backend will say anything else: they are files
	grants []*grant
	askers []*member // whom each topic has to be asked of
	failed error     // somebody did not answer; what the others say holds
	until  time.Time // they are asked for again after it
}

// freshFor is how old lists may be without a cache.
const freshFor = 5 * time.Second

// renewMax bounds a renewal behind a client's back.
const renewMax = 20 * time.Second

// load asks all backends for its rights.
func (x *client) load(ctx context.Context) *rights {
	r := &rights{}
	for range x.c.cfg.Retries + 1 {
		r = x.ask(ctx)
		if r.failed == nil || ctx.Err() != nil {
			break
		}
	}
	fresh := x.c.cfg.Cache.ACL
	if fresh == 0 {
		fresh = freshFor
	}
	r.until = now().Add(jittered(fresh, x.c.cfg.Cache.ACLJitter))
	if old := x.known.Load(); r.failed != nil {
		x.c.failing.Add(fmt.Sprintf("go-auth does not know what a client may do: %v", r.failed))
		if old != nil && old.failed == nil { // the last that was known holds
			kept := *old
			kept.until = now().Add(freshFor)
			r = &kept
		}
	}
	x.known.Store(r)
	return r
}

// ask is load without a second try.
func (x *client) ask(ctx context.Context) *rights {
	r := &rights{fixed: true}
	for _, m := range x.c.members {
		if x.barred || x.only != nil && m != x.only {
			continue
		}
		_, isFiles := m.is.(*files)
		r.fixed = r.fixed && isFiles
		if m.Superusers {
			super, err := m.is.superuser(ctx, &x.q)
			if super && err == nil {
				return &rights{all: true}
			}
			r.fail(m, err)
		}
		if !m.ACLs {
			continue
		}
		g, err := m.is.grant(ctx, &x.q)
		r.fail(m, err)
		switch {
		case g != nil:
			r.grants = append(r.grants, g)
		case err == nil:
			r.askers = append(r.askers, m)
		}
	}
	return r
}

func (r *rights) fail(m *member, err error) {
	if err != nil && r.failed == nil {
		r.failed = fmt.Errorf("%s: %w", m.Name, err)
	}
}

// renew loads them behind the client's back, unless that is under way.
func (x *client) renew() {
	if x.renewal.Swap(true) {
		return
	}
	x.c.background(func() {
		defer x.renewal.Store(false)
		ctx, cancel := context.WithTimeout(x.c.ctx, renewMax)
		defer cancel()
		x.load(ctx)
	})
}

// current are its rights as far as they are known; nil: not yet.
func (x *client) current() *rights {
	r := x.known.Load()
	if r == nil || !r.fixed && now().After(r.until) {
		x.renew()
	}
	return r
}

// Check implements auth.Rules.
func (x *client) Check(a auth.Access, topic []byte) auth.Verdict {
	switch {
	case a&auth.Unsubscribe != 0:
		return auth.Allow
	case x.barred:
		return auth.Deny
	}
	r := x.current()
	switch {
	case r == nil:
		return auth.Ask
	case r.allows(a, topic):
		return auth.Allow
	case len(r.askers) > 0 || r.failed != nil:
		return x.asked(a, topic)
	}
	return auth.Deny
}

// asked is what is known of what has to be asked about: nobody is asked when something is delivered, nor
// again while the answer is fresh.
func (x *client) asked(a auth.Access, topic []byte) auth.Verdict {
	switch {
	case a == auth.Read && x.granted.match(topic):
		return auth.Allow
	case a == auth.Write && x.will != "" && x.will == string(topic):
		return auth.Allow // nobody can be asked when it is sent
	case a == auth.Write:
		return x.recent.of(topic)
	}
	return auth.Ask
}

func (r *rights) allows(a auth.Access, topic []byte) bool {
	if r.all {
		return true
	}
	for _, g := range r.grants {
		if g.allows(a, topic) {
			return true
		}
	}
	return false
}

// Covers implements auth.Rules: only what nobody can take back is not looked at any more.
func (x *client) Covers(filter []byte) bool {
	r := x.current()
	if x.barred || r == nil || !r.fixed {
		return false
	}
	for _, g := range r.grants {
		if g.rules.Covers(filter) {
			return true
		}
	}
	return false
}

// Ask implements auth.Asker.
func (x *client) Ask(ctx context.Context, a auth.Access, topic []byte) auth.Verdict {
	r := x.known.Load()
	if r == nil || r.failed != nil {
		r = x.load(ctx)
	}
	if r.allows(a, topic) {
		return auth.Allow
	}
	name := string(topic)
	if a == auth.Subscribe {
		if _, filter, shared := codec.SplitShare(topic); shared {
			name = string(filter)
		}
	}
	failed := r.failed
	for _, m := range r.askers {
		yes, err := x.topic(ctx, m, a, name)
		switch {
		case yes:
			return auth.Allow
		case err != nil && failed == nil:
			failed = fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if failed != nil {
		if !errors.Is(failed, context.Canceled) {
			x.c.failing.Add(fmt.Sprintf("go-auth does not know what a client may do: %v", failed))
		}
		return auth.Ask
	}
	return auth.Deny
}

// topic asks one backend. What is subscribed to has to be readable as it is written: nothing is asked about
// when it is delivered.
func (x *client) topic(ctx context.Context, m *member, a auth.Access, name string) (yes bool, err error) {
	for range x.c.cfg.Retries + 1 {
		if yes, err = m.is.topic(ctx, &x.q, a.Number(), name); yes && a == auth.Subscribe {
			yes, err = m.is.topic(ctx, &x.q, auth.Read.Number(), name)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	switch yes = yes && err == nil; {
	case err != nil:
	case a == auth.Write:
		x.recent.note(name, yes, x.c.cfg.Cache)
	case yes && !x.granted.add(name):
		return false, fmt.Errorf("more than %d filters that may be read", filtersMax)
	case !yes:
		x.granted.drop(name)
	}
	return yes, err
}

// filters are those that were granted, a bounded number.
type filters struct {
	mu   sync.Mutex
	list []string // guarded by mu

	rules atomic.Pointer[auth.Rules] // of list; nil: none
}

// filtersMax is how many are noted of one client.
const filtersMax = 4096

// add reports false if there are too many.
func (f *filters) add(filter string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case slices.Contains(f.list, filter):
		return true
	case len(f.list) >= filtersMax:
		return false
	}
	f.list = append(f.list, filter)
	f.buildLocked()
	return true
}

// drop takes a grant back.
func (f *filters) drop(filter string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.list, filter); i >= 0 {
		f.list = slices.Delete(f.list, i, i+1)
		f.buildLocked()
	}
}

func (f *filters) buildLocked() {
	list := make([]auth.Rule, len(f.list))
	for i, filter := range f.list {
		list[i] = auth.Rule{Access: auth.Read, Filter: filter}
	}
	rules := mustRules(list)
	f.rules.Store(&rules)
}

// match reports whether one of them matches a topic.
func (f *filters) match(topic []byte) bool {
	r := f.rules.Load()
	return r != nil && (*r).Check(auth.Read, topic) == auth.Allow
}

// copyTo notes them elsewhere.
func (f *filters) copyTo(o *filters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.list = slices.Clone(f.list); o.list != nil {
		o.buildLocked()
	}
}

// answers are what was said of topics that the client publishes to, a bounded number, so that it is not held
// each time.
type answers struct {
	mu   sync.Mutex
	list map[string]said // guarded by mu
}

type said struct {
	yes   bool
	until time.Time
}

const answersMax = 64

// of is what is known of a topic; Ask if nothing is, or that is too old.
func (l *answers) of(topic []byte) auth.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.list[string(topic)]
	switch {
	case !ok || now().After(s.until):
		return auth.Ask
	case s.yes:
		return auth.Allow
	}
	return auth.Deny
}

// note keeps an answer as long as the cache does.
func (l *answers) note(topic string, yes bool, c Cache) {
	if c.ACL <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = make(map[string]said)
	}
	for old := range l.list { // any: what is asked about often comes back
		if len(l.list) < answersMax {
			break
		}
		delete(l.list, old)
	}
	l.list[topic] = said{yes, now().Add(jittered(c.ACL, c.ACLJitter))}
}
