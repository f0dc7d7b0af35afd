package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"noctule/broker"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/mosquitto"
	"noctule/cmd/internal/conf"
)

// lockPatience is how long check waits for a database that another process has open.
const lockPatience = 50 * time.Millisecond

// state looks at the persistent state, as takeover finds it.
func (k *checking) state() {
	p := &k.cfg.Persistence
	if !p.On {
		return
	}
	at := k.cfg.At("persistence_location", "persistence_file", "persistence", "retained_persistence")
	ours, theirs := p.Path(), p.MosquittoPath()
	if isFilled(ours) {
		k.database(at, ours)
		return
	}
	head, err := headOf(theirs)
	reason := k.unwritable(ours)
	switch {
	case errors.Is(err, fs.ErrPermission):
		k.fails(at, "'%s': %s.", theirs, k.denied(theirs, "chown "+k.who.name+": "+theirs))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		k.fails(at, "'%s': %v.", theirs, cause(err))
	case len(head) == 0 && reason == "":
	case len(head) == 0 && errors.Is(mayWriteDir(filepath.Dir(ours)), syscall.EROFS):
		k.warns(at, "persistence_location: %s. Nothing is kept until that is over.", reason)
	case len(head) == 0:
		k.fails(at, "persistence_location: %s.", reason)
	case isBolt(head) && reason == "": // it is moved
		k.database(at, theirs)
	case isBolt(head): // it is used where it is
		k.database(at, theirs)
	case isSQLite(head):
		k.fails(at, "%s is an SQLite file: see `noctule db import`.", theirs)
	case !mosquitto.IsDatabase(head):
		k.fails(at, "%s: %v, nor one of Mosquitto.", theirs, bolt.ErrForeign)
	default:
		k.mosquittoState(at, theirs, reason)
	}
}

// database looks at a database of ours that is there.
func (k *checking) database(at []conf.Place, path string) {
	err := mayWrite(path)
	switch {
	case errors.Is(err, syscall.EROFS):
		k.warns(at, "'%s': %v. Nothing new is kept until that is over.", path, err)
	case err != nil:
		k.fails(at, "'%s': %s.", path, k.refusal(path, err, "chown "+k.who.name+": "+path))
		return
	}
	s, err := bolt.Open(path, bolt.Options{ReadOnly: true, LockTimeout: lockPatience})
	switch {
	case errors.Is(err, bolt.ErrLocked):
		k.notes(at, "'%s' is in use: as long as that is so, another broker does not start.", path)
	case err != nil:
		k.fails(at, "%v.", err)
	default:
		_ = s.Close() // it was only read
	}
}

// mosquittoState reads what the first start would import.
func (k *checking) mosquittoState(at []conf.Place, path, reason string) {
	if reason != "" {
		k.fails(at, "persistence_location: %s.", reason)
		return
	}
	source, err := openState(path)
	if err != nil {
		k.fails(at, "'%s': %v.", path, cause(err))
		return
	}
	defer source.Close() //nolint:errcheck // only read
	r, err := mosquitto.Import(source, nowhere{}, time.Now().Unix())
	if err != nil {
		k.fails(at, "%s: %v.", path, err)
		return
	}
	k.notes(at, "the first start imports %d sessions with %d subscriptions and %d messages, and %d retained "+
		"messages from %s.", r.Sessions, r.Subscriptions, r.Queued, r.Retained, path)
}

// nowhere is a store that keeps nothing.
type nowhere struct{ store.Store }

// Commit implements store.Store.
func (nowhere) Commit(...[]byte) error { return nil }

// notes says what is no fault.
func (k *checking) notes(at []conf.Place, format string, args ...any) {
	k.tell(broker.LevelNotice, at, "Note: "+format, args...)
}

// httpDir looks at the files that an HTTP API serves.
func (k *checking) httpDir(l *conf.Listener) {
	if l.HTTPDir == "" || l.Protocol != "http_api" {
		return
	}
	root, err := os.OpenRoot(l.HTTPDir)
	if err != nil {
		k.fails(l.At("http_dir"), "http_dir '%s': %s.", l.HTTPDir,
			k.refusal(l.HTTPDir, err, "chmod o+rx "+l.HTTPDir))
		return
	}
	_ = root.Close() // nothing was done with it
}
