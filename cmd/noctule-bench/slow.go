//go:build linux

package main

import (
	"context"
	"fmt"
)

type slowCmd struct {
	flags
	Publishers  int     `default:"1" help:"Publishers."`
	Subscribers int     `default:"100" help:"Subscribers, the slow ones included."`
	Share       float64 `default:"0.1" help:"Share of the subscribers that are slow."`
	Speed       int     `default:"1000" help:"Bytes per second that a slow subscriber reads at most."`
}

// Run measures how some subscribers fare while others do not keep up.
func (c *slowCmd) Run(ctx context.Context, o *output) error {
	slow := int(c.Share * float64(c.Subscribers))
	if c.Share < 0 || slow >= c.Subscribers || c.Speed < 1 {
		return fmt.Errorf("%w: slow wants a --share below 1 and a --speed above 0", errUsage)
	}
	load := c.load()
	if load.Rate == 0 {
		load.Rate = 10 // a closed loop would tell of the slowest alone
	}
	plan := load.Slow(c.Publishers, c.Subscribers-slow, slow, c.Speed)
	return c.do(ctx, o, plan, c.Publishers+c.Subscribers)
}
