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

type fanoutCmd struct {
	flags
	Publishers  int `default:"1" help:"Publishers."`
	Subscribers int `default:"100" help:"Subscribers."`
}

// Run measures a fan-out.
func (c *fanoutCmd) Run(ctx context.Context, o *output) error {
	return c.crowd(ctx, o, c.load().Fanout(c.Publishers, c.Subscribers))
}

type faninCmd struct {
	flags
	Publishers  int `default:"100" help:"Publishers."`
	Subscribers int `default:"1" help:"Subscribers."`
}

// Run measures a fan-in.
func (c *faninCmd) Run(ctx context.Context, o *output) error {
	return c.crowd(ctx, o, c.load().Fanin(c.Publishers, c.Subscribers))
}

type sharedCmd struct {
	flags
	Publishers  int `default:"100" help:"Publishers."`
	Subscribers int `default:"10" help:"Members of the group."`
}

// Run measures a shared subscription.
func (c *sharedCmd) Run(ctx context.Context, o *output) error {
	return c.crowd(ctx, o, c.load().Shared(c.Publishers, c.Subscribers))
}

// crowd runs a plan with two sides.
func (f *flags) crowd(ctx context.Context, o *output, plan bench.Plan) error {
	clients := 0
	for _, g := range plan.Groups {
		clients += g.Count
	}
	return f.do(ctx, o, plan, clients)
}
