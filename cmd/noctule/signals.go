package main

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"
)

// handle does what a signal asks for that does not end the program.
func (s *service) handle(ctx context.Context, sig os.Signal) {
	switch taskOf(sig) {
	case taskNone:
	case taskReload:
		s.reload(ctx)
	case taskReopen:
		if err := s.handler.Reopen(); err != nil {
			s.fail(err)
		}
	case taskSave:
		if s.database == nil {
			s.log.Warn(sig.String() + ": there is no persistent state to save.")
			return
		}
		s.save(s.b, s.database)
	case taskTree:
		s.printTree(ctx)
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
func (s *service) printTree(ctx context.Context) {
	if s.tree.on.Swap(true) {
		s.log.Warn("Warning: the subscription tree is still being printed.")
		return
	}
	go func() {
		defer s.tree.on.Store(false)
		if err := s.b.WriteTree(ctx, s.stdout); err != nil && ctx.Err() == nil {
			s.fail(err)
		}
	}()
}

// isEnd reports whether a signal ends the program.
func isEnd(s os.Signal) bool { return s == os.Interrupt || s == syscall.SIGTERM }
