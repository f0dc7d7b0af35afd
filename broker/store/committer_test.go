package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"noctule/broker/store"
)

// flaky fails commits before or after they have happened.
type flaky struct {
	*store.Memory
	mu     sync.Mutex
	fail   func() (before, after bool)
	commit int
}

var errDisk = errors.New("no space left on device")

func (f *flaky) Commit(batches ...[]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commit++
	before, after := false, false
	if f.fail != nil {
		before, after = f.fail()
	}
	if before {
		return errDisk
	}
	if err := f.Memory.Commit(batches...); err != nil {
		return err
	}
	if after {
		return errDisk
	}
	return nil
}

// watch notes what a committer tells.
type watch struct {
	mu   sync.Mutex
	cond *sync.Cond
	done map[int]uint64
	errs []error
}

func newWatch() *watch {
	w := &watch{done: map[int]uint64{}}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *watch) options(sources int) store.CommitterOptions {
	return store.CommitterOptions{
		Sources: sources,
		Done: func(source int, n uint64) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if n <= w.done[source] {
				panic("numbers do not ascend")
			}
			w.done[source] = n
			w.cond.Broadcast()
		},
		Failed: func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.errs = append(w.errs, err)
			w.cond.Broadcast()
		},
	}
}

func (w *watch) until(ok func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ok() {
		w.cond.Wait()
	}
}

func put(key, value string) *store.Batch {
	b := &store.Batch{}
	b.Put(store.Retained, []byte(key), []byte(value))
	return b
}

func value(s store.Store, key string) (v string) {
	_ = s.Walk(store.Retained, func(k, x []byte) error {
		if string(k) == key {
			v = string(x)
		}
		return nil
	})
	return v
}

