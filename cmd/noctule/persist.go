package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"noctule/broker"
	"noctule/broker/store/bolt"
	"noctule/broker/store/mosquitto"
	"noctule/cmd/internal/conf"
	"noctule/cmd/internal/sqlitedb"
)

// savePatience is how long a save on SIGUSR1 may take: the disk may be gone.
const savePatience = 10 * time.Second

// openStore opens the file of persistent state; nil if there is to be none.
func (c *command) openStore(cfg *conf.Config) (*bolt.Store, error) {
	p := &cfg.Persistence
	if !p.On {
		return nil, nil
	}
	if err := c.importFirst(p.Path()); err != nil {
		return nil, fmt.Errorf("Couldn't open database: %w", err)
	}
	s, err := bolt.Open(p.Path(), bolt.Options{Log: c.log})
	if err != nil {
		return nil, fmt.Errorf("Couldn't open database: %w", err)
	}
	cfg.Options.Store, cfg.Options.MaxQueuedMemory = s, cfg.MaxQueuedMemory
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

// importFirst turns a file that Mosquitto has written into one of ours. The original stays beside it.
func (c *command) importFirst(path string) error {
	head, err := headOf(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case isSQLite(head):
		return fmt.Errorf("%s is an SQLite file: see `noctule db import`", path)
	case !mosquitto.IsDatabase(head):
		return nil
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) { // of a start that was cut off
		return err
	}
	r, err := importFile(path, fresh)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), removeIf(fresh))
	}
	kept, err := keepBeside(path)
	if err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	c.info("Imported %d sessions with %d subscriptions and %d messages, and %d retained messages.",
		r.Sessions, r.Subscriptions, r.Queued, r.Retained)
	c.info("The original is kept as %s.", kept)
	for _, n := range r.Notes {
		c.log.Warn("Warning: not imported: " + n)
	}
	return syncDir(filepath.Dir(path))
}

// headSize is how much of a file says what it is.
const headSize = 64

func headOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:n], nil
}

func isSQLite(head []byte) bool { return bytes.HasPrefix(head, []byte("SQLite format 3\x00")) }

// importFile puts what another file holds into a new one.
func importFile(from, to string) (r mosquitto.Report, err error) {
	s, unknown, err := readState(from)
	if err != nil {
		return r, err
	}
	db, err := bolt.Open(to, bolt.Options{NoSync: true})
	if err != nil {
		return r, err
	}
	r, err = mosquitto.Import(s, db, time.Now().Unix())
	if unknown > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d chunks of unknown types", unknown))
	}
	return r, errors.Join(err, db.Sync(), db.Close())
}

// readState reads a mosquitto.db, an SQLite file or JSON, whichever the file is.
func readState(path string) (s *mosquitto.State, unknown int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	head := make([]byte, headSize)
	n, err := f.ReadAt(head, 0)
	switch {
	case n == 0:
		return nil, 0, err
	case isSQLite(head[:n]):
		s, err = sqlitedb.Read(path)
		return s, 0, err
	case head[0] != '{':
		return mosquitto.Decode(f)
	}
	s = &mosquitto.State{}
	d := json.NewDecoder(f)
	if err := d.Decode(s); err != nil {
		return nil, 0, fmt.Errorf("byte %d: %w", d.InputOffset(), err)
	}
	return s, 0, nil
}

// keepBeside gives a file a second name that is free.
func keepBeside(path string) (string, error) {
	for n := 0; ; n++ {
		name := path + ".mosquitto"
		if n > 0 {
			name += fmt.Sprint("-", n)
		}
		err := os.Link(path, name)
		switch {
		case err == nil:
			return name, nil
		case errors.Is(err, os.ErrExist):
			continue
		}
		return name, copyNew(path, name) // a file system without links
	}
}

// copyNew copies a file to a name that must be free.
func copyNew(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// syncDir makes names in a directory durable, where a directory can be synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // not everywhere
	return d.Close()
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
