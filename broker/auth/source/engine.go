// Package source is where logins and rights come from that no file of Mosquitto's has: tokens, webservices,
// databases, Redis, directories, as auth.yaml says. Each source is an auth.PassSource; package lookup asks.
//
// What a source says, in one table: docs/security.md. A login is asked about in the order of the file; rules
// are made when a client is let in, and travel in its auth.Pass.
//
// An Engine has the sources of all files, so that a reload goes all or nothing: Prepare makes what is new and
// keeps what stays as it was, with its caches and circuits; Use puts it in force. Who has been let in goes on
// to be decided about by the source of the same file and name.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"sync"
	"sync/atomic"

	"noctule/broker/auth"
	"noctule/broker/auth/token"
	"noctule/broker/lookup"
)

// Engine has sources at work. It may be used from any goroutine, except Prepare, Use and Close, which one
// goroutine calls.
type Engine struct {
	// Set by New, then read-only:
	log     *slog.Logger
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	metrics *metrics
	lives   *lives
	asking  *askers
	dial    dialer // by tests; nil: the network

	work sync.WaitGroup

	// Atomic:
	current atomic.Pointer[map[string]*running]
}

// dialer connects to webservices.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// New makes an engine without sources.
func New(log *slog.Logger) *Engine {
	e := &Engine{log: log, metrics: newMetrics()}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.lives, e.asking = newLives(e), newAskers(e)
	e.current.Store(&map[string]*running{})
	return e
}

// Set is the sources of one file.
type Set struct {
	Authenticators []auth.Authenticator
	Methods        auth.Methods // "jwt", if there is a source of tokens; nil
}

// Plan is sources with everything that they need loaded. It ends with Use or Discard.
type Plan struct {
	e    *Engine
	next map[string]*running
	// Sets are those of the files that Prepare was given, in their order.
	Sets []*Set
}

// Prepare loads what files name, and changes nothing. An error is an *auth.FileError, or names file and line.
func (e *Engine) Prepare(files []*Config) (*Plan, error) {
	p := &Plan{e: e, next: map[string]*running{}}
	old := *e.current.Load()
	for _, f := range files {
		set := &Set{}
		for i := range f.Sources {
			cfg := &f.Sources[i]
			key := keyOf(f.file, cfg.Name)
			r, err := newRunning(cfg, f.file, e)
			if err != nil {
				p.Discard()
				return nil, f.wrong(i, err)
			}
			if was := old[key]; was != nil && was.same(r) {
				r.close()
				r = was
			}
			p.next[key] = r
			set.Authenticators = append(set.Authenticators, &Source{e: e, key: key, name: cfg.Name})
			if r.tokens != nil && set.Methods == nil {
				set.Methods = auth.Methods{token.MethodName: &method{Source{e: e, key: key, name: cfg.Name}}}
			}
		}
		p.Sets = append(p.Sets, set)
	}
	return p, nil
}

// wrong is an error of the source at i, with its line.
func (c *Config) wrong(i int, err error) error {
	if f, ok := errors.AsType[*auth.FileError](err); ok { // it has a line of its own
		return f
	}
	path := pathOf(i)
	if f, ok := errors.AsType[*lookup.FileError](err); ok {
		path += f.Path
	}
	return c.at(lookup.Wrong(path, "source %s: %v", c.Sources[i].Name, err))
}

// Discard gives up what was loaded.
func (p *Plan) Discard() {
	for key, r := range p.next {
		if (*p.e.current.Load())[key] != r {
			r.close()
		}
	}
}

// Use puts a plan in force.
func (e *Engine) Use(p *Plan) {
	old := *e.current.Swap(&p.next)
	changed := false
	for key, r := range old {
		if p.next[key] != r {
			changed = true
			e.release(r)
		}
	}
	if changed {
		e.lives.all()
		e.asking.table.each(func(_ held, x *asker) { x.forget() })
	}
}

// Close ends what is under way and waits for it.
func (e *Engine) Close() {
	e.cancel()
	e.lives.close()
	for _, r := range *e.current.Swap(&map[string]*running{}) {
		e.release(r)
	}
	e.work.Wait()
}

// acquire is the source of a key, which stays open until release; nil if there is none.
func (e *Engine) acquire(key string) *running {
	for {
		r := (*e.current.Load())[key]
		if r == nil {
			return nil
		}
		for n := r.uses.Load(); n > 0; n = r.uses.Load() {
			if r.uses.CompareAndSwap(n, n+1) {
				return r
			}
		} // it has just been closed: there is another one, or none
	}
}

// release ends a use; the last one closes the source.
func (e *Engine) release(r *running) {
	if r.uses.Add(-1) == 0 {
		r.close()
	}
}

func keyOf(file, name string) string { return file + "\x00" + name }

func (r *running) key() string { return keyOf(r.file, r.cfg.Name) }

// same reports whether two are of the same settings and have read the same files.
func (r *running) same(o *running) bool {
	a, b := *r.cfg, *o.cfg
	return reflect.DeepEqual(&a, &b) && maps.Equal(r.files, o.files)
}

// tell writes a line of which there may be many.
func (e *Engine) tell(line string, more int) {
	if more > 0 {
		line += fmt.Sprintf(" (and %d more in %v)", more, lookup.DigestEvery)
	}
	e.log.Warn(line + ".")
}

// circuit tells that a source is left alone, or asked again.
func (e *Engine) circuit(name, now, was string) {
	e.log.Warn(fmt.Sprintf("Logins: source %s: circuit %s, was %s.", name, now, was))
}

// Source is one source of a policy.
type Source struct {
	e         *Engine
	key, name string
}

// A Source has more to say than a Verdict.
var _ auth.Authenticator = (*Source)(nil)

// Admit implements auth.PassSource.
func (s *Source) Admit(ctx context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	r := s.e.acquire(s.key)
	if r == nil {
		return auth.Ask, nil
	}
	defer s.e.release(r)
	if !r.fit(l) {
		return auth.Ignore, nil
	}
	v, p := r.admit(ctx, l)
	s.e.metrics.logins.WithLabelValues(s.name, outcomeOf(v)).Inc()
	return v, p
}

// Authenticate implements auth.Authenticator, for who has no use for a Pass. It may take as long as Admit.
func (s *Source) Authenticate(l *auth.Login) auth.Verdict {
	ctx, cancel := context.WithTimeout(s.e.ctx, askMax)
	defer cancel()
	v, _ := s.Admit(ctx, l)
	return v
}

// Keeps reports whether a client that this source has let in would be let in still, as far as that can be
// told without asking anybody: see auth.Policy.Keeps.
func (s *Source) Keeps(x *auth.Stay, username string) bool {
	r := (*s.e.current.Load())[s.key]
	return r != nil && x.Source == s.name && x.Mark != 0 && r.markOf(username) == x.Mark
}

// method is the authentication method of a source of tokens.
type method struct{ Source }

// Name implements auth.Method.
func (m *method) Name() string { return token.MethodName }

// Begin implements auth.Method: the data are the token.
func (m *method) Begin(ctx context.Context, l *auth.Login, data []byte) (auth.Exchange, auth.Step) {
	return nil, m.step(ctx, l, data)
}
