package presub

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"noctule/broker/lookup"
)

// Selector says which clients it fits: those that all of its settings fit. A setting that is a list fits if
// one of its values does.
type Selector struct {
	Username Patterns `yaml:"username"`
	ClientID Patterns `yaml:"clientid"`
	Tenant   Patterns `yaml:"tenant"`   // what %e is
	Listener Patterns `yaml:"listener"` // network and address as configured, "tcp :1883"
	Address  Prefixes `yaml:"address"`  // of the client, which one without an address never fits
}

// Selectors are one or several; they fit if one of them does.
type Selectors []Selector

// Patterns and Prefixes are the values of a selector.
type (
	Patterns = lookup.Patterns
	Prefixes = lookup.Prefixes
)

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (s *Selectors) UnmarshalYAML(n ast.Node) (err error) {
	*s, err = lookup.Selectors(n, (*Selector).none, "username, clientid, tenant, listener, address")
	return err
}

// none reports whether nothing is selected by, which would fit everybody.
func (x *Selector) none() bool {
	return len(x.Username)+len(x.ClientID)+len(x.Tenant)+len(x.Listener)+len(x.Address) == 0
}

// candidate is a client as far as it is known: that is more once it has connected.
func (e *Engine) candidate(ctx context.Context, c *Client, named bool) candidate {
	x := candidate{Client: c, named: named}
	if e.b == nil || !e.rules.Load().selects {
		return x
	}
	if found, ok, err := e.b.Find(ctx, c.ID); err == nil && ok && found.Connected {
		c.Address, c.Listener, x.placed = found.Address.Addr(), found.Listener, true
	}
	return x
}

// fit is whether a selector fits a client. What is not known of it may turn out either way.
type fit uint8

const (
	fitsNot fit = iota
	unknown
	fits
)

// candidate is a client as selectors see it, and what is known of it.
type candidate struct {
	*Client
	named  bool // the username is
	placed bool // listener and address are, if it has them
}

// fit says whether all settings fit.
func (x *Selector) fit(c *candidate) fit {
	out := fits
	for _, s := range []struct {
		set, known, fits bool
	}{
		{x.Username != nil, c.named, x.Username.Fit(c.Username)},
		{x.ClientID != nil, true, x.ClientID.Fit(c.ID)},
		{x.Tenant != nil, c.named || c.Tenant != "", x.Tenant.Fit(c.Tenant)},
		{x.Listener != nil, c.placed, x.Listener.Fit(c.Listener)},
		{x.Address != nil, c.placed, x.Address.Fit(c.Address)},
	} {
		switch {
		case !s.set:
		case !s.known:
			out = min(out, unknown)
		case !s.fits:
			return fitsNot
		}
	}
	return out
}

// fit is the best of them, and which one it is.
func (s Selectors) fit(c *candidate) (best fit, which *Selector) {
	for i := range s {
		if f := s[i].fit(c); which == nil || f > best {
			best, which = f, &s[i]
		}
	}
	return best, which
}

// fit is whether the provider has a list for a client.
func (p *ProviderConfig) fit(c *candidate) fit {
	in := fits
	if p.For != nil {
		in, _ = p.For.fit(c)
	}
	out, _ := p.NotFor.fit(c)
	return min(in, fits-out)
}

// whyNot is why a provider is not asked for a client's list; "" if it is.
func (p *ProviderConfig) whyNot(c *candidate) string {
	switch p.fit(c) {
	case fits:
		return ""
	case unknown:
		return "it is not known " + missing(c) + " before the client connects"
	case fitsNot:
	}
	if out, by := p.NotFor.fit(c); out == fits {
		return "its not_for fits " + aspects(Selectors{*by}, c)
	}
	return "its for does not fit " + aspects(p.For, c)
}

// aspects names what selectors look at in a client.
func aspects(s Selectors, c *candidate) string {
	var parts []string
	note := func(used func(*Selector) bool, format string, args ...any) {
		if slices.ContainsFunc(s, func(x Selector) bool { return used(&x) }) {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	note(func(x *Selector) bool { return x.Username != nil && c.named }, "username %q", c.Username)
	note(func(x *Selector) bool { return x.ClientID != nil }, "client id %q", c.ID)
	note(func(x *Selector) bool { return x.Tenant != nil }, "tenant %q", c.Tenant)
	note(func(x *Selector) bool { return x.Listener != nil && c.placed }, "listener %q", c.Listener)
	address := "none"
	if c.Address.IsValid() {
		address = c.Address.String()
	}
	note(func(x *Selector) bool { return x.Address != nil && c.placed }, "address %s", address)
	return strings.Join(parts, ", ")
}

func missing(c *candidate) string {
	if !c.named {
		return "who it is"
	}
	return "where it comes from"
}

// selection is what a configuration says of whom a provider is for.
func (p *ProviderConfig) selection() [2]Selectors { return [2]Selectors{p.For, p.NotFor} }

// byTenant reports whether the selection depends on the tenant.
func (p *ProviderConfig) byTenant() bool {
	tenant := func(x Selector) bool { return x.Tenant != nil }
	return slices.ContainsFunc(p.For, tenant) || slices.ContainsFunc(p.NotFor, tenant)
}

// selected are the providers of a client that is connected, or connects.
func (r *rules) selected(c *Client) []*provider {
	if !r.selects {
		return r.providers
	}
	x := candidate{Client: c, named: true, placed: true}
	list := make([]*provider, 0, len(r.providers))
	for i, p := range r.providers {
		if r.cfg.Providers[i].whyNot(&x) == "" {
			list = append(list, p)
		} else {
			p.chase.forget(c.ID) // it may have been another user's
		}
	}
	return list
}
