//go:build linux

package main

import (
	"context"
	"fmt"
)

type listsCmd struct {
	flags
	Clients int    `short:"c" default:"1000" help:"Clients."`
	Topics  int    `default:"50" help:"Topics of a list."`
	By      string `enum:"client,broker" default:"client" help:"Who subscribes: client or broker, see docs/presub.md."`
}

// Run connects clients with lists of topics, of which there are about a thousand.
func (c *listsCmd) Run(ctx context.Context, o *output) error {
	if c.Topics < 1 {
		return fmt.Errorf("%w: --topics is at least 1", errUsage)
	}
	plan := c.load().Lists(c.Clients, c.Topics, c.By == "client")
	plan.Duration = 0
	return c.do(ctx, o, plan, c.Clients)
}
