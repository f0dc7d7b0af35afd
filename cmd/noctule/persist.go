package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"noctule/broker"
	"noctule/broker/store/bolt"
	"noctule/broker/store/mosquitto"
	"noctule/cmd/internal/conf"
	"noctule/cmd/internal/sqlitedb"
	"noctule/internal/regular"
)

// savePatience is how long a save on SIGUSR1 may take: the disk may be gone.
const savePatience = 10 * time.Second

// openStore opens the file of persistent state; nil if there is to be none. path is where it is.
func (c *command) openStore(cfg *conf.Config) (s *bolt.Store, path string, err error) {
	p := &cfg.Persistence
	if !p.On {
		return nil, "", nil
	}
	t := &takeover{command: c, theirs: p.MosquittoPath(), ours: p.Path()}
	if s, err = t.open(); err != nil {
		return nil, "", fmt.Errorf("Couldn't open database: %w", err)
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
	return s, t.ours, nil
}

// headSize is how much of a file says what it is.
const headSize = 64

func headOf(path string) ([]byte, error) {
	f, err := regular.Open(path)
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
func (c *command) importFile(from, to string) (r mosquitto.Report, err error) {
	source, err := openState(from)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	db, err := bolt.Open(to, bolt.Options{NoSync: true, Bulk: true})
	if err != nil {
		return r, err
	}
	r, err = mosquitto.Import(source, &telling{Store: db, c: c}, time.Now().Unix())
	if source.database != nil && source.database.Unknown() > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d chunks of unknown types", source.database.Unknown()))
	}
	if err == nil && source.database != nil {
		err = setImprint(db, from)
	}
	return r, errors.Join(err, db.Sync(), db.Close())
}

// stateFile is a file that holds Mosquitto's state.
type stateFile struct {
	mosquitto.Source
	database *mosquitto.Database // nil: another kind
	close    func() error
}

// Close gives the file up.
func (f *stateFile) Close() error { return f.close() }

// openState opens a mosquitto.db, an SQLite file or JSON, whichever the file is.
func openState(path string) (*stateFile, error) {
	head, err := headOf(path)
	if err != nil {
		return nil, err
	}
	if isSQLite(head) {
		db, err := sqlitedb.Open(path)
		if err != nil {
			return nil, err
		}
		return &stateFile{Source: db, close: db.Close}, nil
	}
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		return &stateFile{Source: mosquitto.NewJSON(f), close: f.Close}, nil
	}
	d := mosquitto.NewDatabase(f)
	return &stateFile{Source: d, database: d, close: f.Close}, nil
}

// save makes persistent state durable, as SIGUSR1 asks; it nearly always is already.
func (c *command) save(b *broker.Broker, file *fileWatch) {
	path := file.path
	c.info("Saving in-memory database to %s.", path)
	ctx, cancel := context.WithTimeout(context.Background(), savePatience)
	defer cancel()
	if err := b.Save(ctx); err != nil {
		c.fail(fmt.Errorf("Error saving in-memory database, %w", err))
		return
	}
	file.look()
}
