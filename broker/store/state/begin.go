package state

import (
	"math/rand/v2"

	"noctule/broker/store"
)

// Numbers that must never come again after a restart begin with the store's epoch.
const epochShift = 40

// revisionShift is epochShift for revisions, which have to be numbers of JSON, below 2^53.
const revisionShift = 32

// Begin reads what the last broker was, and makes it what the next is: another epoch, and a seed if there was
// no broker before. It is to be put back.
func Begin(from store.Store) (m store.Meta, err error) {
	v := Visitor{Meta: func(x *store.Meta) error { m = *x; return nil }}
	if err := WalkTable(from, store.Config, &v); err != nil {
		return m, err
	}
	if m.Seed == 0 {
		m.Seed = rand.Uint64() | 1
	}
	m.Epoch++
	return m, nil
}

// Numbers is the last number of sessions and of stored messages before those of an epoch, and of revisions.
func Numbers(m *store.Meta) (last, revision uint64) {
	return m.Epoch << epochShift, m.Epoch << revisionShift
}
