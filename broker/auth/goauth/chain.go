package goauth

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"noctule/broker/auth"
	"noctule/broker/lookup"
	"noctule/internal/places"
)

// question is what backends are asked about.
type question struct {
	user, client string
	password     string
	token        string // of who has come with one
	from         places.Peer
}

// found is what a backend says of a login.
type found struct {
	yes, known bool
	name       string    // with yes: the username from now on; "": as it is
	expires    time.Time // the zero Time: never
	barred     bool      // it may come and has no rights
	mark       uint64    // changes when what the backend has of the user does
}

// backend answers. Its methods wait, and are for no loop.
type backend interface {
	login(ctx context.Context, l *auth.Login, q *question) (found, error)
	superuser(ctx context.Context, q *question) (bool, error)
	// grant is what it allows a client; nil if it has to be asked about each topic.
	grant(ctx context.Context, q *question) (*grant, error)
	// topic asks about one: access is 1, 2 or 4. Only for who has no grant.
	topic(ctx context.Context, q *question, access int, topic string) (bool, error)
	close()
}

// member is a backend of a chain.
type member struct {
	Backend
	is backend
}

// Chain is the plug-in at work: an Authenticator and an Authorizer of a policy. What its backends say is
// joined as the plug-in does: who is let in by one is in, and what one allows is allowed. Beside it other
// sources of rules have to grant too.
type Chain struct {
	// Set by New, then read-only:
	cfg      *Config
	host     Host
	members  []*member
	warnings []string
	failing  *lookup.Digest
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	work     sync.WaitGroup

	mu struct { // Guarded by mu:
		sync.Mutex
		clients *simplelru.LRU[names, *client]
	}
	going struct { // Guarded by going, which may be locked with mu held:
		sync.Mutex
		closed bool
	}
}

// Host is what a chain tells of itself to. Those of its functions that are nil are not called.
type Host struct {
	Log *slog.Logger
	// Watch are the events of what asks a source about login, superuser, rules or acl.
	Watch func(source, about string) lookup.Events
	// Login is told what the chain has said of a login.
	Login func(source string, v auth.Verdict)
}

// clientsMax is of how many clients it is known what they may do, beside those that are connected.
const clientsMax = 65536

// New makes a chain of checked options: it reads files and connects to nobody. What was known of clients goes
// on from the chain before, which may be nil, until it is asked for again. An error is an *auth.FileError, or
// says which option is wrong.
func New(cfg *Config, before *Chain, host Host) (*Chain, error) {
	c := &Chain{cfg: cfg, host: host}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mu.clients, _ = simplelru.NewLRU[names, *client](clientsMax, nil) // of a size that is good
	c.failing = lookup.NewDigest(func(line string, more int) {
		if more > 0 {
			line += fmt.Sprintf(" (and %d more in %v)", more, lookup.DigestEvery)
		}
		host.Log.Warn(line + ".")
	})
	for i := range cfg.Backends {
		m := &member{Backend: cfg.Backends[i]}
		var err error
		if m.is, err = c.open(&m.Backend); err != nil {
			c.Close()
			return nil, err
		}
		c.members = append(c.members, m)
	}
	c.inherit(before)
	return c, nil
}

// open makes one backend.
func (c *Chain) open(b *Backend) (backend, error) {
	switch {
	case b.Files != nil:
		return c.openFiles(b)
	case b.HTTP != nil:
		return newWeb(b.HTTP, c, b.Name), nil
	case b.SQL != nil:
		return newDatabase(b.SQL, c, b)
	case b.Redis != nil:
		return newRedis(b.Redis, c, b), nil
	default:
		return c.openJWT(b)
	}
}

// Warnings are what is worth telling about the files, whole log lines.
func (c *Chain) Warnings() []string { return c.warnings }

// Close ends what is under way and waits for it.
func (c *Chain) Close() {
	c.going.Lock()
	c.going.closed = true
	c.going.Unlock()
	c.cancel()
	c.work.Wait()
	for _, m := range c.members {
		m.is.close()
	}
	c.failing.Close()
}

// background runs f on a goroutine that Close waits for; false: it is closed.
func (c *Chain) background(f func()) bool {
	c.going.Lock()
	defer c.going.Unlock()
	if !c.going.closed {
		c.work.Go(f)
	}
	return !c.going.closed
}

// Slow reports that a login takes long: somebody is asked.
func (c *Chain) Slow(*auth.Login) bool { return true }

// Authenticate implements auth.Authenticator, for who has no use for a Pass.
func (c *Chain) Authenticate(l *auth.Login) auth.Verdict {
	v, _ := c.Admit(c.ctx, l)
	return v
}

// source is the name of a backend in a Pass.
func source(backend string) string { return "go-auth: " + backend }

// Admit implements auth.PassSource. All backends are tried, as long as none lets the client in. Who is known
// with another password is refused; who is not known may be so by another source.
func (c *Chain) Admit(ctx context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	v, pass := c.admit(ctx, l)
	if c.host.Login != nil {
		c.host.Login("go-auth", v)
	}
	return v, pass
}

