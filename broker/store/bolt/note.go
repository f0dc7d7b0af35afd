package bolt

import (
	"bytes"

	"go.etcd.io/bbolt"
)

// Note returns what SetNote has kept under a name, which is not "format"; nil if nothing.
func (s *Store) Note(name string) (value []byte, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			value = bytes.Clone(tx.Bucket([]byte("format")).Get([]byte(name)))
			return nil
		})
	})
	return value, err
}

// SetNote keeps something about the file in it, durably. It is for the time between opening and the first
// Commit.
func (s *Store) SetNote(name string, value []byte) error {
	return guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("format")).Put([]byte(name), value)
		})
	})
}