// What is told to be durable is in the store, whatever fails and however often; posts keep their order.
func TestCommitterAgainstAFailingStore(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := &flaky{Memory: store.NewMemory()}
	s.fail = func() (before, after bool) { return rnd.IntN(3) == 0, rnd.IntN(3) == 0 }
	w := newWatch()
	o := w.options(3)
	done := o.Done
	o.Done = func(source int, n uint64) {
		if v := value(s.Memory, fmt.Sprint(source)); v < fmt.Sprintf("%06d", n) {
			t.Errorf("seed %d: source %d is told %d, the store has %s", seed, source, n, v)
		}
		done(source, n)
	}
	c := store.NewCommitter(s, o)
	c.Start()
	var wg sync.WaitGroup
	for source := range 3 {
		wg.Go(func() {
			for n := uint64(1); n <= 60; n++ {
				c.Post(source, n, put(fmt.Sprint(source), fmt.Sprintf("%06d", n)), nil)
				if n%10 == 0 {
					w.until(func() bool { return w.done[source] == n })
				}
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	s.fail = nil
	s.mu.Unlock()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for source := range 3 {
		if v := value(s.Memory, fmt.Sprint(source)); v != "000060" {
			t.Errorf("seed %d: %d has %s", seed, source, v)
		}
	}
	if len(w.errs) == 0 || w.errs[len(w.errs)-1] != nil || !errors.Is(w.errs[0], errDisk) {
		t.Errorf("seed %d: failures told: %v", seed, w.errs)
	}
	if st := c.Stats(); st.Errors == 0 || st.Pending != 0 || st.Failing || st.Posts < 180 {
		t.Errorf("%+v", st)
	}
}

func TestCommitterGroupsWhatWaits(t *testing.T) {
	s := &flaky{Memory: store.NewMemory()}
	gate := make(chan struct{})
	s.fail = func() (bool, bool) { <-gate; return false, false }
	w := newWatch()
	c := store.NewCommitter(s, w.options(1))
	c.Start()
	for n := uint64(1); n <= 100; n++ {
		c.Post(0, n, put("k", fmt.Sprint(n)), nil)
	}
	close(gate)
	w.until(func() bool { return w.done[0] == 100 })
	if s.commit > 3 {
		t.Errorf("%d commits", s.commit)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestCommitterGivesUpWhenClosedWhileFailing(t *testing.T) {
	s := &flaky{Memory: store.NewMemory(), fail: func() (bool, bool) { return true, false }}
	w := newWatch()
	c := store.NewCommitter(s, w.options(1))
	c.Start()
	c.Post(0, 1, put("k", "v"), nil)
	w.until(func() bool { return len(w.errs) > 0 })
	if !c.Failing() {
		t.Error("not failing")
	}
	if err := c.Close(); err == nil {
		t.Error("no error although posts were lost")
	}
	if w.done[0] != 0 {
		t.Error("told to be durable")
	}
	c.Post(0, 2, put("k", "w"), nil)
	if c.Close() == nil || value(s.Memory, "k") != "" {
		t.Error("goes on after Close")
	}
}

// What is shared is in the store no later than posts made after it, and alone if nobody posts.
func TestSharedComesNoLaterThanPosts(t *testing.T) {
	s := store.NewMemory()
	w := newWatch()
	c := store.NewCommitter(s, w.options(1))
	c.Start()
	for n := uint64(1); n <= 50; n++ {
		v := fmt.Sprint(n)
		c.Shared(func(b *store.Batch) { b.Put(store.Retained, []byte("shared"), []byte(v)) })
		c.Post(0, n, &store.Batch{}, nil)
		w.until(func() bool { return w.done[0] == n })
		if got := value(s, "shared"); got != v {
			t.Fatalf("%s, want %s", got, v)
		}
	}
	c.Shared(func(b *store.Batch) { b.Put(store.Retained, []byte("alone"), []byte("x")) })
	for deadline := time.Now().Add(10 * time.Second); value(s, "alone") != "x"; {
		if time.Now().After(deadline) {
			t.Fatal("not committed")
		}
	}
	_ = c.Close()
}

func TestLingerEndsWhenFull(t *testing.T) {
	s := store.NewMemory()
	w := newWatch()
	o := w.options(1)
	o.Linger, o.FullBytes = time.Hour, 100
	c := store.NewCommitter(s, o)
	c.Start()
	c.Post(0, 1, put("k", "1"), nil)
	w.until(func() bool { return w.done[0] == 1 }) // the first does not wait
	c.Post(0, 2, put("k", "2"), nil)
	c.Post(0, 3, put("k", string(make([]byte, 100))), nil)
	w.until(func() bool { return w.done[0] == 3 })
	c.Post(0, 4, put("k", "4"), nil)
	_ = c.Close() // nor does the end
	if value(s, "k") != "4" {
		t.Error("lost")
	}
}

// A committer that is closed without Start leaves the store alone; what was posted before Start comes after it, in
// its order.
func TestCommitterBeginsWithStart(t *testing.T) {
	s := store.NewMemory()
	w := newWatch()
	c := store.NewCommitter(s, w.options(1))
	c.Post(0, 1, put("k", "1"), nil)
	c.Shared(func(b *store.Batch) { b.Put(store.Retained, []byte("r"), []byte("x")) })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if v := value(s, "k"); v != "" || value(s, "r") != "" {
		t.Errorf("committed %q", v)
	}
	c = store.NewCommitter(s, w.options(1))
	c.Post(0, 1, put("k", "1"), nil)
	c.Post(0, 2, put("k", "2"), nil)
	c.Start()
	if err := c.Attempt(t.Context()); err != nil || value(s, "k") != "2" {
		t.Errorf("%q, %v", value(s, "k"), err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestSparedIsBounded: what may be lost is not taken while the disk is behind or fails, so it cannot pile up.
func TestSparedIsBounded(t *testing.T) {
	f, w := &flaky{Memory: store.NewMemory()}, newWatch()
	failing := true // guarded by f.mu
	f.fail = func() (bool, bool) { return failing, false }
	c := store.NewCommitter(f, w.options(1))
	put := func(b *store.Batch) { b.Put(store.Answers, []byte{0, 1}, make([]byte, 1<<20)) }
	n := 0
	for n < 100 && c.Spared(put) { // nothing is committed before Start
		n++
	}
	if n != 4 {
		t.Errorf("%d MiB wait", n)
	}
	c.Start()
	w.until(func() bool { return len(w.errs) > 0 })
	if c.Spared(put) {
		t.Error("taken while the disk fails")
	}
	f.mu.Lock()
	failing = false
	f.mu.Unlock()
	if err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !c.Spared(put) {
		t.Error("not taken afterwards")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c.Spared(put) {
		t.Error("taken after Close")
	}
}
