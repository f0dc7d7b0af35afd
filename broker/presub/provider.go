package presub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/sony/gobreaker/v2"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/internal/places"
)

// Client is who a list is for.
type Client struct {
	ID, Username, Tenant string
	Password             []byte // before CONNACK only; not to be kept
	// Address is where it connects from; zero if it is not known. Listener is the name of where
	// it comes in.
	Address  netip.Addr
	Listener string

	connects bool // it waits for CONNACK
}

// source is where a provider's lists come from.
type source interface {
	// topics returns the list of a client. It ends when ctx does.
	topics(ctx context.Context, c *Client) ([]Topic, error)
	// close gives up what the source holds.
	close()
}

// batcher is a source that may be asked for the lists of several clients at once.
type batcher interface {
	source
	// lists returns what is known of each client, in their order, or an error that is everybody's.
	lists(ctx context.Context, list []*Client) ([]found, error)
	// size is how many clients may be asked for at once.
	size() int
}

// provider is one source with its time budget, cache, circuit breaker and policies.
type provider struct {
	// Set by newProvider, then read-only:
	cfg    *ProviderConfig
	e      *Engine
	files  files
	origin *behalf.Origin
	src    source
	fixed  *behalf.Set                     // the list of everybody, if it does not depend on the client
	shared *lru.Cache[string, *behalf.Set] // lists by tenant, if it is all that they depend on

	queue   *queue // nil if the source is not asked over a network; cache and breaker too
	cache   *lru.Cache[string, known]
	breaker *gobreaker.CircuitBreaker[[]found]
	chase   *chase
}

// known is a cached list.
type known struct {
	set   *behalf.Set
	fresh time.Time // until then it is not asked for again
	stale time.Time // until then it may be used if asking fails
}

// Errors of providers.
var (
	errTooMany = errors.New("the list is too long")
	errNoToken = errors.New("the password is no token")
)

// newProvider makes the provider of a checked configuration.
func newProvider(cfg *ProviderConfig, e *Engine) (*provider, error) {
	p := &provider{cfg: cfg, e: e, files: make(files)}
	p.origin = &behalf.Origin{
		Name: "presub:" + cfg.Name, Unsubscribe: policyOf(cfg.ClientUnsubscribe), Bypass: cfg.ACL == "bypass",
		PerConnect: true,
	}
	var err error
	conns := 0
	switch {
	case cfg.Static != nil:
		p.src = cfg.Static
		if cfg.Static.fixed() {
			list, _ := cfg.Static.topics(e.ctx, &Client{})
			p.fixed, err = p.setOf(list)
		} else if cfg.Static.byTenant() {
			p.shared, err = lru.New[string, *behalf.Set](cfg.Cache.Max)
		}
	case cfg.HTTP != nil:
		conns = cfg.HTTP.MaxConns
		var src *httpSource
		if src, err = newHTTPSource(cfg.HTTP, p.files); err == nil {
			p.src = src.batched()
		}
	case cfg.SQL != nil:
		conns = cfg.SQL.MaxConns
		p.src, err = newSQLSource(cfg.SQL, p.files)
	default:
		p.src, err = newJWTSource(cfg.JWT, p.files)
	}
	if err != nil {
		return nil, err
	}
	if p.chase = newChase(p, localSlots); conns == 0 {
		return p, nil
	}
	p.chase.slots = conns * max(1, batchOf(cfg))
	if p.cache, err = lru.New[string, known](cfg.Cache.Max); err != nil {
		p.src.close()
		return nil, fmt.Errorf("cache: %w", err)
	}
	p.queue = newQueue(conns, cfg.MaxWaiting)
	p.breaker = gobreaker.NewCircuitBreaker[[]found](gobreaker.Settings{
		Name: cfg.Name, Timeout: breakerOpen,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerTrips },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			e.log.Warn(fmt.Sprintf("Pre-subscription: provider %s: circuit %s, was %s.", cfg.Name, to, from))
		},
		IsSuccessful: func(err error) bool { // else clients that it does not know would shut the others out
			var final finalError
			return err == nil || errors.As(err, &final)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errBusy) },
	})
	return p, nil
}

// localSlots is how many lists at a time are made after CONNACK by a source that waits for nobody.
const localSlots = 8

// batchOf is how many clients are in one request.
func batchOf(cfg *ProviderConfig) int {
	if cfg.HTTP == nil {
		return 1
	}
	return cfg.HTTP.Batch
}

