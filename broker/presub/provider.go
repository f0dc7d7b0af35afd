package presub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
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

// source is where a provider's lists come from if it asks nobody over a network.
type source interface {
	// topics returns the list of a client.
	topics(ctx context.Context, c *Client) ([]Topic, error)
}

// provider is one source with its policies.
type provider struct {
	// Set by newProvider, then read-only:
	cfg    *ProviderConfig
	e      *Engine
	files  lookup.Files
	origin *behalf.Origin
	src    source                          // nil if others are asked
	ask    *lookup.Lookup[*behalf.Set]     // nil if nobody is asked
	fixed  *behalf.Set                     // the list of everybody, if it does not depend on the client
	shared *lru.Cache[string, *behalf.Set] // lists by tenant, if it is all that they depend on
	shelf  *shelf                          // its lists in the store; nil if there are none
	close  func()                          // gives up what it holds

	chase   *chase
	failing *lookup.Digest // clients without their list
	leftOut *lookup.Digest // topics
	trouble trouble
}

// Errors of providers.
var (
	errTooMany = errors.New("the list is too long")
	errNoToken = errors.New("the password is no token")
)

// names is what the templates of providers may mention.
func names() lookup.Names {
	return lookup.Names{
		{Name: "clientid", Letter: 'c'}, {Name: "username", Letter: 'u'}, {Name: "tenant", Letter: 'e'},
	}
}

// question is what others are asked about a client.
func (c *Client) question() *lookup.Question {
	return &lookup.Question{Values: []string{c.ID, c.Username, c.Tenant}, From: c.peer()}
}

// newProvider makes the provider of a checked configuration.
func newProvider(cfg *ProviderConfig, e *Engine) (*provider, error) {
	p := &provider{cfg: cfg, e: e, files: make(lookup.Files)}
	p.origin = &behalf.Origin{
		Name: "presub:" + cfg.Name, Unsubscribe: policyOf(cfg.ClientUnsubscribe), Bypass: cfg.ACL == "bypass",
		PerConnect: true,
	}
	p.failing = lookup.NewDigest(e.tell)
	p.leftOut = lookup.NewDigest(e.tell)
	slots := localSlots
	var err error
	switch {
	case cfg.Static != nil:
		p.src = cfg.Static
		if cfg.Static.fixed() {
			list, _ := cfg.Static.topics(e.ctx, &Client{})
			p.fixed, err = p.setOf(list)
		} else if cfg.Static.byTenant() {
			p.shared, err = lru.New[string, *behalf.Set](cfg.Cache.Max)
		}
	case cfg.JWT != nil:
		p.src, err = newJWTSource(cfg.JWT, p.files)
	default:
		slots = cfg.Slots()
		if cfg.OnFailure == "last_known" {
			p.shelf = &shelf{
				k: e.kept, source: cfg.Name, stale: time.Duration(cfg.Cache.Stale),
				written: make(map[lookup.Key]written),
			}
		}
		p.ask, err = lookup.New(&cfg.Settings, p.options())
	}
	if err != nil {
		p.shut()
		return nil, err
	}
	p.close = p.shut
	p.chase = newChase(p, slots)
	return p, nil
}

// options say how others are asked for lists.
func (p *provider) options() lookup.Options[*behalf.Set] {
	m, name := p.e.metrics, p.cfg.Name
	o := lookup.Options[*behalf.Set]{
		Name: name, Names: names(), Files: p.files, Last: p.cfg.OnFailure == "last_known",
		Dial:  p.connect,
		Asked: "clients", Answers: "lists", HTTP: lookup.OK(p.setOfJSON), SQL: p.setOfRows, Cost: costOf,
		Events: lookup.Events{
			Ended:   p.count,
			Cached:  func(outcome string) { m.cache.WithLabelValues(name, outcome).Inc() },
			Took:    func(d time.Duration) { m.latency.WithLabelValues(name).Observe(d.Seconds()) },
			Evicted: func() { m.evicted.WithLabelValues(name).Inc() },
			Circuit: func(now, was string) {
				const text = "Pre-subscription: provider %s: circuit %s, was %s."
				p.e.log.Warn(fmt.Sprintf(text, name, now, was))
			},
		},
	}
	if p.shelf != nil {
		o.Saver = p.shelf
	}
	return o
}

