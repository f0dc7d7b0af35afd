package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
)

// upgradeSlice is how many bytes of values one transaction of an upgrade rewrites.
const upgradeSlice = 4 << 20

// prepareFile makes what is not there, and a file of an old format one of the present: slice after slice,
// so that memory and the file's growth stay small. Between slices the file says how far that has come; a
// crash loses nothing, and who knows the old format only refuses the file from the first slice on.
func (s *Store) prepareFile() error {
	told := false
	for {
		finished := false
		err := s.file.update(func(tx *bbolt.Tx) error {
			p, err := s.startUpgrade(tx)
			if err == nil && p.table != placeAll {
				if !told {
					told = true
					s.opts.Log.Info("The file of persistent state is given checksums.")
				}
				p, err = upgradeSome(tx, p)
			}
			finished = p.table == placeAll
			if err == nil && finished {
				err = s.finishUpgrade(tx)
			}
			return err
		})
		if err != nil || finished {
			return err
		}
	}
}

// startUpgrade makes buckets that are not there and returns how far the upgrade has come.
func (s *Store) startUpgrade(tx *bbolt.Tx) (p place, err error) {
	fresh, err := checkHead(tx)
	if err != nil {
		return p, err
	}
	f, err := tx.CreateBucketIfNotExists([]byte(formatBucket))
	if err != nil {
		return p, err
	}
	for t := range store.Tables {
		if _, err := tx.CreateBucketIfNotExists(bucketOf(t)); err != nil {
			return p, err
		}
	}
	if _, err := tx.CreateBucketIfNotExists([]byte(logBucket)); err != nil {
		return p, err
	}
	if fresh {
		return place{table: placeAll}, errors.Join((&state{tables: store.Tables}).put(tx),
			f.Put(formatKey(), []byte(formatName)))
	}
	p, err = readUpgraded(tx)
	if err != nil || string(f.Get(formatKey())) == formatHalf || p.table == placeAll {
		return p, err
	}
	return p, errors.Join(sealNotes(f), (&state{tables: store.Tables}).put(tx), p.put(tx),
		f.Put(formatKey(), []byte(formatHalf)))
}

// finishUpgrade notes that all has checksums, in a file of this program's tables.
func (s *Store) finishUpgrade(tx *bbolt.Tx) error {
	st, err := readState(tx)
	if err != nil {
		return err
	}
	f, l := tx.Bucket([]byte(formatBucket)), tx.Bucket([]byte(logBucket))
	if string(f.Get(formatKey())) != formatName {
		c := l.Cursor()
		st.folded = l.Sequence()
		if k, _ := c.First(); k != nil {
			st.folded = store.KeyNumber(k) - 1
			k, _ = c.Last()
			err = l.SetSequence(store.KeyNumber(k))
		}
		err = errors.Join(err, f.Delete(upgradedKey()), f.Put(formatKey(), []byte(formatName)))
	} else if st.tables == store.Tables {
		return nil
	}
	st.tables = store.Tables
	return errors.Join(err, st.put(tx))
}

// upgradeSome gives the next records checksums and returns how far it has come.
func upgradeSome(tx *bbolt.Tx, p place) (place, error) {
	st, err := readState(tx)
	if err != nil {
		return p, err
	}
	left := upgradeSlice
	for p.table != placeAll && left > 0 && err == nil {
		switch {
		case p.table == placeLog:
			p, err = upgradeLog(tx, p, &left)
		case store.Table(p.table) >= store.Tables:
			p = place{table: placeLog}
		default:
			p, err = upgradeTable(tx, p, &st.tally[p.table], &left)
		}
	}
	return p, errors.Join(err, st.put(tx), p.put(tx))
}

type pair struct{ key, value []byte }

// after is copies of the pairs of a bucket behind a key, up to some bytes; all: there are no more.
func after(b *bbolt.Bucket, key []byte, left *int) (list []pair, all bool) {
	c := b.Cursor()
	k, v := c.Seek(key)
	if k != nil && len(key) > 0 && bytes.Equal(k, key) {
		k, v = c.Next()
	}
	for ; k != nil && *left > 0; k, v = c.Next() {
		list = append(list, pair{bytes.Clone(k), bytes.Clone(v)})
		*left -= len(k) + len(v)
	}
	return list, k == nil
}

func upgradeTable(tx *bbolt.Tx, p place, t *tally, left *int) (place, error) {
	table := store.Table(p.table)
	b := tx.Bucket(bucketOf(table))
	list, all := after(b, p.key, left)
	for _, x := range list {
		v := seal(table, x.key, x.value)
		if err := b.Put(x.key, v); err != nil {
			return p, err
		}
		t.add(v)
		p.key = x.key
	}
	if all {
		p = place{table: p.table + 1}
	}
	return p, nil
}

func upgradeLog(tx *bbolt.Tx, p place, left *int) (place, error) {
	b := tx.Bucket([]byte(logBucket))
	list, all := after(b, p.key, left)
	for _, x := range list {
		seq := store.KeyNumber(x.key)
		ops, err := piece(seq, x.value, place{})
		if err != nil {
			return p, err
		}
		binary.LittleEndian.PutUint32(x.value, pieceSum(seq, ops))
		if err := b.Put(x.key, x.value); err != nil {
			return p, err
		}
		p.key = x.key
	}
	if all {
		p = place{table: placeAll}
	}
	return p, nil
}