// admit is Admit, untold.
func (c *Chain) admit(ctx context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	if !l.HasUsername {
		return auth.Ignore, nil
	}
	if !l.HasPassword {
		return auth.Defer, nil
	}
	user, only := c.addressee(l.Username, l.ClientID)
	q := &question{
		user: user, client: l.ClientID, password: string(l.Password),
		from: places.Peer{Addr: l.Address, Trusted: l.Local},
	}
	var failed error
	known := false
	for range c.cfg.Retries + 1 {
		failed, known = nil, false
		for _, m := range c.members {
			if !m.Users || only != nil && m != only {
				continue
			}
			f, err := m.is.login(ctx, l, q)
			switch {
			case err != nil:
				failed = fmt.Errorf("%s: %w", m.Name, err)
			case f.yes:
				return auth.Allow, c.pass(ctx, m, only, l, q, f)
			}
			known = known || f.known
		}
		if failed == nil || ctx.Err() != nil {
			break
		}
	}
	switch {
	case failed != nil:
		c.failing.Add(fmt.Sprintf("go-auth does not know about a login: %v", failed))
		return auth.Ask, nil
	case known:
		return auth.Deny, nil
	}
	return auth.Defer, nil
}

// addressee is the username that backends are asked about, and the only one that is asked; nil: all are.
func (c *Chain) addressee(username, clientID string) (string, *member) {
	if c.cfg.ClientIDAsUsername {
		username = clientID
	}
	if !c.cfg.CheckPrefix {
		return username, nil
	}
	prefix, rest, ok := strings.Cut(username, "_")
	for _, m := range c.members {
		if !ok || prefix == "" || m.Prefix != prefix {
			continue
		}
		if c.cfg.StripPrefix || m.JWT != nil {
			username = rest
		}
		return username, m
	}
	return username, nil
}

// pass is what a client gets that is let in. Its rights are fetched, so that they are there when it is.
func (c *Chain) pass(
	ctx context.Context, m, only *member, l *auth.Login, q *question, f found,
) *auth.Pass {
	p := &auth.Pass{Source: source(m.Name), Mark: max(f.mark, 1), Expires: f.expires}
	username := l.Username
	if f.name != "" {
		p.Username, p.HasUsername, username = f.name, true, f.name
		q.user = f.name
	}
	q.password = "" // what is kept of it knows none
	cl := &client{c: c, q: *q, only: only, barred: f.barred || c.special(username, l.ClientID)}
	cl.load(ctx) // what it has not found out is asked for again
	if w := l.Will; w != nil && cl.Check(auth.Write, w) == auth.Ask &&
		cl.Ask(ctx, auth.Write, w) == auth.Allow {
		cl.will = string(w)
	}
	c.mu.Lock()
	c.mu.clients.Add(names{username, l.ClientID}, cl)
	c.mu.Unlock()
	return p
}

// special reports whether a name has what would be more than a part of a level.
func (c *Chain) special(username, clientID string) bool {
	return c.cfg.DenySpecial && strings.ContainsAny(username+clientID, "+#/")
}

// Keeps reports whether a client that was let in would be let in still, as far as that can be told without
// asking anybody: see auth.Policy.Keeps.
func (c *Chain) Keeps(x *auth.Stay, username string) bool {
	for _, m := range c.members {
		if x.Source != source(m.Name) || !m.Users {
			continue
		}
		f, ok := m.is.(*files)
		if !ok {
			return true
		}
		user, _ := c.addressee(username, username)
		return f.passwords.Mark(user) == x.Mark
	}
	return false
}

// Rules implements auth.Authorizer. Who has no username may do nothing, as with the plug-in.
func (c *Chain) Rules(clientID, username string, hasUsername bool) auth.Rules {
	if !hasUsername {
		return nothing()
	}
	who := names{username, clientID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl, ok := c.mu.clients.Get(who); ok {
		return cl
	}
	user, only := c.addressee(username, clientID)
	cl := &client{
		c: c, q: question{user: user, client: clientID}, only: only, barred: c.special(username, clientID),
	}
	c.mu.clients.Add(who, cl)
	if c.onlyFiles() { // which keep nobody waiting
		cl.load(c.ctx)
	} else {
		cl.renew()
	}
	return cl
}

func (c *Chain) onlyFiles() bool {
	for _, m := range c.members {
		if _, ok := m.is.(*files); !ok {
			return false
		}
	}
	return true
}

// inherit goes on with what was known before.
func (c *Chain) inherit(before *Chain) {
	if before == nil || c.onlyFiles() { // which are read already
		return
	}
	before.mu.Lock()
	defer before.mu.Unlock()
	for _, who := range before.mu.clients.Keys() {
		old, _ := before.mu.clients.Peek(who)
		cl := &client{c: c, q: old.q, barred: old.barred, will: old.will}
		if old.q.token == "" {
			cl.q.user, cl.only = c.addressee(who.user, who.client)
			cl.barred = c.special(who.user, who.client)
		} else if old.only != nil {
			for _, m := range c.members {
				if m.Name == old.only.Name {
					cl.only = m
				}
			}
		}
		if x := old.known.Load(); x != nil {
			y := *x
			y.until, y.fixed = time.Time{}, false // it is asked for again
			cl.known.Store(&y)
		}
		old.granted.copyTo(&cl.granted)
		c.mu.clients.Add(who, cl)
	}
}
