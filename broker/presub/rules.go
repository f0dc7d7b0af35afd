package presub

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"noctule/broker/lookup"
)

// rules are a configuration in force, with its providers.
type rules struct {
	cfg       *Config
	providers []*provider // as in cfg
	selects   bool        // some provider is not for everybody
}

// provider is the one of a name; nil if there is none.
func (r *rules) provider(name string) *provider {
	for _, p := range r.providers {
		if p.cfg.Name == name {
			return p
		}
	}
	return nil
}

// Plan is a configuration with everything that it needs loaded. It ends with Use or Discard.
type Plan struct {
	next *rules
	e    *Engine
}

// Prepare loads what a configuration names, and changes nothing. Providers that are as they were in the
// configuration in force, their files too, stay with their cache and the state of their circuit.
func (e *Engine) Prepare(cfg *Config) (*Plan, error) {
	old := e.rules.Load()
	plan := &Plan{next: &rules{cfg: cfg}, e: e}
	for i := range cfg.Providers {
		c := &cfg.Providers[i]
		p, err := newProvider(c, e)
		if err != nil {
			plan.Discard()
			path := fmt.Sprintf("$.providers[%d]", i)
			var f *lookup.FileError
			if errors.As(err, &f) {
				path += f.Path
			}
			return nil, cfg.at(lookup.Wrong(path, "provider %s: %v", c.Name, err))
		}
		if was := old.provider(c.Name); was != nil && was.same(p) {
			p.close()
			p = was
		}
		plan.next.providers = append(plan.next.providers, p)
		plan.next.selects = plan.next.selects || c.For != nil || c.NotFor != nil
	}
	return plan, nil
}

// Discard gives up what was loaded.
func (x *Plan) Discard() {
	for _, p := range x.next.providers {
		if x.e.rules.Load().provider(p.cfg.Name) != p {
			p.close()
		}
	}
}

// Use puts a plan in force that was prepared on the rules which are so now. Lookups under way end by the old
// rules; providers that are not in the plan are closed after their last one. What they have given stays with
// each session until its next CONNECT, but for those that a provider is not for any more.
func (e *Engine) Use(x *Plan) {
	if *e.tapped.Load() != x.next.cfg.Connect.Topic { // anybody may publish on the old one from now on
		e.silence()
	}
	old := e.put(x)
	e.log.Info("Pre-subscription: " + changes(old, x.next) + ".")
	e.warn(x.next)
	e.reselect(old, x.next)
}

// warn says what is in force and proves less than it seems to. The broker has no logins by JWT: a token
// proves a name to its list only.
func (e *Engine) warn(r *rules) {
	for _, p := range r.providers {
		if p.cfg.JWT != nil && p.cfg.JWT.SubjectIs == "" {
			const text = "Pre-subscription: provider %s: the token does not prove the client's username, " +
				"nor its client id: set subject_is."
			e.log.Warn(fmt.Sprintf(text, p.cfg.Name))
		}
	}
}

// put is Use without a word. It returns what was in force.
func (e *Engine) put(x *Plan) *rules {
	for _, p := range e.rules.Load().providers {
		p.bequeath(x.next.provider(p.cfg.Name))
	}
	e.mu.Lock()
	old := e.rules.Swap(x.next)
	for _, p := range x.next.providers {
		e.mu.uses[p]++
	}
	clear(e.mu.origins) // made anew, with the policies that hold now
	e.mu.Unlock()
	for _, p := range old.providers {
		p.chase.wakeUp()
	}
	e.release(old.providers...)
	return old
}

// changes says which providers differ: "provider a kept, provider b replaced".
func changes(old, next *rules) string {
	var parts []string
	for _, p := range next.providers {
		what := "kept"
		switch old.provider(p.cfg.Name) {
		case nil:
			what = "added"
		case p:
		default:
			what = "replaced"
		}
		parts = append(parts, "provider "+p.cfg.Name+" "+what)
	}
	for _, p := range old.providers {
		if next.provider(p.cfg.Name) == nil {
			parts = append(parts, "provider "+p.cfg.Name+" removed")
		}
	}
	if len(parts) == 0 {
		return "no providers"
	}
	return strings.Join(parts, ", ")
}

// config is the configuration in force.
func (e *Engine) config() *Config { return e.rules.Load().cfg }

// acquire returns the rules in force; their providers stay open until release.
func (e *Engine) acquire() *rules {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.rules.Load()
	for _, p := range r.providers {
		e.mu.uses[p]++
	}
	return r
}

// again acquires a provider once more, which is acquired already.
func (e *Engine) again(p *provider) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.uses[p]++
}

// release ends the use of providers; whose last one it was is closed.
func (e *Engine) release(list ...*provider) {
	var idle []*provider
	e.mu.Lock()
	for _, p := range list {
		n, open := e.mu.uses[p]
		switch {
		case !open: // Close has closed it
		case n == 1:
			delete(e.mu.uses, p)
			idle = append(idle, p)
		default:
			e.mu.uses[p] = n - 1
		}
	}
	e.mu.Unlock()
	for _, p := range idle {
		p.close()
	}
}

// same reports whether two providers are of the same configuration and have read the same files. Whom they
// are for is a matter of the rules: a list does not depend on it.
func (p *provider) same(q *provider) bool {
	a, b := *p.cfg, *q.cfg
	a.For, a.NotFor, b.For, b.NotFor = nil, nil, nil, nil
	return reflect.DeepEqual(&a, &b) && maps.Equal(p.files, q.files)
}
