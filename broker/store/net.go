package store

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// net appends to out what is left of batches that are applied together: of each key the last operation. What
// the result makes of a store is what they make of it, also if they have been applied before.
func net(out *Batch, raws [][]byte) error {
	type last struct {
		op Op
		n  int
	}
	type owner struct {
		table Table
		key   [ownerSize]byte
	}
	var tables [Tables]map[string]last
	drops := make(map[owner]int)
	n := 0
	for _, raw := range raws {
		err := Each(raw, func(op Op) error {
			n++
			if op.Kind == Drop {
				drops[owner{op.Table, [ownerSize]byte(op.Key)}] = n
				return nil
			}
			if tables[op.Table] == nil {
				tables[op.Table] = make(map[string]last)
			}
			tables[op.Table][string(op.Key)] = last{op, n}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for d := range drops {
		out.drop(d.table, binary.BigEndian.Uint64(d.key[:]))
	}
	for t, m := range tables {
		left := make([]Op, 0, len(m))
		for _, l := range m {
			if len(l.op.Key) >= ownerSize && drops[owner{Table(t), [ownerSize]byte(l.op.Key)}] > l.n {
				continue
			}
			left = append(left, l.op)
		}
		slices.SortFunc(left, func(a, b Op) int { return bytes.Compare(a.Key, b.Key) })
		for i := range left {
			if op := &left[i]; op.Kind == Put {
				out.Put(op.Table, op.Key, op.Value)
			} else {
				out.Delete(op.Table, op.Key)
			}
		}
	}
	return nil
}
