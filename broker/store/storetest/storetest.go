// Package storetest is the one suite for every implementation of store.Store.
package storetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"noctule/broker/store"
)

// Opener opens the same store again each time it is called; the one before has been closed.
type Opener func(t testing.TB) store.Store

// Run runs the suite; start makes a new, empty store's opener.
func Run(t *testing.T, start func(t testing.TB) Opener) {
	t.Run("operations", func(t *testing.T) { operations(t, start(t)) })
	t.Run("order in one commit", func(t *testing.T) { order(t, start(t)) })
	t.Run("walk ends at an error", func(t *testing.T) { walkEnds(t, start(t)) })
	t.Run("long values", func(t *testing.T) { long(t, start(t)) })
	t.Run("messages are read beside commits", func(t *testing.T) { reads(t, start(t)) })
	t.Run("model", func(t *testing.T) {
		for range 4 {
			Model(t, start(t), rand.Uint64(), 400)
		}
	})
}

// dump is a whole table.
func dump(t testing.TB, s store.Store, table store.Table) map[string]string {
	t.Helper()
	m := map[string]string{}
	prev := ""
	err := s.Walk(table, func(k, v []byte) error {
		if len(m) > 0 && string(k) <= prev {
			t.Errorf("%s: %x comes after %x", table, k, prev)
		}
		prev = string(k)
		m[prev] = string(v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func commit(t testing.TB, s store.Store, batches ...*store.Batch) {
	t.Helper()
	raw := make([][]byte, len(batches))
	for i, b := range batches {
		raw[i] = b.Bytes()
	}
	if err := s.Commit(raw...); err != nil {
		t.Fatal(err)
	}
}

func closed(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, s store.Store, table store.Table, pairs ...string) {
	t.Helper()
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	if got := dump(t, s, table); !maps.Equal(got, m) {
		t.Errorf("%s has %q, want %q", table, got, m)
	}
}

func owner(n uint64, rest string) string {
	return string(binary.BigEndian.AppendUint64(nil, n)) + rest
}

func operations(t *testing.T, open Opener) {
	s := open(t)
	want(t, s, store.Sessions)
	var b store.Batch
	b.Put(store.Retained, []byte("a"), []byte("1"))
	b.Put(store.Retained, []byte("b"), nil)
	for _, n := range []uint64{1, 2} {
		b.PutSession(&store.Session{Number: n, ClientID: "c"})
		b.PutSubscription(&store.Subscription{Session: n, Filter: "f"})
		b.PutEntry(&store.Entry{Session: n, Seq: 1, Message: 7})
		b.PutHandshake(&store.Handshake{Session: n, PacketID: 1})
		b.PutGrant(&store.Grant{Session: n, Origin: "api:x", Set: store.SetKey{9}})
	}
	commit(t, s, &b)
	closed(t, s)

	s = open(t)
	want(t, s, store.Retained, "a", "1", "b", "")
	b = store.Batch{}
	b.Put(store.Retained, []byte("a"), []byte("2"))
	b.Delete(store.Retained, []byte("b"))
	b.Delete(store.Retained, []byte("nothing"))
	b.DropSession(1)
	b.DropGrants(1)
	commit(t, s, &b)
	closed(t, s)

	s = open(t)
	want(t, s, store.Retained, "a", "2")
	for _, table := range []store.Table{
		store.Sessions, store.Subscriptions, store.Entries, store.Inbound, store.Grants,
	} {
		for k := range dump(t, s, table) {
			if store.KeyNumber([]byte(k)) != 2 {
				t.Errorf("%s still has %x", table, k)
			}
		}
		if n := len(dump(t, s, table)); n != 1 {
			t.Errorf("%s has %d keys", table, n)
		}
	}
	closed(t, s)
}

func order(t *testing.T, open Opener) {
	s := open(t)
	var a, b store.Batch
	k := []byte(owner(1, "k"))
	a.Put(store.Entries, k, []byte("1"))
	a.Put(store.Entries, k, []byte("2"))
	b.Delete(store.Entries, k)
	b.Put(store.Entries, k, []byte("3"))
	commit(t, s, &a, &store.Batch{}, &b)
	a = store.Batch{}
	a.DropSession(1)
	a.Put(store.Entries, []byte(owner(1, "later")), []byte("4"))
	commit(t, s, &a)
	closed(t, s)
	s = open(t)
	want(t, s, store.Entries, owner(1, "later"), "4")
	closed(t, s)
}

func walkEnds(t *testing.T, open Opener) {
	s := open(t)
	var b store.Batch
	for i := range 10 {
		b.Put(store.Retained, fmt.Append(nil, i), nil)
	}
	commit(t, s, &b)
	closed(t, s)
	s = open(t)
	end, n := errors.New("end"), 0
	err := s.Walk(store.Retained, func(_, _ []byte) error {
		if n++; n == 3 {
			return end
		}
		return nil
	})
	if !errors.Is(err, end) || n != 3 {
		t.Errorf("%v after %d", err, n)
	}
	closed(t, s)
}

func long(t *testing.T, open Opener) {
	s := open(t)
	value := make([]byte, 3<<20)
	for i := range value {
		value[i] = byte(i >> 8)
	}
	var b store.Batch
	for i := range 4 {
		b.Put(store.Messages, binary.BigEndian.AppendUint64(nil, uint64(i)), value[i:])
	}
	commit(t, s, &b)
	closed(t, s)
	s = open(t)
	got := dump(t, s, store.Messages)
	for i := range 4 {
		if got[owner(uint64(i), "")] != string(value[i:]) {
			t.Errorf("value %d differs", i)
		}
	}
	closed(t, s)
}

// Model commits random batches and opens the store again at random; its tables are always what a map says.
func Model(t *testing.T, open Opener, seed uint64, commits int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 5))
	m := store.NewMemory()
	s := open(t)
	for range commits {
		batches := make([]*store.Batch, rnd.IntN(4))
		for i := range batches {
			batches[i] = RandomBatch(rnd)
		}
		commit(t, s, batches...)
		commit(t, m, batches...)
		if rnd.IntN(40) == 0 {
			closed(t, s)
			s = open(t)
			Compare(t, s, m, seed)
		}
	}
	closed(t, s)
	s = open(t)
	Compare(t, s, m, seed)
	closed(t, s)
}

// Compare fails unless two stores hold the same.
func Compare(t testing.TB, got, want store.Store, seed uint64) {
	t.Helper()
	for table := range store.Tables {
		a, b := dump(t, got, table), dump(t, want, table)
		if !maps.Equal(a, b) {
			t.Fatalf("seed %d: %s has %d keys and differs, want %d keys", seed, table, len(a), len(b))
		}
	}
}

// RandomBatch is a batch of up to 20 operations on few keys.
func RandomBatch(rnd *rand.Rand) *store.Batch {
	b := &store.Batch{}
	for range rnd.IntN(20) {
		table := store.Table(rnd.IntN(int(store.Tables)))
		key := []byte(owner(rnd.Uint64N(8), fmt.Sprint(rnd.IntN(30))))
		switch rnd.IntN(10) {
		case 0:
			n := rnd.Uint64N(8)
			b.DropSession(n)
			b.DropGrants(n)
		case 1, 2, 3:
			b.Delete(table, key)
		default:
			value := make([]byte, rnd.IntN(300))
			for i := range value {
				value[i] = byte(rnd.Uint32())
			}
			b.Put(table, key, value)
		}
	}
	return b
}

// numbered is messages by id, which come and go in the order of their ids.
type numbered struct {
	t                testing.TB
	r                store.Reader
	durable, deleted atomic.Uint64 // ids up to these
}

func (n *numbered) value(id uint64) string { return fmt.Sprintf("%d %300d", id, id) }

// read looks for some messages: what is durable and not deleted is found, in order.
func (n *numbered) read(rnd *rand.Rand) {
	upTo := n.durable.Load()
	ids := make([]uint64, 1+rnd.IntN(40))
	for i := range ids {
		ids[i] = 1 + rnd.Uint64N(upTo+5)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	found, last := map[uint64]bool{}, -1
	err := n.r.ReadMessages(ids, func(i int, v []byte) error {
		if i <= last || string(v) != n.value(ids[i]) {
			n.t.Errorf("message %d after %d is %q", ids[i], last, v)
		}
		last = i
		found[ids[i]] = true
		return nil
	})
	if err != nil {
		n.t.Error(err)
	}
	for _, id := range ids { // a commit that deletes may be under way
		if later := n.deleted.Load(); id <= upTo && id > later+deletesMost && !found[id] {
			n.t.Errorf("message %d, durable up to %d, deleted up to %d, is not found", id, upTo, later)
		}
	}
}

// deletesMost is how many messages a commit may delete.
const deletesMost = 8

// change commits new messages from id on and deletes some old ones.
func (n *numbered) change(rnd *rand.Rand, s store.Store, id uint64) (next uint64) {
	var b store.Batch
	first := id
	for range 1 + rnd.IntN(20) {
		b.Put(store.Messages, binary.BigEndian.AppendUint64(nil, id), []byte(n.value(id)))
		id++
	}
	d := n.deleted.Load()
	for range rnd.IntN(deletesMost + 1) {
		if d+1 < first {
			d++
			b.DeleteMessage(d)
		}
	}
	commit(n.t, s, &b)
	n.durable.Store(id - 1)
	n.deleted.Store(d)
	return id
}

// reads puts, deletes and reads messages by id on several goroutines, whether a fold has taken them or not.
func reads(t *testing.T, open Opener) {
	s := open(t)
	const messages = 6000
	n := &numbered{t: t, r: s.(store.Reader)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range uint64(2) {
		wg.Go(func() {
			for rnd := rand.New(rand.NewPCG(seed, i)); ; {
				select {
				case <-stop:
					return
				default:
					n.read(rnd)
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 9))
	for id := uint64(1); id <= messages && !t.Failed(); {
		id = n.change(rnd, s, id)
		if id%16 == 0 {
			n.read(rnd)
		}
	}
	close(stop)
	wg.Wait()
	closed(t, s)
	s = open(t)
	n.r = s.(store.Reader)
	n.read(rnd)
	end := errors.New("end")
	last := []uint64{messages, messages - 1}
	if err := n.r.ReadMessages(last, func(int, []byte) error { return end }); !errors.Is(err, end) {
		t.Errorf("%v instead of the callback's error", err)
	}
	closed(t, s)
}
