//go:build linux

package main

import (
	"context"

	"noctule/bench"
)

type stormCmd struct {
	flags
	Clients    int `short:"c" default:"1000" help:"Clients, a subscription each."`
	ReturnRate int `help:"Connections per second after the cut; 0: all at once."`
}

// Run connects the clients, cuts them all, and measures how they come back.
func (c *stormCmd) Run(ctx context.Context, o *output) error {
	rate := c.ReturnRate
	if rate == 0 {
		rate = int(c.Rate) // there are no messages: --rate can mean nothing else
	}
	load := c.load()
	load.Duration = 0
	return c.do(ctx, o, load.Storm(c.Clients, bench.Storm{Rate: rate}), c.Clients)
}