// A source that fails so often in a row is left alone for a while.
const (
	breakerTrips = 10
	breakerOpen  = 5 * time.Second
)

func (p *provider) close() { p.src.close() }

// list returns a client's list; an error if neither the source nor the cache has one.
func (p *provider) list(ctx context.Context, c *Client) (*behalf.Set, error) {
	set, old, err := p.lookup(ctx, c)
	if old != nil {
		return old, nil
	}
	return set, err
}

// lookup returns a client's list, or an error and what was its list if that may be used instead.
func (p *provider) lookup(ctx context.Context, c *Client) (set, last *behalf.Set, err error) {
	if p.fixed != nil {
		p.count("ok")
		return p.fixed, nil, nil
	}
	if p.shared != nil {
		set, err = p.tenantList(ctx, c)
		return set, nil, err
	}
	key := c.ID + "\x00" + c.Username + "\x00" + c.Tenant
	started := now()
	var old known
	cached := false
	if p.cache != nil {
		if old, cached = p.cache.Get(key); cached && started.Before(old.fresh) {
			p.e.metrics.cache.WithLabelValues(p.cfg.Name, "hit").Inc()
			return old.set, nil, nil
		}
		p.e.metrics.cache.WithLabelValues(p.cfg.Name, "miss").Inc()
	}
	set, err = p.fetch(ctx, c)
	if err == nil {
		p.count("ok")
		p.e.metrics.size.WithLabelValues(p.cfg.Name).Observe(float64(set.Len()))
		if p.cache != nil {
			p.cache.Add(key, p.remember(set))
		}
		return set, nil, nil
	}
	p.count(outcomeOf(err))
	if cached && now().Before(old.stale) && p.cfg.OnFailure == "last_known" {
		p.e.metrics.cache.WithLabelValues(p.cfg.Name, "stale").Inc()
		return nil, old.set, err
	}
	return nil, nil, err
}

// tenantList is the list of a client's tenant, made once.
func (p *provider) tenantList(ctx context.Context, c *Client) (*behalf.Set, error) {
	if set, ok := p.shared.Get(c.Tenant); ok {
		p.count("ok")
		return set, nil
	}
	set, err := p.fetch(ctx, c)
	if err != nil {
		p.count(outcomeOf(err))
		return nil, err
	}
	p.count("ok")
	p.shared.Add(c.Tenant, set)
	return set, nil
}

// remember is a cache entry: clients that came together are not asked for together again.
func (p *provider) remember(set *behalf.Set) known {
	ttl := time.Duration(p.cfg.Cache.TTL)
	at := now()
	return known{
		set: set, stale: at.Add(ttl + time.Duration(p.cfg.Cache.Stale)),
		fresh: at.Add(time.Duration(float64(ttl) * (0.9 + 0.2*rand.Float64()))),
	}
}

// fetch asks the source, when there is a turn for it. What is never sent counts neither as time of the source
// nor as its failure.
func (p *provider) fetch(ctx context.Context, c *Client) (*behalf.Set, error) {
	if p.queue == nil {
		list, err := p.src.topics(ctx, c)
		if err != nil {
			return nil, err
		}
		return p.setOf(list)
	}
	if p.breaker.State() == gobreaker.StateOpen {
		return nil, gobreaker.ErrOpenState
	}
	t := &turn{c: c}
	if err := p.queue.wait(ctx, t, c.peer()); err != nil {
		return nil, err
	}
	if t.found == nil {
		p.ask(ctx, t)
	}
	if t.found.err != nil {
		return nil, t.found.err
	}
	set, err := p.setOf(t.found.list)
	if err != nil {
		return nil, finalError{err}
	}
	return set, nil
}

