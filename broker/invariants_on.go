//go:build invariants

package broker

import (
	"fmt"
	"slices"
	"strings"

	"noctule/broker/fanout"
	"noctule/broker/retained"
	"noctule/broker/session"
	"noctule/topictree"
)

// smallLoop is how many sessions, filters and sets a loop has at most that is checked each turn.
const smallLoop = 64

// checkInvariants holds the loop against what must be so at the end of a turn, small loops each turn and,
// with all, large ones too.
func (s *shard) checkInvariants(all bool) {
	if !all && len(s.sessions)+s.receivers.Len()+len(s.sets) > smallLoop {
		return
	}
	for _, check := range []func() error{
		s.faultOfSums, s.faultOfReceivers, s.faultOfGates, s.faultOfMembers,
	} {
		if err := check(); err != nil {
			panic(fmt.Sprintf("broker: loop %d: %v", s.index, err))
		}
	}
}

// faultOfSums compares the running sums over all sessions with the sessions, which keep their windows and
// their order.
func (s *shard) faultOfSums() error {
	var t session.Totals
	for _, cl := range s.sessions {
		if err := cl.Check(); err != nil {
			return fmt.Errorf("%s: %w", cl.id, err)
		}
		t.Queued += int64(cl.Queued())
		t.QueuedBytes += cl.QueuedBytes()
		t.AwayBytes += cl.AwayBytes()
		t.Inflight += int64(cl.Inflight())
	}
	if t != s.totals {
		return fmt.Errorf("the sums are %+v, of the sessions %+v", s.totals, t)
	}
	return nil
}

// subscribers calls f with all who have subscriptions: the sessions, and those that have ended and are taken
// out in pieces.
func (s *shard) subscribers(f func(cl *client) error) error {
	for _, cl := range s.sessions {
		if err := f(cl); err != nil {
			return err
		}
	}
	for i := range s.leaving.Len() {
		if err := f(*s.leaving.At(i)); err != nil {
			return err
		}
	}
	return nil
}

// faultOfReceivers: whoever has subscribed to a filter is at its place among the receivers, and nobody
// else is. References of sets balance: who holds one is counted, each member is at its place once, and
// each topic that is planted has the set among its receivers.
func (s *shard) faultOfReceivers() error {
	grants, members, planted := map[*set]int{}, map[*set]int{}, map[*fanout.Set[*client]]int{}
	places, err := s.receivers.Check(planted)
	if err != nil {
		return err
	}
	if err := s.subscribers(func(cl *client) error {
		shares := 0
		for i := range cl.subs {
			sub := &cl.subs[i]
			if sub.share != nil {
				shares++
				continue
			}
			places--
			if !s.receivers.Has(sub.id, int(sub.at), cl) {
				return fmt.Errorf("%s has %q at %d, which is not its place", cl.id, sub.id.Filter(), sub.at)
			}
		}
		for g := cl.grants(); g != nil; g = g.next {
			if g.extra != nil {
				shares += len(g.extra.shares)
			}
			if g.set == nil {
				continue
			}
			if grants[g.set]++; !g.member {
				continue
			}
			x := &g.set.members
			if members[g.set]++; int(g.at) >= x.Len() || x.At(int(g.at)) != cl {
				return fmt.Errorf("%s is a member of a set at %d, which is not its place", cl.id, g.at)
			}
		}
		if shares != int(cl.shared) {
			return fmt.Errorf("%s has %d shared subscriptions, %d counted", cl.id, shares, cl.shared)
		}
		return nil
	}); err != nil {
		return err
	}
	if places != 0 {
		return fmt.Errorf("%d places more than subscriptions", places)
	}
	return s.faultOfSets(grants, members, planted)
}

// faultOfSets compares the sets with the grants of them, their members, and the filters that they have.
func (s *shard) faultOfSets(grants, members map[*set]int, planted map[*fanout.Set[*client]]int) error {
	pins := map[*set]int{}
	for _, x := range s.loose {
		pins[x]++
	}
	for _, p := range s.waiting.byTime {
		if p.set != nil {
			pins[p.set]++
		}
	}
	for _, x := range s.sets {
		n, err := x.members.Check()
		if err != nil {
			return err
		}
		sorted := slices.IsSortedFunc(x.topics, func(a, b retained.Topic) int {
			return strings.Compare(a.ID.Filter(), b.ID.Filter())
		})
		switch {
		case x.grants != grants[x] || x.pins < pins[x]:
			return fmt.Errorf("set: %d grants, %d counted; %d pins or more, %d counted",
				grants[x], x.grants, pins[x], x.pins)
		case (x.grants+x.pins == 0) != x.uprooting:
			return fmt.Errorf("set: %d grants, %d pins, uprooting %v", x.grants, x.pins, x.uprooting)
		case n != members[x]:
			return fmt.Errorf("set: %d members, %d of them know", n, members[x])
		case len(x.topics) != planted[&x.members] || !sorted:
			return fmt.Errorf("set: %d topics, %d planted, sorted %v",
				len(x.topics), planted[&x.members], sorted)
		}
		delete(grants, x)
		delete(planted, &x.members)
	}
	if len(grants)+len(planted) > 0 {
		return fmt.Errorf("%d sets with grants, and %d with topics, are gone", len(grants), len(planted))
	}
	return nil
}

// faultOfGates: posts go up, in what waits for them on the loop and in each client's gate.
func (s *shard) faultOfGates() error {
	if s.journal == nil {
		return nil
	}
	if err := s.journal.Check(); err != nil {
		return err
	}
	for _, cl := range s.sessions {
		g := cl.gate()
		if g == nil {
			continue
		}
		if err := s.journal.CheckGate(g); err != nil {
			return fmt.Errorf("gate of %s: %w", cl.id, err)
		}
		if cl.conn == nil {
			return fmt.Errorf("gate of %s, which is offline", cl.id)
		}
	}
	return nil
}

// faultOfMembers: the filters of durable subscribers are counted, so that other loops owe them what they
// send here.
func (s *shard) faultOfMembers() error {
	j := s.journal
	if j == nil {
		return nil
	}
	want := map[topictree.FilterID]int{}
	_ = s.subscribers(func(cl *client) error {
		if !cl.Durable() {
			return nil
		}
		for i := range cl.subs {
			want[cl.subs[i].id]++
		}
		for g := cl.grants(); g != nil; g = g.next {
			if g.extra == nil {
				continue
			}
			for _, m := range g.extra.shares {
				want[m.ID]++
			}
		}
		return nil
	})
	for _, x := range s.sets {
		if x.kept.routed {
			for i := range x.topics {
				want[x.topics[i].ID]++
			}
		}
	}
	return j.CheckMembers(want)
}
