package goauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

	granted filters

	// Atomic:
	known   atomic.Pointer[rights]
	renewal atomic.Bool // is under way
}

// rights are what is known of it. They are immutable.
type rights struct {
	all    bool // it is a superuser
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
	r := &rights{}
	for _, m := range x.c.members {
		if x.barred || x.only != nil && m != x.only {
			continue
		}
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
	if r == nil || now().After(r.until) {
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
		return auth.Ask
	}
	return auth.Deny
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

// Covers implements auth.Rules.
func (x *client) Covers(filter []byte) bool {
	r := x.current()
	if x.barred || r == nil {
		return false
	}
	if r.all {
		return true
	}
	for _, g := range r.grants {
		if g.rules.Covers(filter) {
			return true
		}
	}
	return len(r.askers) > 0 && x.granted.has(string(filter))
}

// numberOf is the plug-in's number of an access.
func numberOf(a auth.Access) int {
	switch a {
	case auth.Read:
		return 1
	case auth.Write:
		return 2
	}
	return 4
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
		if yes, err = m.is.topic(ctx, &x.q, numberOf(a), name); yes && a == auth.Subscribe {
			yes, err = m.is.topic(ctx, &x.q, numberOf(auth.Read), name)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if yes = yes && err == nil; yes && a == auth.Subscribe {
		x.granted.add(name)
	}
	return yes, err
}

// filters are those that were granted, a bounded number.
type filters struct {
	mu sync.Mutex
	// Guarded by mu:
	list map[string]struct{}
}

// filtersMax is how many are noted of one client; what is subscribed to beyond them is not delivered.
const filtersMax = 4096

func (f *filters) add(filter string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.list == nil {
		f.list = map[string]struct{}{}
	}
	if len(f.list) < filtersMax {
		f.list[filter] = struct{}{}
	}
}

func (f *filters) has(filter string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.list[filter]
	return ok
}

// copyTo notes them elsewhere.
func (f *filters) copyTo(o *filters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.list = maps.Clone(f.list)
}
