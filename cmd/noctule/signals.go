package main

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"noctule/broker"
)

// handle does what a signal asks for that does not end the program.
func (c *command) handle(ctx context.Context, s os.Signal, b *broker.Broker) {
	switch taskOf(s) {
	case taskNone:
	case taskReload:
		if err := c.handler.Reopen(); err != nil {
			c.fail(err)
		}
		c.log.Warn("SIGHUP: the log was reopened. Reloading the configuration is not supported yet.")
	case taskReopen:
		if err := c.handler.Reopen(); err != nil {
			c.fail(err)
		}
	case taskSave:
		c.log.Warn(s.String() + ": saving the in-memory database is not supported yet.")
	case taskTree:
		c.printTree(ctx, b)
	}
}

// task is what a signal asks for.
type task int

// What signals ask for; see taskOf.
const (
	taskNone   task = iota
	taskReload      // read the configuration again, and reopen the log
	taskReopen      // reopen the log
	taskSave        // write the in-memory database
	taskTree        // print the subscriptions
)

// printing is set while the subscriptions are being printed.
type printing struct{ on atomic.Bool }

// printTree prints the subscriptions to stdout while everything else goes on; one print at a time. Nobody
// waits for it: if stdout takes nothing, it ends with the process.
func (c *command) printTree(ctx context.Context, b *broker.Broker) {
	if c.printing.on.Swap(true) {
		c.log.Warn("Warning: the subscription tree is still being printed.")
		return
	}
	go func() {
		defer c.printing.on.Store(false)
		if err := b.WriteTree(ctx, c.stdout); err != nil && ctx.Err() == nil {
			c.fail(err)
		}
	}()
}

// isEnd reports whether a signal ends the program.
func isEnd(s os.Signal) bool { return s == os.Interrupt || s == syscall.SIGTERM }
