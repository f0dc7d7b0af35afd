package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"noctule/broker"
	"noctule/broker/store/bolt"
	"noctule/cmd/internal/conf"
)

// savePatience is how long a save on SIGUSR1 may take: the disk may be gone.
const savePatience = 10 * time.Second

// openStore opens the file of persistent state; nil if there is to be none.
func (c *command) openStore(cfg *conf.Config) (*bolt.Store, error) {
	p := &cfg.Persistence
	if !p.On {
		return nil, nil
	}
	s, err := bolt.Open(p.Path(), bolt.Options{Log: c.log})
	if err != nil {
		return nil, fmt.Errorf("Couldn't open database: %w", err)
	}
	cfg.Options.Store = s
	switch p.Sync {
	case "always":
		cfg.Options.PersistenceSync = broker.SyncAlways
	case "interval":
		cfg.Options.PersistenceSync = broker.SyncInterval
	default:
		cfg.Options.PersistenceSync = broker.SyncGroup
	}
	return s, nil
}

// save makes persistent state durable, as SIGUSR1 asks; it nearly always is already.
func (c *command) save(b *broker.Broker, path string) {
	c.info("Saving in-memory database to %s.", path)
	ctx, cancel := context.WithTimeout(context.Background(), savePatience)
	defer cancel()
	if err := b.Save(ctx); err != nil {
		c.fail(fmt.Errorf("Error saving in-memory database, %w", err))
		return
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		c.fail(fmt.Errorf("%s has been removed while it is in use: its content is lost at the end", path))
	}
}
