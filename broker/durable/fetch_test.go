package durable_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"noctule/broker/durable"
	"noctule/broker/message"
	"noctule/broker/store"
)

// sleeper is a session that wants messages from disk.
type sleeper struct {
	wants        []*message.Stored
	absent, over bool
}

// Wants implements durable.Wanting.
func (s *sleeper) Wants(f func(seq uint64, st *message.Stored) bool) {
	for i, st := range s.wants {
		if !f(uint64(i+1), st) {
			return
		}
	}
}

// Over implements durable.Wanting.
func (s *sleeper) Over() bool { return s.over }

// Absent implements durable.Wanting.
func (s *sleeper) Absent() bool { return s.absent }

// disk is a store with messages; broken, it reads nothing.
type disk struct {
	*store.Memory
	broken bool
}

var errBroken = errors.New("broken")

// ReadMessages implements store.Reader.
func (d *disk) ReadMessages(ids []uint64, f func(i int, value []byte) error) error {
	if d.broken {
		return errBroken
	}
	return d.Memory.ReadMessages(ids, f)
}

func newDisk(t *testing.T) (*disk, *durable.Fetcher[*sleeper], func(size int) *message.Stored) {
	t.Helper()
	d := &disk{Memory: store.NewMemory()}
	c := store.NewCommitter(d, store.CommitterOptions{Sources: 1, Done: func(int, uint64) {}})
	c.Start()
	t.Cleanup(func() { _ = c.Close() })
	id := uint64(0)
	return d, durable.NewFetcher[*sleeper](d, c), func(size int) *message.Stored {
		id++
		m := message.New([]byte("t"), make([]byte, size), 1, false)
		var b store.Batch
		b.PutMessage(id, m)
		if err := d.Commit(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		return message.NewStored(id, m)
	}
}

// round reads what is wanted, and says what has come of it.
func round(t *testing.T, f *durable.Fetcher[*sleeper]) (got []durable.Fetched[*sleeper], idle int) {
	t.Helper()
	r := f.Next(func(*sleeper) { idle++ })
	if r == nil {
		return nil, idle
	}
	if f.Next(nil) != nil {
		t.Error("two reads at a time")
	}
	r.Read()
	return slices.Collect(f.Done(r)), idle
}

// Of each of a bounded number of sessions a bounded part is read, in its order.
func TestFetchInParts(t *testing.T) {
	_, f, put := newDisk(t)
	long, big := &sleeper{}, &sleeper{}
	for range 300 {
		long.wants = append(long.wants, put(10))
	}
	for range 5 {
		big.wants = append(big.wants, put(100<<10))
	}
	f.Want(long)
	f.Want(big)
	for range 9 {
		f.Want(&sleeper{wants: []*message.Stored{put(1)}})
	}
	if n := f.Waiting(); n != 11 {
		t.Errorf("%d wait", n)
	}
	got, _ := round(t, f)
	if len(got) != 8 || len(got[0].List) != 128 || len(got[1].List) != 2 || f.Waiting() != 3 {
		t.Fatalf("%d sessions, %d and %d messages, %d wait", len(got), len(got[0].List), len(got[1].List), f.Waiting())
	}
	for i, x := range got[0].List {
		if x.Seq != uint64(i+1) || x.Message.Stored != long.wants[i] {
			t.Fatalf("place %d has number %d", i, x.Seq)
		}
	}
	if got, _ = round(t, f); len(got) != 3 || f.Waiting() != 0 {
		t.Errorf("%d sessions, %d wait", len(got), f.Waiting())
	}
}

// Who has nothing to want, is not there or is over is not read for.
func TestFetchForNobody(t *testing.T) {
	_, f, put := newDisk(t)
	one := []*message.Stored{put(1)}
	f.Want(&sleeper{})
	f.Want(&sleeper{wants: one, absent: true})
	f.Want(&sleeper{wants: one, over: true})
	if got, idle := round(t, f); len(got) != 0 || idle != 2 || f.Waiting() != 0 {
		t.Errorf("%d are read for, %d are told, %d wait", len(got), idle, f.Waiting())
	}
	gone, over := &sleeper{wants: one}, &sleeper{wants: one}
	f.Want(gone)
	f.Want(over)
	r := f.Next(nil)
	r.Read()
	gone.absent, over.over = true, true
	got := slices.Collect(f.Done(r))
	if len(got) != 1 || got[0].Of != gone || len(got[0].List) != 0 || got[0].Err != nil {
		t.Errorf("%+v", got)
	}
	var none *durable.Fetcher[*sleeper]
	if none.Retry(); none.Next(nil) != nil || none.Waiting() != 0 {
		t.Error("a broker without a bound reads")
	}
}

// A failure is told once, and its end; who waits is read for again, unless it wants nothing any more.
func TestFetchFails(t *testing.T) {
	d, f, put := newDisk(t)
	a, b := &sleeper{wants: []*message.Stored{put(1)}}, &sleeper{wants: []*message.Stored{put(1)}}
	d.broken = true
	f.Want(a)
	f.Want(b)
	r := f.Next(nil)
	r.Read()
	b.wants = nil // it has expired
	got := slices.Collect(f.Done(r))
	if len(got) != 2 || !errors.Is(got[0].Err, errBroken) || !got[0].News || got[1].Err != nil || f.Waiting() != 1 {
		t.Errorf("%+v, %d wait", got, f.Waiting())
	}
	if got, _ := round(t, f); len(got) != 0 {
		t.Error("at once again")
	}
	f.Retry()
	if got, _ := round(t, f); len(got) != 1 || got[0].Err == nil || got[0].News {
		t.Errorf("%+v", got)
	}
	d.broken = false
	f.Retry()
	if got, _ := round(t, f); len(got) != 1 || got[0].Err != nil || !got[0].News || len(got[0].List) != 1 {
		t.Errorf("%+v", got)
	}
	lost := &sleeper{wants: []*message.Stored{message.NewStored(99, message.New(nil, nil, 1, false))}}
	f.Want(lost)
	if got, _ := round(t, f); len(got) != 1 || !errors.Is(got[0].Err, store.ErrCorrupt) {
		t.Errorf("what is not there: %+v", got)
	}
}

// Answers leave when their post is durable, when their time is over, when the store fails, or not at all.
func TestLate(t *testing.T) {
	for _, tt := range []struct {
		post  uint64
		now   int64
		fails bool
		want  string
	}{
		{0, 0, false, ""},
		{4, 0, false, "a1 "},
		{5, 0, false, "a1 b2 "},
		{0, durable.LateMost, false, "a1 b2 "}, // c came later
		{0, durable.LateMost + 1, false, "a1 b2 c3 "},
		{0, 0, true, "a1 b2 c3 "},
	} {
		var x durable.Late[string]
		x.Drop("a")
		x.Add("a", []byte("1"), 4, 0)
		x.Add("d", []byte("4"), 4, 0)
		x.Add("b", []byte("2"), 5, 0)
		x.Add("c", []byte("3"), 6, 1)
		x.Drop("d")
		got := ""
		out := func(of string, raw []byte) { got += fmt.Sprintf("%s%s ", of, raw) }
		if x.Leave(tt.post, tt.now, tt.fails, out); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
		x.Leave(tt.post, tt.now, tt.fails, out)
		if got != tt.want {
			t.Errorf("%+v: twice: %q", tt, got)
		}
	}
}
