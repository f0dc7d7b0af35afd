package presub

import (
	"context"
	"errors"
	"sync"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/codec"
	"noctule/codec/im"
)

// Grants is what a client that connects gets from all providers that are for it. The reason is Success, or
// why the client is refused. It takes as long as the slowest lookup waits for its turn, which ctx bounds, and
// then its budget at most.
func (e *Engine) Grants(ctx context.Context, c Client) ([]behalf.Grant, codec.Reason) {
	rules := e.acquire()
	defer e.release(rules.providers...)
	c.connects = true
	c.Tenant = rules.cfg.Tenant.of(c.ID, c.Username)
	providers := rules.selected(&c)
	if len(providers) == 0 {
		return nil, codec.Success
	}
	grants := make([]behalf.Grant, len(providers))
	errs := make([]error, len(providers))
	panics := make([]*lookup.Thrown, len(providers))
	var wg sync.WaitGroup
	for i, p := range providers[1:] {
		if p.fixed != nil || p.cfg.When == "after_connack" {
			grants[i+1], errs[i+1] = p.grant(ctx, &c)
			continue
		}
		wg.Go(func() {
			defer lookup.Catch(&panics[i+1])
			grants[i+1], errs[i+1] = p.grant(ctx, &c)
		})
	}
	grants[0], errs[0] = providers[0].grant(ctx, &c)
	wg.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p) // where it is known for whom
		}
	}
	if now := e.rules.Load(); now != rules && len(reselected(rules, now)) > 0 { // nobody will look again
		return e.Grants(ctx, c)
	}
	for _, err := range errs {
		var no *refused
		if errors.As(err, &no) {
			return nil, no.code
		}
	}
	return grants, codec.Success
}

// apply makes a set the list that a client has of this provider, unless another user has its session by now.
func (p *provider) apply(ctx context.Context, c *Client, set *behalf.Set) []behalf.Answer {
	answers := p.e.broker.Apply(ctx, &behalf.Request{
		ClientID: c.ID, Username: c.Username, Action: im.Replace, Origin: p.origin, Topics: set,
	})
	for i := range answers {
		for _, r := range answers[i].Results {
			p.e.metrics.results.WithLabelValues(r.State.String(), codeText(r.Code)).Inc()
		}
	}
	return answers
}
