//go:build invariants

package broker

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"noctule/broker/behalf"
	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/store"
)

// TestInvariantsAreSeen breaks the state of a loop in many ways, each of which the checks must find; when it
// is mended they find nothing.
func TestInvariantsAreSeen(t *testing.T) {
	b, err := startOn(leftover(t), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer endBroker(t, b)
	if err := b.onEach(t.Context(), func(s *shard) {
		defer func() {
			if r := recover(); r != nil {
				t.Error(r) // Fatal would end the loop's goroutine
			}
		}()
		plantFaults(t, s)
	}); err != nil {
		t.Fatal(err)
	}
	entered := ""
	func() {
		defer func() { entered = fmt.Sprint(recover()) }()
		b.shards[0].sessionOf([]byte("a"))
	}()
	if !strings.Contains(entered, "is entered by goroutine") {
		t.Errorf("a loop entered from outside: %q", entered)
	}
}

func plantFaults(t *testing.T, s *shard) {
	a, c := s.sessions["a"], s.sessions["b"]
	list := behalf.NewSet([]behalf.Topic{{Filter: "x"}, {Filter: "y"}})
	key, origins := store.SetKey(list.Key()), grants.Origins{}
	for _, cl := range []*client{a, c} {
		given := []store.Grant{{Session: cl.number, Origin: "o", Revision: 1, Set: key}}
		s.grants.Restore(cl, given, grants.Lists{key: list}, origins)
	}
	j := s.journal
	plain, _ := a.lookup([]byte("t"))
	x, _ := s.b.index.Lookup([]byte("x"))
	plant := func(want string, do, undo func()) {
		t.Helper()
		s.mustHold("before " + want)
		do()
		if got := s.faults(); !strings.Contains(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
		undo()
		s.mustHold("after " + want)
	}
	place := &a.subs[plain].at
	plant("is not its place", func() { *place ^= 1 }, func() { *place ^= 1 })
	plant("places more than", func() { s.receivers.Join(x, member{C: a}) },
		func() { s.receivers.Leave(x, 0) })
	plant("shared subscriptions", func() { a.shared++ }, func() { a.shared-- })
	stray := &fanout.Set[*client]{}
	plant("0 sets with grants, and 1 with topics, are gone",
		func() { s.receivers.Attach(x, fanout.Ref[*client]{Set: stray}) }, func() { s.receivers.Detach(x, stray) })
	plant("the sums are", func() { s.totals.Queued++ }, func() { s.totals.Queued-- })
	plant("durable subscribers", func() { j.Enter(x) }, func() { j.Leave(x) })
	wait, forget := func() { a.extra().promises.Wait(j, a) }, func() { a.rare.promises = durable.Promises{} }
	plant("gate of a", func() {
		wait()
		a.gate().Open(math.MaxUint64, func(int) []byte { return nil }) // holds nothing
	}, forget)
	plant("gate of a, which is offline", wait, forget)
}

// faults is what the checks find, "" for nothing.
func (s *shard) faults() (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprint(r)
		}
	}()
	checkInvariants(s, true)
	return ""
}

func (s *shard) mustHold(when string) {
	if got := s.faults(); got != "" {
		panic(when + ": " + got)
	}
}
