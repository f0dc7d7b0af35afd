package bolt

import (
	"encoding/binary"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
)

// recent says where in the log the messages are that no table has yet. It is made by reads, each of which
// looks at what has been committed since the one before; without reads it costs nothing. Reads hold its
// lock from their beginning to their end, so that none sees an older file than the one before.
type recent struct {
	mu struct {
		sync.Mutex
		places map[uint64]uint64 // message id -> log entry
		upTo   uint64            // last log entry that has been looked at
		swept  uint64            // no place is before this entry
	}
}

// sweepEvery is how many log entries must have gone before their places do.
const sweepEvery = 64

// ReadMessages implements store.Reader. Since a message never changes, the table is asked first.
func (s *Store) ReadMessages(ids []uint64, f func(i int, value []byte) error) error {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	return s.file.view(func(tx *bbolt.Tx) error {
		upgraded, err := readUpgraded(tx)
		if err != nil {
			return err
		}
		b, l := tx.Bucket(bucketOf(store.Messages)), tx.Bucket([]byte(logBucket))
		if b == nil || l == nil {
			return fmt.Errorf("%w: no table of %s", store.ErrCorrupt, store.Messages)
		}
		values := make([][]byte, len(ids))
		missing := false
		for i, id := range ids {
			key := binary.BigEndian.AppendUint64(nil, id)
			v := b.Get(key)
			if missing = missing || v == nil; v != nil && upgraded.has(store.Messages, key) {
				if v, err = unseal(store.Messages, key, v); err != nil {
					return err
				}
			}
			values[i] = v
		}
		if missing {
			if err := s.recent.readLocked(l, upgraded, ids, values); err != nil {
				return err
			}
		}
		for i, v := range values {
			if v == nil {
				continue
			}
			if err := f(i, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// readLocked fills in the values that are in the log.
func (r *recent) readLocked(log *bbolt.Bucket, upgraded place, ids []uint64, values [][]byte) error {
	if err := r.extendLocked(log, upgraded); err != nil {
		return err
	}
	wanted := make(map[uint64]int) // ids that are missing
	for i, id := range ids {
		if values[i] == nil {
			wanted[id] = i
		}
	}
	for i, id := range ids {
		seq, ok := r.mu.places[id]
		if values[i] != nil || !ok {
			continue
		}
		ops, err := piece(seq, log.Get(binary.BigEndian.AppendUint64(nil, seq)), upgraded)
		if err != nil {
			return err
		}
		err = store.Each(ops, func(op store.Op) error { // all that it has
			if op.Kind == store.Put && op.Table == store.Messages {
				if i, ok := wanted[store.KeyNumber(op.Key)]; ok {
					values[i] = op.Value
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// extendLocked looks at what has come since the last read, and forgets what has gone into the tables.
func (r *recent) extendLocked(log *bbolt.Bucket, upgraded place) error {
	c := log.Cursor()
	k, _ := c.First()
	if k == nil {
		r.mu.places = nil
		return nil
	}
	if first := store.KeyNumber(k); first > r.mu.upTo {
		r.mu.places = nil
		r.mu.swept = first
	} else if first >= r.mu.swept+sweepEvery {
		for id, seq := range r.mu.places {
			if seq < first {
				delete(r.mu.places, id)
			}
		}
		r.mu.swept = first
	}
	if r.mu.places == nil {
		r.mu.places = make(map[uint64]uint64)
	}
	k, v := c.Seek(binary.BigEndian.AppendUint64(nil, r.mu.upTo+1))
	for ; k != nil; k, v = c.Next() {
		seq := store.KeyNumber(k)
		ops, err := piece(seq, v, upgraded)
		if err != nil {
			return err
		}
		err = store.Each(ops, func(op store.Op) error {
			if op.Table != store.Messages {
				return nil
			}
			if id := store.KeyNumber(op.Key); op.Kind == store.Put {
				r.mu.places[id] = seq
			} else {
				delete(r.mu.places, id)
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.mu.upTo = seq
	}
	return nil
}
