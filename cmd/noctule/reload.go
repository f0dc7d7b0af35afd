package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// reloadPatience is how long loops may take to look at all their sessions.
const reloadPatience = time.Minute

// reload reads the configuration and all files that it names again. Only when everything is good it takes
// effect; otherwise nothing does. The log is opened again in any case. systemd is told of begin and end,
// whatever comes of it: the broker goes on.
func (s *service) reload(ctx context.Context) {
	if err := notify(reloading()); err != nil {
		s.fail(fmt.Errorf("Unable to tell systemd: %w", err))
	}
	s.renew(ctx)
	if ctx.Err() == nil {
		_ = notify("READY=1") // the line above is enough
	}
}

// renew is the reload itself.
func (s *service) renew(ctx context.Context) {
	s.info("Reloading config.")
	next, err := s.read()
	if err != nil {
		s.operators.reloaded(false, err)
		if err := s.handler.Reopen(); err != nil {
			s.fail(err)
		}
		s.fail(err)
		s.log.Warn("Warning: the configuration was not reloaded, everything stays as it was.")
		return
	}
	if err := s.handler.Configure(next.cfg.Log, s.logOptions(s.flags, 0)); err != nil {
		s.fail(err) // what cannot be opened is left out, as at the start
	}
	for _, n := range next.notes {
		s.log.Log(ctx, n.Level, n.Text)
	}
	patient, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	err = s.apply(patient, next)
	if ctx.Err() != nil { // the program ends
		return
	}
	s.operators.reloaded(true, err)
	if err != nil {
		s.fail(fmt.Errorf("The configuration is in force, but %w", err))
		return
	}
	s.info("Configuration reloaded.")
}

// settings are a configuration with all that its files say.
type settings struct {
	cfg       *conf.Config
	listeners []broker.ListenerOptions // of each of cfg's listeners, without where it listens
	notes     []conf.Note
	pre       *presubPlan // nil: nothing was configured at the start
	security  *securityPlan
}

// read reads everything and changes nothing.
func (s *service) read() (next *settings, err error) {
	cfg, notes, err := s.cfg.Reload(s.flags.files, s.flags.ports)
	if err != nil {
		return nil, err
	}
	next = &settings{cfg: cfg, notes: append(cfg.Notes, notes...)}
	if next.security, err = loadPolicies(cfg.Listeners, s.sources); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			next.security.discard()
			next = nil
		}
	}()
	for _, w := range next.security.warnings {
		next.notes = append(next.notes, conf.Note{Text: w, Level: broker.LevelWarning})
	}
	for i := range cfg.Listeners {
		cfg.Listeners[i].Policy = next.security.policies[i]
		o, err := cfg.Listeners[i].Load()
		if err != nil {
			return next, err
		}
		if o.Net.TLS != nil && s.keys != nil {
			o.Net.TLS.KeyLogWriter = s.keys
		}
		if w := cfg.Listeners[i].Warning(); w != "" {
			next.notes = append(next.notes, conf.Note{Text: w, Level: broker.LevelWarning})
		}
		next.listeners = append(next.listeners, o)
	}
	var note string
	if next.pre, note, err = s.pre.prepare(cfg); err != nil { // the last: it would have to be given up
		return next, err
	}
	if note != "" {
		next.notes = append(next.notes, conf.Note{Text: note, Level: broker.LevelNotice})
	}
	return next, nil
}

// apply puts settings in force.
func (s *service) apply(ctx context.Context, next *settings) error {
	s.cfg = next.cfg
	s.tell()
	limitMemory(s.cfg.Options.MemoryLimit)
	s.pre.use(next.pre)
	defer s.sources.use(next.security)()
	for _, a := range s.apis {
		a.set(next.listeners[a.index])
	}
	s.operators.show(s.apis)
	options := map[*broker.Listener]broker.ListenerOptions{}
	for i, sockets := range s.sockets {
		for _, l := range sockets {
			o, old := next.listeners[i], l.Options()
			o.Net.Network, o.Net.Address, o.Net.UnixMode = old.Net.Network, old.Net.Address, old.Net.UnixMode
			options[l] = o
		}
	}
	var errs []error
	if err := s.b.Reload(ctx, s.cfg.Options, options); err != nil {
		errs = append(errs, fmt.Errorf("not all clients could be looked at: %w", err))
	}
	return errors.Join(append(errs, s.pre.listen())...)
}
