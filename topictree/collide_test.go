package topictree

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// XXH64 of inputs below 32 bytes goes through a round for each lane of 8 bytes:
//
//	h = rotl(h ^ round(lane), 27)*prime1 + prime4
//
// where round is a bijection. First lanes whose rounds differ only in the bits that the rotation brings to
// the top give values of h that differ only in their top bits, whatever h was; second lanes whose rounds
// differ in the top bits take that back. So n first lanes with n second ones make n*n names that have no
// more than n hashes, whatever the seed.
const (
	prime1  = 11400714785074694791
	prime2  = 14029467366897019727
	topBits = 8 // n is 2 to the power of that
)

// unround is the lane whose round is r.
func unround(r uint64) uint64 {
	return bits.RotateLeft64(r*inverse(prime1), -31) * inverse(prime2)
}

// inverse is the inverse of an odd number modulo 2^64.
func inverse(a uint64) uint64 {
	x := a
	for range 6 {
		x *= 2 - a*x
	}
	return x
}

// lanes makes lanes whose rounds differ in the top bits of the word, turned by so many; without those that
// have characters that mean something in a filter.
func lanes(base uint64, turned int) (list []string) {
	for i := range uint64(1) << topBits {
		d := bits.RotateLeft64(i<<(64-topBits), turned)
		lane := string(binary.LittleEndian.AppendUint64(nil, unround(base^d)))
		if !strings.ContainsAny(lane, "/+#$") {
			list = append(list, lane)
		}
	}
	return list
}

// chosen makes the names.
func chosen() (names []string) {
	for _, a := range lanes(0x0123456789ABCDEF, -27) {
		for _, b := range lanes(0xFEDCBA9876543210, 0) {
			names = append(names, a+b)
		}
	}
	return names
}

// longest is the longest run of slots that a look-up may go through.
func longest[T any, P named[T]](t *table[T, P]) (run int) {
	s := t.slots.Load()
	now := 0
	for i := range 2 * len(s.at) { // runs go on at the front
		if s.at[i%len(s.at)].Load() == nil {
			now = 0
			continue
		}
		now++
		run = max(run, now)
	}
	return run
}

// Who knows all of the broker but what it keeps in memory cannot make look-ups long. The names do so with
// XXH64.
func TestChosenNamesDoNotCollide(t *testing.T) {
	names := chosen()
	if len(names) < 40000 {
		t.Fatalf("%d names", len(names))
	}
	hashes := map[uint64]bool{}
	var d xxhash.Digest
	seed := rand.Uint64()
	for _, n := range names {
		d.ResetWithSeed(seed)
		_, _ = d.WriteString(n)
		hashes[d.Sum64()] = true
	}
	if len(hashes) > 1<<topBits {
		t.Errorf("%d names have %d hashes with XXH64: they were not chosen well", len(names), len(hashes))
	}
	x, r := New(Options{}), NewRetained[int](Options{})
	for i, n := range names {
		for _, f := range []string{n, n + "/+"} {
			if _, err := x.Add([]byte(f), 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := r.Set([]byte(n), i); err != nil {
			t.Fatal(err)
		}
	}
	// Linear probing at a load of three quarters has runs of some hundred slots for random names; these
	// would have thousands.
	run := max(longest(&x.trie.root.kids), longest(&r.root.kids))
	for i := range x.parts {
		run = max(run, longest(&x.parts[i].table))
	}
	if t.Logf("longest run of %d slots", run); run > 500 {
		t.Errorf("a look-up may take %d steps", run)
	}
}
