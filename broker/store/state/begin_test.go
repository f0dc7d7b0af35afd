package state_test

import (
	"fmt"
	"testing"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/state"
)

// The numbers of each run go on behind those of the runs before, and the hash that gives sessions their loops
// stays.
func TestBegin(t *testing.T) {
	s := store.NewMemory()
	var seed, last, revision uint64
	for run := range 3 {
		m, err := state.Begin(s)
		if err != nil {
			t.Fatal(err)
		}
		if m.Seed == 0 || run > 0 && m.Seed != seed {
			t.Errorf("run %d: seed %x, was %x", run, m.Seed, seed)
		}
		l, r := state.Numbers(&m)
		if l <= last+1<<30 || r <= revision+1<<30 || r >= 1<<53 {
			t.Errorf("run %d begins at %d and %d, the last at %d and %d", run, l, r, last, revision)
		}
		seed, last, revision = m.Seed, l, r
		var b store.Batch
		b.PutMeta(&m)
		commit(t, s, &b)
	}
}

// A debt knows whom it is for; what is owed to all loops is owed to each.
func TestDebts(t *testing.T) {
	s := store.NewMemory()
	var b store.Batch
	b.PutMessage(2, &message.Message{Topic: []byte("t"), QoS: 1})
	b.PutTransit(&store.Transit{Message: 2, Loop: 1, Filter: "t"})
	b.PutTransit(&store.Transit{Message: 2, Loop: 1, Filter: "$share/g/t"})
	b.PutTransit(&store.Transit{Message: 2, Loop: store.AllLoops})
	seen := map[string]bool{}
	for d := range load(t, commit(t, s, &b), false, 0).Debts() {
		_, _, shared := d.Share()
		seen[fmt.Sprintf("%s %v %v %v %v", d.Filter, shared, d.ByTopic(), d.IsOf(1), d.IsOf(0))] = true
		if d.M == nil || d.M.Stored.ID != 2 {
			t.Errorf("%s has message %v", d.Filter, d.M)
		}
	}
	for _, want := range []string{"t false false true false", "$share/g/t true false true false", " false true true true"} {
		if !seen[want] {
			t.Errorf("%q is not among %v", want, seen)
		}
	}
}
