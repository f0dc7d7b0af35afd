package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"noctule/broker"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/cmd/internal/conf"
)

// A start with much persistent state may take minutes: systemd is told to wait, SIGTERM ends it, and the log
// says how far it is.

// Times of a long start.
const (
	extendFirst = time.Second
	extendEvery = 10 * time.Second
	extendBy    = 60 * time.Second
)

// brought is what a start has come to.
type brought struct {
	db   *bolt.Store // nil without persistent state
	path string      // of db
	b    *broker.Broker
	code int
	err  error
}

// bringUp opens the persistent state and makes the broker. It is ended by a signal: all that it does to
// files is done by one rename or in transactions, so it can be left where it is.
func (c *command) bringUp(cfg *conf.Config, signals chan os.Signal) (x brought, ended bool) {
	done := make(chan brought, 1)
	go func() { done <- c.bring(cfg) }() // awaited below, or it ends with the program
	t := time.NewTimer(extendFirst)
	defer t.Stop()
	var later []os.Signal
	defer func() {
		for _, sig := range later {
			select {
			case signals <- sig:
			default: // as the system does when there are too many
			}
		}
	}()
	for {
		select {
		case x := <-done:
			return x, false
		case <-t.C:
			t.Reset(extendEvery)
			_ = notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=Reading persistent state",
				extendBy.Microseconds())) // systemd will see
		case sig := <-signals:
			if isEnd(sig) {
				c.info("Ended while the persistent state was being read.")
				_ = removeIf(cfg.Persistence.Path() + ".new") // the next start would do it
				return x, true
			}
			if len(later) < cap(signals) {
				later = append(later, sig)
			}
		}
	}
}

func (c *command) bring(cfg *conf.Config) (x brought) {
	if x.db, x.path, x.err = c.openStore(cfg); x.err != nil {
		x.code = exitConfig
		return x
	}
	if x.b, x.err = broker.New(cfg.Options); x.err != nil {
		x.code = stateCode(x.err)
	}
	return x
}

// telling is a store that logs how far an import is.
type telling struct {
	store.Store
	c     *command
	bytes int
	last  time.Time
}

// Commit implements store.Store.
func (t *telling) Commit(batches ...[]byte) error {
	for _, b := range batches {
		t.bytes += len(b)
	}
	if now := time.Now(); now.Sub(t.last) > extendEvery {
		if !t.last.IsZero() {
			t.c.info("Importing: %d MB so far.", t.bytes>>20)
		}
		t.last = now
	}
	return t.Store.Commit(batches...)
}

// lostEvery is how often the broker looks whether its database is still there.
const lostEvery = 10 * time.Second

// fileWatch notices that the database has been removed or replaced under the broker, which goes on with a
// file that has no name any more: all of it would be gone at the end.
type fileWatch struct {
	*command
	path string
	was  os.FileInfo

	// Atomic:
	lost  atomic.Bool
	times atomic.Int64 // how often it was lost
}

// newFileWatch begins with the file as it is; nil without one.
func (c *command) newFileWatch(path string) *fileWatch {
	if path == "" {
		return nil
	}
	w := &fileWatch{command: c, path: path}
	w.was, _ = os.Stat(path) // nil if it is lost already
	return w
}

// look reports whether the file is in its place, and logs it when that has changed.
func (w *fileWatch) look() bool {
	is, err := os.Stat(w.path)
	there := err == nil && w.was != nil && os.SameFile(is, w.was)
	if there == !w.lost.Load() {
		return there
	}
	w.lost.Store(!there)
	if there {
		w.log.Warn("Warning: " + w.path + " is in its place again.")
		return true
	}
	w.times.Add(1)
	w.fail(fmt.Errorf("%s has been removed or replaced while it is in use: its content is lost at the end; "+
		"until then `noctule db backup %s COPY` can save it", w.path, w.path))
	return false
}

// run looks until ctx is done.
func (w *fileWatch) run(ctx context.Context) {
	t := time.NewTicker(lostEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.look()
		case <-ctx.Done():
			return
		}
	}
}
