//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"noctule/bench"
)

type stormCmd struct {
	flags
	Clients    int `short:"c" default:"1000" help:"Clients, a subscription each."`
	ReturnRate int `placeholder:"N" help:"Connections per second after the cut; 0: all at once."`

	Retries    int           `default:"8" help:"Further tries of a client that does not get back; 0: none."`
	Backoff    time.Duration `default:"100ms" help:"Wait before the first, doubled for each, 10 s at most."`
	TryTimeout time.Duration `default:"10s" help:"Longest time a try may take; 0: the system's."`
}

// Run connects the clients, cuts them all, and measures how they come back.
func (c *stormCmd) Run(ctx context.Context, o *output) error {
	rate := c.ReturnRate
	if rate == 0 {
		rate = int(c.Rate) // there are no messages: --rate can mean nothing else
	}
	load := c.load()
	load.Duration = 0
	if c.Retries < 0 || c.Backoff < 0 || c.TryTimeout < 0 {
		return fmt.Errorf("%w: --retries, --backoff and --try-timeout are not negative", errUsage)
	}
	s := bench.Storm{Rate: rate, Retries: c.Retries, Backoff: c.Backoff, Timeout: c.TryTimeout}
	return c.do(ctx, o, load.Storm(c.Clients, s), c.Clients)
}
