//go:build linux

package main

import (
	"context"

	"noctule/bench"
)

type connCmd struct {
	flags
	Clients int `short:"c" default:"1000" help:"Clients."`
}

// Run connects the clients.
func (c *connCmd) Run(ctx context.Context, o *output) error {
	plan := c.load().Idle(c.Clients)
	plan.Duration = 0
	return c.do(ctx, o, plan, c.Clients)
}

type pubCmd struct {
	flags
	Clients int    `short:"c" default:"1" help:"Publishers."`
	To      string `short:"t" default:"bench/%i" help:"Topic; %i is the client's number."`
}

// Run publishes.
func (c *pubCmd) Run(ctx context.Context, o *output) error {
	return c.do(ctx, o, c.load().Publishers(c.Clients, c.To), c.Clients)
}

type subCmd struct {
	flags
	Clients int    `short:"c" default:"1" help:"Subscribers."`
	From    string `short:"t" default:"bench/#" help:"Topic filter; %i is the client's number."`
}

// Run subscribes and counts for the time of --duration.
func (c *subCmd) Run(ctx context.Context, o *output) error {
	plan := c.load().Subscribers(c.Clients, c.From)
	return c.do(ctx, o, plan, c.Clients)
}

type pairsCmd struct {
	flags
	Pairs int `short:"c" default:"100" help:"Pairs of a publisher and a subscriber."`
}

// Run measures pairs.
func (c *pairsCmd) Run(ctx context.Context, o *output) error {
	return c.do(ctx, o, c.load().Pairs(c.Pairs), 2*c.Pairs)
}

// crowd is both sides of fanout, fanin and shared.
type crowd struct {
	flags
	Publishers  int `default:"${publishers}" help:"Publishers."`
	Subscribers int `default:"${subscribers}" help:"Subscribers."`
}

type fanoutCmd struct{ crowd }

// Run measures a fan-out.
func (c *fanoutCmd) Run(ctx context.Context, o *output) error {
	return c.run(ctx, o, c.load().Fanout(c.Publishers, c.Subscribers))
}

type faninCmd struct{ crowd }

// Run measures a fan-in.
func (c *faninCmd) Run(ctx context.Context, o *output) error {
	return c.run(ctx, o, c.load().Fanin(c.Publishers, c.Subscribers))
}

type sharedCmd struct{ crowd }

// Run measures a shared subscription.
func (c *sharedCmd) Run(ctx context.Context, o *output) error {
	return c.run(ctx, o, c.load().Shared(c.Publishers, c.Subscribers))
}

func (c *crowd) run(ctx context.Context, o *output, plan bench.Plan) error {
	clients := 0
	for _, g := range plan.Groups {
		clients += g.Count
	}
	return c.do(ctx, o, plan, clients)
}
