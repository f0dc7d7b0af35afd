package bolt

import (
	"bytes"
	"fmt"
	"math"
	"sort"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
)

// Walk implements store.Store. It checks every record, and that all are there.
func (s *Store) Walk(t store.Table, f func(key, value []byte) error) error {
	if s.fresh && !s.ready {
		return nil
	}
	if err := s.readUnfolded(); err != nil {
		return err
	}
	return s.file.view(func(tx *bbolt.Tx) error {
		w, err := newWalk(tx, t)
		if err != nil {
			return err
		}
		w.log = s.unfolded
		return w.all(f)
	})
}

// readUnfolded reads the log, if that was not done since the last commit.
func (s *Store) readUnfolded() error {
	if s.unfolded != nil {
		return nil
	}
	if err := s.file.view(checkLog); err != nil {
		return err
	}
	u, err := s.readLog(math.MaxUint64, 0)
	if err != nil {
		return err
	}
	s.unfolded = u
	return nil
}

// checkLog finds out whether the log begins and ends where it should.
func checkLog(tx *bbolt.Tx) error {
	upgraded, err := readUpgraded(tx)
	if err != nil || upgraded.table != placeAll {
		return err
	}
	st, err := readState(tx)
	if err != nil {
		return err
	}
	l := tx.Bucket([]byte(logBucket))
	c := l.Cursor()
	first, last := st.folded+1, st.folded
	if k, _ := c.First(); k != nil {
		first = store.KeyNumber(k)
		k, _ = c.Last()
		last = store.KeyNumber(k)
	}
	if first != st.folded+1 || last != l.Sequence() {
		return fmt.Errorf("%w: the log has entries %d to %d instead of %d to %d",
			store.ErrCorrupt, first, last, st.folded+1, l.Sequence())
	}
	return nil
}

// walk goes through one table.
type walk struct {
	table    store.Table
	bucket   *bbolt.Bucket // nil: a file of an old format does not have it
	upgraded place
	want     *tally // nil: not known
	got      tally
	log      *fold // what has not reached the table
}

func newWalk(tx *bbolt.Tx, t store.Table) (w *walk, err error) {
	w = &walk{table: t, bucket: tx.Bucket(bucketOf(t))}
	if w.upgraded, err = readUpgraded(tx); err != nil {
		return nil, err
	}
	if w.upgraded.table == placeAll {
		st, err := readState(tx)
		if err != nil {
			return nil, err
		}
		w.want = &st.tally[t]
	}
	if n, err := tablesOf(tx); err != nil || w.bucket == nil && t < n {
		return nil, fmt.Errorf("%w: no table of %s", store.ErrCorrupt, t)
	}
	return w, nil
}

// all calls f for what the table has when the log is applied to it.
func (w *walk) all(f func(key, value []byte) error) error {
	ops := w.log.opsOf(w.table)
	news := func(before []byte) error { // nil: all
		for len(ops) > 0 && (before == nil || ops[0].key < string(before)) {
			o := &ops[0]
			ops = ops[1:]
			if o.delete {
				continue
			}
			if err := f([]byte(o.key), o.value); err != nil {
				return err
			}
		}
		return nil
	}
	if w.bucket == nil {
		return news(nil)
	}
	err := w.bucket.ForEach(func(k, v []byte) error {
		v, err := w.record(k, v)
		if err == nil {
			err = news(k)
		}
		if err != nil {
			return err
		}
		if len(ops) > 0 && ops[0].key == string(k) || w.log.removes(w.table, k) {
			return nil // the log has something newer
		}
		return f(k, v)
	})
	if err == nil {
		err = w.end()
	}
	if err == nil {
		err = news(nil)
	}
	return err
}

// record checks one record and returns its value without the checksum.
func (w *walk) record(k, v []byte) ([]byte, error) {
	w.got.add(v)
	if !w.upgraded.has(w.table, k) {
		return v, nil
	}
	return unseal(w.table, k, v)
}

// end finds out whether the records that came were all.
func (w *walk) end() error {
	if w.want != nil && *w.want != w.got {
		return fmt.Errorf("%w: %s has %d records, which are not the %d that it should have",
			store.ErrCorrupt, w.table, w.got.count, w.want.count)
	}
	return nil
}

// opsOf is the part of a fold that is about one table, in the order of the keys.
func (f *fold) opsOf(t store.Table) []netOp {
	from := sort.Search(len(f.ops), func(i int) bool { return f.ops[i].table >= t })
	to := sort.Search(len(f.ops), func(i int) bool { return f.ops[i].table > t })
	return f.ops[from:to]
}

// removes reports whether a record of a table is dropped with its owner.
func (f *fold) removes(t store.Table, key []byte) bool {
	if len(f.dropped) == 0 || len(key) < len(drop{}.owner) {
		return false
	}
	return f.dropped[drop{t, [8]byte(key[:8])}] > 0
}

// problemsMax is how many damaged records of a table Check names.
const problemsMax = 20

// Check looks at every page and record of the file and returns what is wrong.
func (s *Store) Check() (problems []error) {
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	damaged, err := lookAt(s.file.path)
	note(damaged)
	note(err)
	if s.fresh && !s.ready || err != nil {
		return problems
	}
	s.unfolded = nil
	note(s.readUnfolded())
	for t := range store.Tables {
		note(s.file.view(func(tx *bbolt.Tx) error {
			w, err := newWalk(tx, t)
			if err != nil || w.bucket == nil {
				return err
			}
			found := 0
			err = w.bucket.ForEach(func(k, v []byte) error {
				if _, err := w.record(bytes.Clone(k), v); err != nil && found < problemsMax {
					found++
					note(err)
				}
				return nil
			})
			if err == nil {
				err = w.end()
			}
			return err
		}))
	}
	return problems
}
