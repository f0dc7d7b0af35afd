package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// What is left of batches makes of a store what they make of it, also after they have been applied, and is the
// same when more is added to it.
func TestNet(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	random := func() []byte {
		b := &Batch{}
		for range rnd.IntN(12) {
			table := []Table{Entries, Inbound, Messages}[rnd.IntN(3)]
			owner := uint64(rnd.IntN(3))
			key := append(num(nil, owner), "ab"[:rnd.IntN(3)]...)
			if rnd.IntN(6) == 0 {
				key = []byte("short")
			}
			switch rnd.IntN(5) {
			case 0:
				b.drop(table, owner)
			case 1, 2:
				b.Delete(table, key)
			default:
				b.Put(table, key, fmt.Append(nil, rnd.IntN(1000)))
			}
		}
		return b.Bytes()
	}
	for range 2000 {
		raws := [][]byte{random(), random(), random()}
		one, two, again := NewMemory(), NewMemory(), NewMemory()
		before := random()
		var left, sum Batch
		if err := net(&left, raws[:2]); err != nil {
			t.Fatal(err)
		}
		if err := net(&sum, [][]byte{left.Bytes(), raws[2]}); err != nil {
			t.Fatal(err)
		}
		for _, m := range []struct {
			*Memory
			raws [][]byte
		}{
			{one, append([][]byte{before}, raws...)},
			{two, [][]byte{before, sum.Bytes()}},
			{again, append(append([][]byte{before}, raws...), sum.Bytes())},
		} {
			if err := m.Commit(m.raws...); err != nil {
				t.Fatal(err)
			}
		}
		for table := range one.tables {
			if !maps.Equal(one.tables[table], two.tables[table]) || !maps.Equal(one.tables[table], again.tables[table]) {
				t.Fatalf("seed %d: %s: %q, want %q", seed, Table(table), two.tables[table], one.tables[table])
			}
		}
	}
	if err := net(&Batch{}, [][]byte{{0xFF}}); err == nil {
		t.Error("what is no batch is taken")
	}
}
