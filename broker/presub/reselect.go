package presub

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"noctule/broker"
	"noctule/broker/behalf"
)

// A reload may change whom a provider is for. Sessions that it is for no longer lose its list, and those that
// it has become for get theirs, without a new CONNECT: all sessions are looked through, a page at a time.

// shift is a provider whose clients are others than before.
type shift struct {
	was, is int // places in the rules
	p       *provider
}

// reselected are the providers of both rules that may be for others than before.
func reselected(old, next *rules) []shift {
	tenants := old.cfg.Tenant.same(&next.cfg.Tenant)
	var list []shift
	for i := range next.cfg.Providers {
		p := &next.cfg.Providers[i]
		at := slices.IndexFunc(old.cfg.Providers, func(q ProviderConfig) bool { return q.Name == p.Name })
		if at < 0 {
			continue
		}
		q := &old.cfg.Providers[at]
		if !reflect.DeepEqual(p.selection(), q.selection()) || !tenants && p.byTenant() {
			list = append(list, shift{was: at, is: i, p: next.providers[i]})
		}
	}
	return list
}

// same reports whether two tenants are by the same rule.
func (t *Tenant) same(u *Tenant) bool {
	return t.Value == u.Value && t.From == u.From && t.Match == u.Match
}

// Bounds of a walk through the sessions.
const (
	walkPage    = 256
	walkWorkers = 8
	walkTries   = 5
)

// reselect has the sessions looked through after next has taken the place of old. One walk follows the
// other, so that after the last all is as the rules in force say.
func (e *Engine) reselect(old, next *rules) {
	list := reselected(old, next)
	if len(list) == 0 || e.b == nil {
		return
	}
	for _, x := range list {
		e.again(x.p)
	}
	before := e.walked
	done := make(chan struct{})
	e.walked = done
	e.Go(func(ctx context.Context) {
		defer close(done)
		defer func() {
			for _, x := range list {
				e.release(x.p)
			}
		}()
		if before != nil {
			<-before
		}
		w := &walk{e: e, old: old, next: next, list: list}
		for try := 0; ; try++ {
			err := w.run(ctx)
			if err == nil || ctx.Err() != nil {
				return
			}
			if !errors.Is(err, broker.ErrCursor) || try == walkTries {
				const text = "Pre-subscription: not all sessions have been looked through: %v."
				e.log.Warn(fmt.Sprintf(text, err))
				return
			}
		}
	})
}

// walk goes through all sessions.
type walk struct {
	e         *Engine
	old, next *rules
	list      []shift
}

func (w *walk) run(ctx context.Context) error {
	cursor := w.e.b.Clients(nil)
	defer cursor.Close()
	for {
		page, err := cursor.Next(ctx, walkPage)
		if err != nil || len(page) == 0 {
			return err
		}
		var workers sync.WaitGroup
		part := (len(page) + walkWorkers - 1) / walkWorkers
		for some := range slices.Chunk(page, part) {
			workers.Go(func() {
				for i := range some {
					w.visit(ctx, &some[i])
				}
			})
		}
		workers.Wait()
	}
}

// visit gives a session what it is to have, and takes what it is not to have.
func (w *walk) visit(ctx context.Context, s *broker.Client) {
	defer w.e.guard("looking again at client", s.ID)
	if ctx.Err() != nil {
		return
	}
	for i := range w.list {
		x := &w.list[i]
		was := selects(w.old, x.was, s)
		c, is := of(w.next, s), selects(w.next, x.is, s)
		switch {
		case was == is || is == unknown: // what is not known is with the next CONNECT
		case is == fitsNot:
			x.p.chase.forget(s.ID)
			x.p.apply(ctx, &c, behalf.NewSet(nil))
		default:
			x.p.bring(ctx, &c)
		}
	}
}

// bring looks a list up and applies it; if there is none now, it is asked for later.
func (p *provider) bring(ctx context.Context, c *Client) {
	if p.cfg.JWT != nil { // the password is known at CONNECT only
		return
	}
	set, _, err := p.lookup(ctx, c)
	if err == nil {
		err = applied(p.apply(ctx, c, set))
	}
	if err != nil && p.chase.len() < owedMax {
		p.chase.add(*c, backOff(0, providerPause))
	}
}

// isFor reports whether the provider of this name in the rules in force is for a client that has been let in.
func (p *provider) isFor(c *Client) bool {
	r := p.e.rules.Load()
	i := slices.IndexFunc(r.cfg.Providers, func(q ProviderConfig) bool { return q.Name == p.cfg.Name })
	return i < 0 || r.cfg.Providers[i].fit(&candidate{Client: c, named: true, placed: true}) == fits
}

// of is a session as a client of providers.
func of(r *rules, s *broker.Client) Client {
	return Client{
		ID: s.ID, Username: s.Username, Tenant: r.cfg.Tenant.of(s.ID, s.Username),
		Address: s.Address.Addr(), Listener: s.Listener,
	}
}

// selects says whether a provider of the rules is for a session.
func selects(r *rules, at int, s *broker.Client) fit {
	c := of(r, s)
	return r.cfg.Providers[at].fit(&candidate{Client: &c, named: true, placed: s.Connected})
}
