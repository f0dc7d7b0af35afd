package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/wsnet"
)

// leftover is a store as a broker leaves it that was killed while it passed a message on: two sessions, one of
// them online with a will, a message in a queue, one that loops owe each other, a shared one, and a message that
// nobody has.
func leftover(t *testing.T) *store.Memory {
	t.Helper()
	var b store.Batch
	b.PutMeta(&store.Meta{Epoch: 1, Seed: 1, Loops: 1})
	text := func(topic string) *message.Message {
		return &message.Message{Topic: []byte(topic), Payload: []byte("x"), QoS: 1}
	}
	will := *text("will")
	will.Retain = true
	b.PutSession(&store.Session{Number: 1, ClientID: "a", Expiry: 1000, OfflineAt: time.Now().Unix()})
	b.PutSession(&store.Session{Number: 2, ClientID: "b", Expiry: 1000, Will: &store.Will{Message: will}})
	for n := uint64(1); n <= 2; n++ {
		b.PutSubscription(&store.Subscription{Session: n, Filter: "t", Options: 1})
		b.PutSubscription(&store.Subscription{Session: n, Filter: "$share/g/s", Options: 1})
	}
	b.PutMessage(1, text("t"))
	b.PutEntry(&store.Entry{Session: 1, Seq: 1, Message: 1, QoS: 1})
	b.PutMessage(2, text("t"))
	b.PutTransit(&store.Transit{Message: 2, Loop: 0, Filter: "t"})
	b.PutMessage(3, text("s"))
	b.PutTransit(&store.Transit{Message: 3, Loop: 0, Filter: "$share/g/s"})
	b.PutMessage(4, text("nobody"))
	s := store.NewMemory()
	if err := s.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return s
}

// content is all that a store holds.
func content(t *testing.T, s store.Store) string {
	t.Helper()
	var out bytes.Buffer
	for table := range store.Tables {
		err := s.Walk(table, func(k, v []byte) error {
			fmt.Fprintf(&out, "%s %x %x\n", table, k, v)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func startOn(s store.Store, loops int, at func(step string) error) (*Broker, error) {
	o := DefaultOptions()
	o.Loops, o.Store, o.atStart, o.SysInterval = loops, s, at, 0
	return New(o)
}

// endBroker ends a broker; wills of the test's sessions go into the store.
func endBroker(t *testing.T, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// Each step of the start needs the one before: whichever fails is the last, and the store is as it was. The start
// after that has everything.
func TestAFailedStepOfTheStartChangesNothing(t *testing.T) {
	errStep := errors.New("no")
	for _, loops := range []int{1, 3} {
		var steps []string
		b, err := startOn(leftover(t), loops, func(s string) error { steps = append(steps, s); return nil })
		if err != nil {
			t.Fatal(err)
		}
		endBroker(t, b)
		if len(steps) < 5 {
			t.Fatalf("steps: %q", steps)
		}
		for i := range steps {
			s := leftover(t)
			before := content(t, s)
			var did []string
			_, err := startOn(s, loops, func(name string) error {
				did = append(did, name)
				if name == steps[i] {
					return errStep
				}
				return nil
			})
			if !errors.Is(err, errStep) || len(did) != i+1 {
				t.Errorf("%s fails: %v after %q", steps[i], err, did)
			}
			if now := content(t, s); now != before {
				t.Errorf("%s fails, and the store is\n%sinstead of\n%s", steps[i], now, before)
			}
			wantLeftover(t, s, loops)
		}
	}
}

// wantLeftover starts a broker, which must find all that leftover has.
func wantLeftover(t *testing.T, s store.Store, loops int) {
	t.Helper()
	b, err := startOn(s, loops, nil)
	if err != nil {
		t.Fatal(err)
	}
	queued := map[string]int{}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	found := make(chan string, 10)
	err = b.onEach(ctx, func(s *shard) {
		for _, c := range s.sessions {
			c.Stored(func(st *message.Stored) { found <- fmt.Sprint(c.id, st.ID) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	close(found)
	for f := range found {
		queued[f]++
	}
	if shared := queued["a3"] + queued["b3"]; len(queued) != 4 || queued["a1"]*queued["a2"]*queued["b2"] != 1 || shared != 1 {
		t.Errorf("queued: %v", queued)
	}
	if m := b.retained.Len(); m != 1 {
		t.Errorf("%d retained messages, want the will", m)
	}
	endBroker(t, b)
}

// noTable fails to read one table.
type noTable struct {
	*store.Memory
	table store.Table
}

var errTable = errors.New("cannot be read")

func (n *noTable) Walk(t store.Table, f func(key, value []byte) error) error {
	if t == n.table {
		return errTable
	}
	return n.Memory.Walk(t, f)
}

// A table that cannot be read ends the start, and nothing has changed.
func TestATableThatCannotBeReadChangesNothing(t *testing.T) {
	for table := range store.Tables {
		if table == store.Answers || table == store.Denials { // read by whoever has put something there
			continue
		}
		s := leftover(t)
		before := content(t, s)
		if _, err := startOn(&noTable{s, table}, 2, nil); !errors.Is(err, errTable) {
			t.Errorf("%s: %v", table, err)
		}
		if now := content(t, s); now != before {
			t.Errorf("%s: the store has changed", table)
		}
		wantLeftover(t, s, 2)
	}
}

// tickingWalk lets seconds pass while tables are read.
type tickingWalk struct {
	*store.Memory
	tick func()
}

func (w *tickingWalk) Walk(t store.Table, f func(key, value []byte) error) error {
	w.tick()
	defer w.tick()
	return w.Memory.Walk(t, f)
}

// Ticks that come while a start lasts find loops that have what they look at (with -race).
func TestTicksDuringALongStart(t *testing.T) {
	ticks := make(chan time.Time, 1)
	tick := func() {
		for range 3 { // the loops take them, or there are none yet
			select {
			case ticks <- time.Time{}:
			case <-time.After(time.Millisecond):
			}
		}
	}
	o := DefaultOptions()
	o.Loops = 3
	o.Store = &tickingWalk{leftover(t), tick}
	o.Clock = &wsnet.Clock{Now: func() int64 { return time.Now().UnixMilli() }, Ticks: ticks}
	o.atStart = func(string) error { tick(); return nil }
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	endBroker(t, b)
}
