package bolt

import (
	"bytes"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
)

// noteTable is the table that the checksums of notes are made for: none.
const noteTable = store.Table(0xFF)

// isNote reports whether a key of the format's bucket is that of a note.
func isNote(key []byte) bool {
	return !bytes.Equal(key, formatKey()) && !bytes.Equal(key, stateKey()) && !bytes.Equal(key, upgradedKey())
}

// Note returns what SetNote has kept under a name; nil if nothing.
func (s *Store) Note(name string) (value []byte, err error) {
	if s.fresh && !s.ready {
		return nil, nil
	}
	err = s.file.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(formatBucket))
		v := b.Get([]byte(name))
		if v != nil && hasChecksums(b) {
			var err error
			if v, err = unseal(noteTable, []byte(name), v); err != nil {
				return err
			}
		}
		value = bytes.Clone(v)
		return nil
	})
	return value, err
}

// SetNote keeps something about the file in it, durably. The name is none of the format's own keys. It is
// for the goroutine that commits.
func (s *Store) SetNote(name string, value []byte) error {
	if err := s.prepare(); err != nil {
		return err
	}
	return s.file.update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(formatBucket)).Put([]byte(name), seal(noteTable, []byte(name), value))
	})
}

// hasChecksums reports whether the notes of a file have checksums: they are given them when its upgrade
// begins.
func hasChecksums(format *bbolt.Bucket) bool {
	name := string(format.Get(formatKey()))
	return name == formatName || name == formatHalf
}

// checkNotes checks all notes.
func checkNotes(format *bbolt.Bucket) error {
	if !hasChecksums(format) {
		return nil
	}
	return format.ForEach(func(k, v []byte) error {
		if !isNote(k) {
			return nil
		}
		_, err := unseal(noteTable, k, v)
		return err
	})
}

// sealNotes gives the notes of a file of an old format checksums.
func sealNotes(format *bbolt.Bucket) error {
	var list []pair
	err := format.ForEach(func(k, v []byte) error {
		if isNote(k) {
			list = append(list, pair{bytes.Clone(k), seal(noteTable, k, v)})
		}
		return nil
	})
	for _, x := range list {
		if err == nil {
			err = format.Put(x.key, x.value)
		}
	}
	return err
}
