package main

import (
	"bytes"
	"crypto/sha256"
	bin "encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"noctule/broker/store/bolt"
	"noctule/broker/store/mosquitto"
	"noctule/internal/regular"
	"noctule/internal/swapfile"
)

// takeover finds our database at the start, or makes it of what Mosquitto, or an older noctule, has left
// beside it under the name that persistence_file has.
type takeover struct {
	*command
	theirs string
	ours   string // becomes theirs where an older noctule's file cannot be moved
}

// open opens our file. What Mosquitto has written is read once, when we have no file yet, and never changed.
func (t *takeover) open() (*bolt.Store, error) {
	if err := swapfile.Recover(t.ours); err != nil {
		return nil, err
	}
	if isFilled(t.ours) {
		s, err := bolt.Open(t.ours, bolt.Options{Log: t.log})
		if err == nil {
			err = t.compare(s)
		}
		return s, err
	}
	if err := t.begin(); err != nil {
		return nil, err
	}
	if isMount(t.theirs) && t.ours != t.theirs {
		t.log.Warn(fmt.Sprintf("Warning: %s is mounted by itself, but the database is %s: mount the "+
			"directory.", t.theirs, t.ours))
	}
	return bolt.Open(t.ours, bolt.Options{Log: t.log})
}

// isFilled reports whether a file is there and not empty.
func isFilled(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// begin takes what is there under Mosquitto's name.
func (t *takeover) begin() error {
	head, err := headOf(t.theirs)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && len(head) == 0:
		return nil
	case err != nil:
		return err
	case isBolt(head):
		return t.move()
	case isSQLite(head):
		return fmt.Errorf("%s is an SQLite file: see `noctule db import`", t.theirs)
	case !mosquitto.IsDatabase(head):
		return fmt.Errorf("%s: %w, nor one of Mosquitto", t.theirs, bolt.ErrForeign)
	}
	r, err := t.makeOf(t.theirs, t.ours)
	if err != nil {
		return err
	}
	t.info("Imported %d sessions with %d subscriptions and %d messages, and %d retained messages.",
		r.Sessions, r.Subscriptions, r.Queued, r.Retained)
	t.info("%s stays as it is; from now on the database is %s.", t.theirs, t.ours)
	for _, n := range r.Notes {
		t.log.Warn("Warning: not imported: " + n)
	}
	return nil
}

// makeOf makes a file of ours of another program's.
func (c *command) makeOf(from, to string) (r mosquitto.Report, err error) {
	fresh := to + ".new"
	if err := removeIf(fresh); err != nil { // of an import that was cut off
		return r, err
	}
	if r, err = c.importFile(from, fresh); err != nil {
		return r, errors.Join(fmt.Errorf("%s: %w", from, err), removeIf(fresh))
	}
	if err := ownAs(fresh, to, filepath.Dir(to)); err != nil {
		return r, errors.Join(err, removeIf(fresh))
	}
	return r, swapfile.Replace(fresh, to)
}

// move gives a file that an older noctule has kept under Mosquitto's name our own.
func (t *takeover) move() error {
	s, err := bolt.Open(t.theirs, bolt.Options{ReadOnly: true}) // it is whole, ours, and nobody has it open
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := os.Rename(t.theirs, t.ours); err != nil {
		t.log.Warn(fmt.Sprintf("Warning: %s is used under Mosquitto's name, as it cannot be moved: %v.",
			t.theirs, err))
		t.ours = t.theirs
		return nil
	}
	t.info("%s was written by noctule and is %s from now on.", t.theirs, t.ours)
	return nil
}

// compare warns of what lies under Mosquitto's name and is not in our file: it is not used, but it must not
// be forgotten either.
func (t *takeover) compare(s *bolt.Store) error {
	head, err := headOf(t.theirs)
	if err != nil || t.ours == t.theirs {
		return nil //nolint:nilerr // it is not needed
	}
	var what string
	switch {
	case isBolt(head):
		what = "is a database of noctule too"
	case mosquitto.IsDatabase(head):
		known, err := isKnown(s, t.theirs)
		if known || err != nil {
			return err
		}
		what = "was not imported, or Mosquitto has written it since"
	default:
		return nil
	}
	written := ""
	if info, err := os.Stat(t.theirs); err == nil {
		written = " (last on " + info.ModTime().Format(time.DateTime) + ")"
	}
	t.log.Warn(fmt.Sprintf("Warning: %s %s%s. What it holds is NOT used; the database is %s.",
		t.theirs, what, written, t.ours))
	t.log.Warn(fmt.Sprintf("Warning: to use %s instead, move %s away and start again; else move %s away.",
		t.theirs, t.ours, t.theirs))
	return nil
}

// isBolt reports whether a file begins as a bbolt database does.
func isBolt(head []byte) bool {
	return len(head) >= 20 && bin.NativeEndian.Uint32(head[16:]) == 0xED0CDAED
}

// The imprint of the Mosquitto file that a database was made of is kept in it: size, time of change, sum.
const (
	imprintNote = "mosquitto"
	emptyState  = 47 // bytes of a mosquitto.db without a record
)

type imprint struct {
	size, changed int64
	sum           string
}

func (i *imprint) String() string { return fmt.Sprintf("%d %d %s", i.size, i.changed, i.sum) }

// imprintOf looks at a file; its content is read if sum is set.
func imprintOf(path string, sum bool) (i imprint, err error) {
	f, err := regular.Open(path)
	if err != nil {
		return i, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return i, err
	}
	i.size, i.changed = info.Size(), info.ModTime().UnixNano()
	if sum {
		h := sha256.New()
		_, err = io.Copy(h, f)
		i.sum = hex.EncodeToString(h.Sum(nil))
	}
	return i, err
}

// setImprint notes what a database was made of.
func setImprint(s *bolt.Store, path string) error {
	i, err := imprintOf(path, true)
	if err != nil {
		return err
	}
	return s.SetNote(imprintNote, []byte(i.String()))
}

// isKnown reports whether a mosquitto.db is the one that our database was made of, or holds nothing.
func isKnown(s *bolt.Store, path string) (bool, error) {
	now, err := imprintOf(path, false)
	if err != nil || now.size <= emptyState {
		return true, err
	}
	note, err := s.Note(imprintNote)
	if err != nil || note == nil {
		return false, err
	}
	var then imprint
	if _, err := fmt.Fscan(bytes.NewReader(note), &then.size, &then.changed, &then.sum); err != nil {
		return false, nil //nolint:nilerr // then it is not known
	}
	if now.size != then.size || now.changed == then.changed {
		return now.size == then.size, nil
	}
	if now, err = imprintOf(path, true); err != nil || now.sum != then.sum {
		return false, err
	}
	return true, s.SetNote(imprintNote, []byte(now.String())) // copied or touched
}
