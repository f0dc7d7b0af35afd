package durable_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"noctule/broker/durable"
	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/topictree"
)

// bench is a journal with a store in memory whose posts the test lets become durable.
type bench struct {
	*durable.Journal
	t    *testing.T
	mem  *store.Memory
	c    *store.Committer
	done chan uint64
}

func newBench(t *testing.T, routes *durable.Routes) *bench {
	b := &bench{t: t, mem: store.NewMemory(), done: make(chan uint64, 1000)}
	b.c = store.NewCommitter(b.mem, store.CommitterOptions{
		Sources: 1, Done: func(_ int, n uint64) { b.done <- n },
	})
	b.c.Start()
	t.Cleanup(func() { _ = b.c.Close() })
	var ids atomic.Uint64
	b.Journal = durable.New(0, durable.Options{
		Committer: b.c, Gates: true, Routes: routes, NextID: func() uint64 { return ids.Add(1) },
	})
	return b
}

// turn ends a turn and waits until it is durable.
func (b *bench) turn() {
	b.t.Helper()
	want := b.Ticket().Number
	b.Post()
	for n := uint64(0); n < want; {
		n = <-b.done
		b.Durable(n)
		b.Answer()
	}
}

func (b *bench) records(table store.Table) int {
	n := 0
	_ = b.mem.Walk(table, func(_, _ []byte) error { n++; return nil })
	return n
}

// A message is stored while anybody needs it, and once for all.
func TestMessagesGoWithTheLastReference(t *testing.T) {
	b := newBench(t, &durable.Routes{})
	m := message.New([]byte("t"), []byte("x"), 1, false).Keep()
	b.Ref(m)
	b.Ref(m)
	if b.turn(); b.records(store.Messages) != 1 {
		t.Fatalf("%d messages", b.records(store.Messages))
	}
	b.Unref(m.Stored)
	if b.turn(); b.records(store.Messages) != 1 {
		t.Error("one still needs it")
	}
	b.Unref(m.Stored)
	b.Ref(m) // in the same turn
	if b.turn(); b.records(store.Messages) != 1 {
		t.Error("it was given on")
	}
	b.Unref(m.Stored)
	if b.turn(); b.records(store.Messages) != 0 {
		t.Error("nobody needs it")
	}
	b.Ref(m)
	if b.turn(); b.records(store.Messages) != 1 {
		t.Error("it was not put again")
	}
}

// A debt is noted for a loop that has durable subscribers, and gone when it is paid.
func TestDebts(t *testing.T) {
	routes := &durable.Routes{}
	b := newBench(t, routes)
	id, err := topictree.New(topictree.Options{}).Add([]byte("t"), 0)
	if err != nil {
		t.Fatal(err)
	}
	m := message.New([]byte("t"), []byte("x"), 1, false).Keep()
	if b.Owe(m, id, 0) || b.OweShared(m, id, 5) {
		t.Error("a debt to nobody")
	}
	b.Enter(id)
	b.Enter(id)
	b.Leave(id)
	qos0 := message.New([]byte("t"), nil, 0, false)
	if b.Owe(qos0, id, 0) || b.Owe(m, id, 1) || !b.OweShared(m, id, 1) || !b.Owe(m, id, 0) {
		t.Error("who is owed")
	}
	if b.turn(); b.records(store.Transits) != 2 || b.records(store.Messages) != 1 {
		t.Errorf("%d debts", b.records(store.Transits))
	}
	b.Paid(m, id)
	if b.turn(); b.records(store.Transits) != 1 || b.records(store.Messages) != 1 {
		t.Errorf("%d debts after one was paid", b.records(store.Transits))
	}
	if b.Leave(id); routes.Of(id) != 0 {
		t.Errorf("loops %b", routes.Of(id))
	}
	var none *durable.Journal
	if none.Owe(m, id, 0) || none.OweShared(m, id, 0) || none.Failing() || none.Changed() || none.Post() {
		t.Error("a broker without a store owes")
	}
}

// An answer promises what its packet has changed, and nothing else.
func TestChanged(t *testing.T) {
	b := newBench(t, &durable.Routes{})
	b.Batch.DropSession(1)
	b.Begin()
	if b.Changed() {
		t.Error("the packet before has changed something")
	}
	b.Touch()
	if !b.Changed() {
		t.Error("not in the batch")
	}
	b.Begin()
	if b.Unref(message.NewStored(1, message.New(nil, nil, 1, false))); !b.Changed() {
		t.Error("a reference less")
	}
}

// output is a client that has a gate.
type output struct {
	b    *bench
	gate *durable.Gate
	out  []byte
}

func (o *output) reserve(n int) []byte {
	o.out = append(o.out, make([]byte, n)...)
	return o.out[len(o.out)-n:]
}

// Opens implements durable.Waiter.
func (o *output) Opens(g *durable.Gate, post uint64) {
	if o.gate == g && g.Open(post, o.reserve) {
		o.gate = nil
	}
}

// send is what goes to the client, which waits if promises says so, and else behind what waits.
func (o *output) send(text string, promises bool) {
	if promises {
		if o.gate == nil {
			o.gate = &durable.Gate{}
		}
		o.b.Wait(o, o.gate)
	}
	if o.gate == nil {
		copy(o.reserve(len(text)), text)
		return
	}
	copy(o.gate.Reserve(len(text)), text)
}

// What goes to a client leaves in its order, what promises something not before the post of its turn is durable.
func TestModelOfGates(t *testing.T) {
	for range 30 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, &durable.Routes{})
		o := &output{b: b}
		var all []byte
		var needs []uint64 // by byte: the post that it promises
		posted, reached := uint64(0), uint64(0)
		for step := range 400 {
			switch rnd.IntN(5) {
			case 0, 1:
				text := fmt.Sprintf("%d,", step)
				promises := rnd.IntN(2) == 0
				o.send(text, promises)
				need := uint64(0)
				if promises {
					need = posted + 1
				}
				for range text {
					needs = append(needs, need)
				}
				all = append(all, text...)
			case 2:
				before := b.Ticket().Number
				b.Post()
				posted = before
			default:
				if posted > reached {
					reached += 1 + rnd.Uint64N(posted-reached)
					b.Durable(reached)
				}
			}
			if !bytes.HasPrefix(all, o.out) {
				t.Fatalf("seed %d: %q is no beginning of %q [MQTT-4.6.0-2]", seed, o.out, all)
			}
			held := 0
			if o.gate != nil {
				held = o.gate.Len()
			}
			for i, need := range needs {
				if i < len(o.out) && need > reached {
					t.Fatalf("seed %d: a promise of post %d has left, %d is durable", seed, need, reached)
				}
			}
			if len(o.out)+held != len(all) {
				t.Fatalf("seed %d: %d bytes have left and %d wait, of %d", seed, len(o.out), held, len(all))
			}
			if first := len(o.out); first < len(all) && held > 0 && needs[first] != 0 && needs[first] <= reached {
				t.Fatalf("seed %d: what waits for post %d waits still, %d is durable", seed, needs[first], reached)
			}
		}
	}
}

// Those who are told hear once, in their order, when the post of their turn is durable.
func TestTell(t *testing.T) {
	b := newBench(t, &durable.Routes{})
	var heard []int
	b.Tell(func() {
		heard = append(heard, 1)
		b.Tell(func() { heard = append(heard, 3) })
	})
	b.Tell(func() { heard = append(heard, 2) })
	b.turn()
	if fmt.Sprint(heard) != "[1 2]" {
		t.Error(heard)
	}
	if b.turn(); fmt.Sprint(heard) != "[1 2 3]" {
		t.Error(heard)
	}
}
