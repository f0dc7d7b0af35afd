package bolt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
)

// fold is a part of the log on its way into the tables.
type fold struct {
	upTo  uint64  // last log entry of the part
	drops []drop  // first
	ops   []netOp // then these, in the order of table and key
	at    progress

	dropped map[drop]int // those of drops
}

// progress is how far a fold has been applied.
type progress struct {
	drop, op int
	freed    int64 // bytes of log entries that have gone
	done     bool
}

// drop removes an owner's keys from a table.
type drop struct {
	table store.Table
	owner [8]byte
}

// netOp is what is left of all operations on one key.
type netOp struct {
	table  store.Table
	delete bool
	key    string
	value  []byte
}

// readBytes is how much of the log one read transaction looks at: a long one would keep pages from being used
// again.
const readBytes = 4 << 20

// builder works out what is left of a part of the log.
type builder struct {
	tables [store.Tables]map[string]last
	drops  map[drop]int // number of the operation
	n      int
}

// last is the last operation on a key.
type last struct {
	value  []byte
	n      int
	delete bool
}

// prepareFold is readLog with the checksums that the tables' values end with.
func (s *Store) prepareFold(upTo uint64, limit int64) (*fold, error) {
	f, err := s.readLog(upTo, limit)
	if err != nil {
		return nil, err
	}
	for i := range f.ops {
		if o := &f.ops[i]; !o.delete {
			o.value = seal(o.table, []byte(o.key), o.value)
		}
	}
	return f, nil
}

