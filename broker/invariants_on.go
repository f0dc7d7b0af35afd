//go:build invariants

package broker

import (
	"fmt"

	"noctule/broker/fanout"
	"noctule/broker/session"
	"noctule/topictree"
)

// smallLoop is how many sessions, filters and sets a loop has at most that is checked each turn.
const smallLoop = 64

// checkInvariants holds the loop against what must be so at the end of a turn, small loops each turn and,
// with all, large ones too.
func checkInvariants(s *shard, all bool) {
	if !all && len(s.sessions)+s.receivers.Len()+int(s.grants.Count().Sets) > smallLoop {
		return
	}
	for _, check := range []func() error{
		s.faultOfSums, s.router.Check, s.faultOfReceivers, s.faultOfGates, s.faultOfMembers,
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

// subscribers are all who have subscriptions: the sessions, and those that have ended and are taken out in
// pieces.
func (s *shard) subscribers(yield func(cl *client) bool) {
	for _, cl := range s.sessions {
		if !yield(cl) {
			return
		}
	}
	for i := range s.leaving.Len() {
		if !yield(*s.leaving.At(i)) {
			return
		}
	}
}

// faultOfReceivers: whoever has subscribed to a filter is at its place among the receivers, and nobody
// else is; and so are the sets that servers have given.
func (s *shard) faultOfReceivers() error {
	planted := map[*fanout.Set[*client]]int{}
	places, err := s.receivers.Check(planted)
	if err != nil {
		return err
	}
	census := s.grants.Census()
	for cl := range s.subscribers {
		if err := census.Add(cl); err != nil {
			return err
		}
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
		for range cl.grants().Shares {
			shares++
		}
		if shares != int(cl.shared) {
			return fmt.Errorf("%s has %d shared subscriptions, %d counted", cl.id, shares, cl.shared)
		}
	}
	if places != 0 {
		return fmt.Errorf("%d places more than subscriptions", places)
	}
	return census.Fault(planted)
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
	for cl := range s.subscribers {
		if !cl.Durable() {
			continue
		}
		for i := range cl.subs {
			want[cl.subs[i].id]++
		}
		for m := range cl.grants().Shares {
			want[m.ID]++
		}
	}
	s.grants.Durable(want)
	return j.CheckMembers(want)
}