// ask asks the source for t, whose turn it is, and for others that wait if the source takes several at once.
func (p *provider) ask(ctx context.Context, t *turn) {
	defer p.queue.leave()
	group := []*turn{t}
	many, ok := p.src.(batcher)
	if ok {
		group = p.queue.company(t, many.size())
	}
	caller := ctx
	if len(group) > 1 { // the others stay when this client goes
		caller = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(caller, time.Duration(p.cfg.Budget))
	defer cancel()
	list, err := p.breaker.Execute(func() ([]found, error) {
		sent := now()
		defer func() {
			p.e.metrics.latency.WithLabelValues(p.cfg.Name).Observe(now().Sub(sent).Seconds())
		}()
		if ok {
			clients := make([]*Client, len(group))
			for i := range group {
				clients[i] = group[i].c
			}
			return many.lists(ctx, clients)
		}
		topics, err := p.src.topics(ctx, t.c)
		if err != nil && caller.Err() != nil { // nobody waits any more, which says nothing about the source
			err = errors.Join(errBusy, err)
		}
		return []found{{list: topics}}, err
	})
	for i, x := range group {
		x.found = &found{err: err}
		if err == nil {
			x.found = &list[i]
		}
		if x != t {
			close(x.came)
		}
	}
}

// peer is whose turn a lookup takes: that of the client's address. Those for clients that are in already, or
// of whom others have said that they log in, take turns as one.
func (c *Client) peer() places.Peer { return places.Peer{Addr: c.Address, Trusted: !c.connects} }

// setOf is the one set of a list. Topics that nobody may subscribe to are left out, counted and told; a list
// with nothing else is none.
func (p *provider) setOf(list []Topic) (*behalf.Set, error) {
	if len(list) > p.cfg.MaxTopics {
		return nil, fmt.Errorf("%w: %d topics, at most %d", errTooMany, len(list), p.cfg.MaxTopics)
	}
	topics := make([]behalf.Topic, 0, len(list))
	var first error
	for i := range list {
		t := list[i].topic()
		if code := t.Check(); code == codec.Success {
			topics = append(topics, t)
		} else if first == nil {
			first = fmt.Errorf("topic %d, %q: %s", i+1, t.Filter, code)
		}
	}
	if bad := len(list) - len(topics); bad > 0 {
		p.e.metrics.skipped.WithLabelValues(p.cfg.Name).Add(float64(bad))
		if len(topics) == 0 {
			return nil, first
		}
		p.e.log.Warn(fmt.Sprintf("Pre-subscription: provider %s: %d of %d topics of a list are left out: %v.",
			p.cfg.Name, bad, len(list), first))
	}
	return p.e.sets.intern(behalf.NewSet(topics)), nil
}

func (p *provider) count(outcome string) {
	p.e.metrics.lookups.WithLabelValues(p.cfg.Name, outcome).Inc()
}

func outcomeOf(err error) string {
	switch {
	case errors.Is(err, errBusy):
		return "busy"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return "circuit_open"
	case errors.Is(err, context.Canceled):
		return "canceled"
	default:
		return "error"
	}
}

// grant is what a client that connects gets from this provider; an error if it is to be refused.
func (p *provider) grant(ctx context.Context, c *Client) (behalf.Grant, error) {
	p.chase.forget(c.ID)
	g := behalf.Grant{Origin: p.origin}
	if p.cfg.When == "after_connack" {
		g.Keep, g.Late = true, p.late(c, 0)
		return g, nil
	}
	set, last, err := p.lookup(ctx, c)
	if err == nil {
		g.Topics = set
		return g, nil
	}
	p.e.log.Warn(
		fmt.Sprintf("Pre-subscription: provider %s has no list for client %s: %v.", p.cfg.Name, c.ID, err),
	)
	switch {
	case last != nil:
		g.Topics = last
	case p.cfg.OnFailure == "refuse":
		return g, &refused{err, p.refusal(err)}
	case p.cfg.OnFailure == "last_known" && errors.Is(err, errBusy): // nobody is down: it may come again
		return g, &refused{err, p.refusal(err)}
	case p.cfg.OnFailure == "last_known":
		g.Keep = true // what the session has
	}
	if p.queue != nil { // a token does not get better
		if p.chase.len() >= owedMax {
			return g, &refused{errBusy, p.refusal(errBusy)}
		}
		g.Late = p.late(c, backOff(0, providerPause))
	}
	return g, nil
}

// late has a client's list looked up once the client is in.
func (p *provider) late(c *Client, in time.Duration) func() {
	who := *c
	who.Password = nil
	return func() { p.chase.add(who, in) }
}

// refused is an error with the reason that a client hears.
type refused struct {
	error
	code codec.Reason
}

// refusal is the reason for which a CONNECT is refused when its list cannot be had.
func (p *provider) refusal(err error) codec.Reason {
	if errors.Is(err, errTooMany) || errors.Is(err, errBusy) && p.cfg.OnOverload == "quota_exceeded" {
		return codec.QuotaExceeded
	}
	return codec.ServerUnavailable
}
