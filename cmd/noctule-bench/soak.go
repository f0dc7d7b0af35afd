//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

type soakCmd struct {
	flags
	Pairs  int           `short:"c" default:"100" help:"Pairs of a publisher and a subscriber."`
	Churn  float64       `default:"0.1" help:"Clients that come and go, as a share of those of the pairs."`
	Period time.Duration `default:"30s" help:"Time in which each of them is cut once."`
}

// Run lets pairs talk while other clients come and go. Those that go have no part in the messages, so that
// each message is still accounted for.
func (c *soakCmd) Run(ctx context.Context, o *output) error {
	if c.Churn < 0 || c.Period <= 0 {
		return fmt.Errorf("%w: --churn and --period are at least 0", errUsage)
	}
	load := c.load()
	if load.Rate == 0 {
		load.Rate = 1 // hours at full speed tell of nothing but heat
	}
	churners := int(c.Churn * float64(2*c.Pairs))
	return c.do(ctx, o, load.Soak(c.Pairs, churners, c.Period), 2*c.Pairs+churners)
}
