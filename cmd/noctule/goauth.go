package main

import (
	"log/slog"

	"noctule/broker/auth/goauth"
	"noctule/broker/auth/source"
	"noctule/cmd/internal/conf"
)

// logins are what is asked about logins beside files: what auth_file names, and mosquitto-go-auth.
type logins struct {
	log    *slog.Logger
	engine *source.Engine
	chains []*goauth.Chain // in the order of the plugin lines
}

func newLogins(log *slog.Logger) *logins { return &logins{log: log, engine: source.New(log)} }

// use puts a plan in force. Those that it takes the place of go on for who has them, until release.
func (s *logins) use(p *securityPlan) (release func()) {
	s.engine.Use(p.sources)
	old := s.chains
	s.chains = p.chains
	return func() { closeChains(old) }
}

func (s *logins) close() {
	closeChains(s.chains)
	s.engine.Close()
}

func closeChains(list []*goauth.Chain) {
	for _, c := range list {
		c.Close()
	}
}

// host is what chains tell of themselves to.
func (s *logins) host() goauth.Host {
	return goauth.Host{Log: s.log, Watch: s.engine.Watch, Login: s.engine.Count}
}

// discard gives a plan up that is not used.
func (p *securityPlan) discard() {
	closeChains(p.chains)
	if p.sources != nil {
		p.sources.Discard()
	}
}

// chain is the mosquitto-go-auth of a plugin line, which all its listeners share.
func (ld *loader) chain(g *conf.GoAuth) (*goauth.Chain, error) {
	if c := ld.goauths[g]; c != nil {
		return c, nil
	}
	var before *goauth.Chain
	if n := len(ld.goauths); n < len(ld.before) {
		before = ld.before[n]
	}
	c, err := goauth.New(g.Config, before, ld.host)
	if err != nil {
		return nil, err
	}
	ld.goauths[g] = c
	ld.chains = append(ld.chains, c)
	ld.warnings = append(ld.warnings, c.Warnings()...)
	return c, nil
}

// tryChain reads what a plugin line of mosquitto-go-auth names, without using it.
func (k *checking) tryChain(g *conf.GoAuth) {
	all := true
	for i := range g.Config.Backends {
		b := &g.Config.Backends[i]
		for _, f := range []struct{ key, path string }{
			{"password_file", filesOf(b).Passwords}, {"acl_file", filesOf(b).ACL},
		} {
			all = (f.path == "" || k.readable(g.At(), f.key, f.path)) && all
		}
	}
	if !all {
		return
	}
	c, err := goauth.New(g.Config, nil, goauth.Host{Log: slog.New(slog.DiscardHandler)})
	k.content(g.At(), "plugin", err)
	if c != nil {
		k.policies.warnings = append(k.policies.warnings, c.Warnings()...)
		c.Close()
	}
}

// filesOf are the files that a backend reads.
func filesOf(b *goauth.Backend) (f goauth.Files) {
	switch {
	case b.Files != nil:
		return *b.Files
	case b.JWT != nil && b.JWT.Mode == goauth.ACLs:
		f.ACL = b.JWT.ACL
	}
	return f
}
