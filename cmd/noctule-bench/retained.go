//go:build linux

package main

import (
	"context"
	"fmt"

	"noctule/bench"
)

type retainedCmd struct {
	flags
	Clients  int    `short:"c" default:"100" help:"Subscribers."`
	Messages uint32 `short:"n" default:"10000" help:"Retained messages, a topic each."`
}

// Run stores retained messages and lets the clients collect them. The messages are deleted afterwards.
func (c *retainedCmd) Run(ctx context.Context, o *output) error {
	if c.Clients < 1 || c.Messages < 1 || c.Size < bench.HeaderSize {
		const form = "%w: retained wants clients, messages, and a size of %d"
		return fmt.Errorf(form, errUsage, bench.HeaderSize)
	}
	run := bench.Retained{
		Messages: c.Messages, Subscribers: c.Clients, QoS: c.QoS, Size: c.Size, Topic: c.Topic,
		Shape: c.shape(bench.Plan{Duration: c.Duration}),
	}
	return c.perform(ctx, o, c.Clients,
		func(ctx context.Context, t bench.Target, opts bench.Options) (*bench.Report, error) {
			return bench.RunRetained(ctx, t, run, opts)
		})
}