// readLog reads the log up to an entry, at most about limit bytes of it (0: all), and works out what is left.
// The entries' numbers have no gaps, and begin behind the last one that has gone.
func (s *Store) readLog(upTo uint64, limit int64) (f *fold, err error) {
	b := &builder{drops: make(map[drop]int)}
	f = &fold{}
	var total int64
	for more := true; more && f.upTo < upTo; {
		err := s.file.view(func(tx *bbolt.Tx) error {
			upgraded, err := readUpgraded(tx)
			if err != nil {
				return err
			}
			n := 0
			c := tx.Bucket([]byte(logBucket)).Cursor()
			k, v := c.Seek(binary.BigEndian.AppendUint64(nil, f.upTo+1))
			for ; k != nil && store.KeyNumber(k) <= upTo && n < readBytes; k, v = c.Next() {
				seq := store.KeyNumber(k)
				if f.upTo > 0 && seq != f.upTo+1 {
					return fmt.Errorf("%w: log entry %d comes after %d", store.ErrCorrupt, seq, f.upTo)
				}
				ops, err := piece(seq, v, upgraded)
				if err == nil {
					err = store.Each(bytes.Clone(ops), b.add)
				}
				if err != nil {
					return err
				}
				n += len(v)
				f.upTo = seq
			}
			total += int64(n)
			more = n > 0 && (limit == 0 || total < limit)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	b.finish(f)
	return f, nil
}

func (b *builder) add(op store.Op) error {
	b.n++
	if op.Kind == store.Drop {
		b.drops[drop{op.Table, [8]byte(op.Key)}] = b.n
		return nil
	}
	t := b.tables[op.Table]
	if t == nil {
		t = make(map[string]last)
		b.tables[op.Table] = t
	}
	t[string(op.Key)] = last{value: op.Value, n: b.n, delete: op.Kind == store.Delete}
	return nil
}

// finish sorts what is left into f.
func (b *builder) finish(f *fold) {
	f.dropped = b.drops
	for d := range b.drops {
		f.drops = append(f.drops, d)
	}
	slices.SortFunc(f.drops, func(a, b drop) int {
		return cmp.Or(cmp.Compare(a.table, b.table), bytes.Compare(a.owner[:], b.owner[:]))
	})
	for t, m := range b.tables {
		from := len(f.ops)
		for k, l := range m {
			if len(b.drops) > 0 && len(k) >= 8 {
				if n := b.drops[drop{store.Table(t), [8]byte([]byte(k[:8]))}]; n > l.n {
					continue
				}
			}
			f.ops = append(f.ops, netOp{store.Table(t), l.delete, k, l.value})
		}
		slices.SortFunc(f.ops[from:], func(a, b netOp) int { return cmp.Compare(a.key, b.key) })
		b.tables[t] = nil
	}
}

// clockEvery is how many operations pass between looks at the clock.
const clockEvery = 32

// step applies a slice of the fold, until a time; the fold itself does not change, since the transaction may
// fail.
func (f *fold) step(tx *bbolt.Tx, until time.Time) (at progress, err error) {
	at = f.at
	st, err := readState(tx)
	if err != nil {
		return at, err
	}
	for n := 1; !at.done && err == nil && (n%clockEvery != 0 || now().Before(until)); n++ {
		switch {
		case at.drop < len(f.drops):
			var more bool
			d := &f.drops[at.drop]
			more, err = dropSome(tx.Bucket(bucketOf(d.table)), d.owner[:], &st.tally[d.table])
			if err == nil && !more {
				at.drop++
			}
		case at.op < len(f.ops):
			o := &f.ops[at.op]
			err = o.apply(tx.Bucket(bucketOf(o.table)), &st.tally[o.table])
			at.op++
		default:
			c := tx.Bucket([]byte(logBucket)).Cursor()
			k, v := c.First()
			if k == nil || store.KeyNumber(k) > f.upTo {
				at.done = true
				break
			}
			at.freed += int64(len(v))
			st.folded = store.KeyNumber(k)
			err = c.Delete()
		}
	}
	if err == nil {
		err = st.put(tx)
	}
	return at, err
}

func (o *netOp) apply(b *bbolt.Bucket, t *tally) error {
	key := []byte(o.key)
	if old := b.Get(key); old != nil {
		t.remove(old)
	} else if o.delete {
		return nil
	}
	if o.delete {
		return b.Delete(key)
	}
	if o.table == store.Messages {
		b.FillPercent = 0.9 // keys ascend
	}
	if len(key) > bbolt.MaxKeySize {
		return fmt.Errorf("store: a key of %d bytes", len(key))
	}
	t.add(o.value)
	return b.Put(key, o.value)
}

// dropSome removes some of an owner's keys; more reports that others are left.
func dropSome(b *bbolt.Bucket, owner []byte, t *tally) (more bool, err error) {
	c := b.Cursor()
	for range clockEvery {
		k, v := c.Seek(owner)
		if !bytes.HasPrefix(k, owner) {
			return false, nil
		}
		t.remove(v)
		if err := c.Delete(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Sizes of folding where nothing else happens.
const (
	wholePart = 64 << 20
	wholeTime = time.Second
)

// foldAll folds the whole log.
func (s *Store) foldAll() error {
	for {
		f, err := s.prepareFold(s.seq, wholePart)
		if err != nil {
			return err
		}
		if f.upTo == 0 {
			s.logBytes = 0
			return nil
		}
		for !f.at.done {
			err := s.file.update(func(tx *bbolt.Tx) (err error) {
				f.at, err = f.step(tx, now().Add(wholeTime))
				return err
			})
			if err != nil {
				return err
			}
		}
	}
}

// fill puts batches into the tables, as a fold of a log that holds just them would.
func (s *Store) fill(batches [][]byte) error {
	size := 0
	for _, raw := range batches {
		size += len(raw)
	}
	ops := make([]store.Op, 0, size/64) // most have some tens of bytes
	for _, raw := range batches {
		err := store.Each(raw, func(op store.Op) error {
			ops = append(ops, op)
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(ops, func(a, b store.Op) int { // the last of a key counts
		return cmp.Or(cmp.Compare(a.Table, b.Table), bytes.Compare(a.Key, b.Key))
	})
	s.unfolded = nil
	return s.file.update(func(tx *bbolt.Tx) error {
		st, err := readState(tx)
		if err != nil {
			return err
		}
		for i := range ops {
			if ops[i].Kind != store.Put {
				return errors.New("store: only what is put can be put in bulk")
			}
			t := ops[i].Table
			o := netOp{table: t, key: string(ops[i].Key), value: seal(t, ops[i].Key, ops[i].Value)}
			if err := o.apply(tx.Bucket(bucketOf(t)), &st.tally[t]); err != nil {
				return err
			}
		}
		return st.put(tx)
	})
}
