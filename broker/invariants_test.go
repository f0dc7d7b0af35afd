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
	origin := &behalf.Origin{Name: "o"}
	for _, cl := range []*client{a, c} {
		s.regrant(cl, origin, s.ready(behalf.NewSet([]behalf.Topic{{Filter: "x"}, {Filter: "y"}}), false), nil, false)
		s.unpinLoose()
	}
	x, j, g := a.grants().set, s.journal, a.grants()
	plain, _ := s.lookup(a, []byte("t"))
	topic := x.topics[0]
	swap := func(p *int, by int) (do, undo func()) { return func() { *p += by }, func() { *p -= by } }
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
	plant("places more than", func() { s.receivers.Join(topic.ID, member{C: a}) },
		func() { s.receivers.Leave(topic.ID, 0) })
	plant("shared subscriptions", func() { a.shared++ }, func() { a.shared-- })
	for _, by := range []int{-1, 1} {
		do, undo := swap(&x.grants, by)
		plant("grants", do, undo)
	}
	do, undo := swap(&x.pins, -1)
	plant("pins", do, undo)
	plant("uprooting true", func() { x.uprooting = true }, func() { x.uprooting = false })
	plant("1 with topics, are gone", func() { delete(s.sets, x.key) }, func() { s.sets[x.key] = x })
	plant("is a member of a set", func() { g.at++ }, func() { g.at-- })
	plant("3 members, 2 of them know", func() { x.members.Enter(c) }, func() { s.receivers.Exit(&x.members, 2, false) })
	ref := fanout.Ref[*client]{Set: &x.members, Options: topic.Options}
	plant("2 topics, 3 planted", func() { s.receivers.Attach(topic.ID, ref) },
		func() { s.receivers.Detach(topic.ID, &x.members) })
	plant("sorted false", func() { x.topics[0], x.topics[1] = x.topics[1], x.topics[0] },
		func() { x.topics[0], x.topics[1] = x.topics[1], x.topics[0] })
	plant("the sums are", func() { s.totals.Queued++ }, func() { s.totals.Queued-- })
	plant("durable subscribers", func() { j.Enter(topic.ID) }, func() { j.Leave(topic.ID) })
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
	s.checkInvariants(true)
	return ""
}

func (s *shard) mustHold(when string) {
	if got := s.faults(); got != "" {
		panic(when + ": " + got)
	}
}