// connect connects to a webservice.
func (p *provider) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if p.e.dial != nil {
		return p.e.dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// localSlots is how many lists at a time are made after CONNACK by a source that waits for nobody.
const localSlots = 8

// shut is close.
func (p *provider) shut() {
	if p.ask != nil {
		p.ask.Close()
	}
	p.failing.Close()
	p.leftOut.Close()
}

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
	switch {
	case p.fixed != nil:
		p.count("ok")
		return p.fixed, nil, nil
	case p.shared != nil:
		set, err = p.tenantList(ctx, c)
		return set, nil, err
	case p.ask == nil:
		set, err = p.own(ctx, c)
		p.count(lookup.Outcome(err))
		return set, nil, err
	}
	q := c.question()
	if set, err = p.ask.Ask(ctx, q); err == nil {
		return set, nil, nil
	}
	if p.cfg.OnFailure == "last_known" {
		last, _ = p.ask.Last(q)
	}
	return nil, last, err
}

// own is the list of a source of ours.
func (p *provider) own(ctx context.Context, c *Client) (*behalf.Set, error) {
	list, err := p.src.topics(ctx, c)
	if err != nil {
		return nil, err
	}
	return p.setOf(list)
}

// tenantList is the list of a client's tenant, made once.
func (p *provider) tenantList(ctx context.Context, c *Client) (*behalf.Set, error) {
	if set, ok := p.shared.Get(c.Tenant); ok {
		p.count("ok")
		return set, nil
	}
	set, err := p.own(ctx, c)
	p.count(lookup.Outcome(err))
	if err == nil {
		p.shared.Add(c.Tenant, set)
	}
	return set, err
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
		const text = "Pre-subscription: provider %s: %d of %d topics of a list are left out: %v"
		p.leftOut.Add(fmt.Sprintf(text, p.cfg.Name, bad, len(list), first))
	}
	set := p.e.sets.intern(behalf.NewSet(topics))
	p.e.metrics.size.WithLabelValues(p.cfg.Name).Observe(float64(set.Len()))
	return set, nil
}

func (p *provider) count(outcome string) {
	p.e.metrics.lookups.WithLabelValues(p.cfg.Name, outcome).Inc()
}

// grant is what a client that connects gets from this provider; an error if it is to be refused.
func (p *provider) grant(ctx context.Context, c *Client) (behalf.Grant, error) {
	p.chase.forget(c.ID)
	g := behalf.Grant{Origin: p.origin}
	if p.cfg.When == "after_connack" {
		g.Keep, g.Late = true, p.late(c, 0)
		return g, nil
	}
	g.Refused = p.e.denied(c, p)
	set, last, err := p.lookup(ctx, c)
	p.trouble.note(err)
	if err == nil {
		g.Topics = set
		return g, nil
	}
	const text = "Pre-subscription: provider %s has no list for client %s: %v"
	p.failing.Add(fmt.Sprintf(text, p.cfg.Name, c.ID, err))
	switch {
	case last != nil:
		g.Topics = last
	case p.cfg.OnFailure == "refuse":
		return g, &refused{err, p.refusal(err)}
	case p.cfg.OnFailure == "last_known" && errors.Is(err, lookup.ErrBusy):
		// Nobody is down: it may come again.
		return g, &refused{err, p.refusal(err)}
	case p.cfg.OnFailure == "last_known":
		g.Keep = true // what the session has
	}
	if p.ask != nil { // a token does not get better
		if p.chase.len() >= owedMax {
			return g, &refused{lookup.ErrBusy, p.refusal(lookup.ErrBusy)}
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
	busy := errors.Is(err, lookup.ErrBusy)
	long := errors.Is(err, errTooMany) || errors.Is(err, lookup.ErrTooLong)
	if long || busy && p.cfg.OnOverload == "quota_exceeded" {
		return codec.QuotaExceeded
	}
	return codec.ServerUnavailable
}
