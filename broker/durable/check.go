package durable

import (
	"errors"
	"fmt"
	"maps"

	"noctule/topictree"
)

// Check holds the journal against what must be so between two turns: posts go up in what waits for them.
func (j *Journal) Check() error {
	if j.reached > j.posted {
		return fmt.Errorf("post %d is durable, the last was %d", j.reached, j.posted)
	}
	return errors.Join(
		j.ascending("waiting", len(j.waiting), func(i int) uint64 { return j.waiting[i].post }),
		j.ascending("told", len(j.told), func(i int) uint64 { return j.told[i].post }),
	)
}

func (j *Journal) ascending(what string, n int, post func(i int) uint64) error {
	for i := range n {
		if i > 0 && post(i) < post(i-1) || post(i) > j.posted+1 {
			return fmt.Errorf("%s: %d of %d waits for post %d of %d", what, i, n, post(i), j.posted)
		}
	}
	return nil
}

// CheckGate does so with a gate that holds something: its parts are all of it, and none could have left.
func (j *Journal) CheckGate(g *Gate) error {
	if err := j.ascending("parts", len(g.parts), func(i int) uint64 { return g.parts[i].post }); err != nil {
		return err
	}
	end := g.from
	for _, p := range g.parts {
		if p.end < end || p.post <= j.reached {
			return fmt.Errorf("part up to %d behind %d for post %d, %d is durable",
				p.end, end, p.post, j.reached)
		}
		end = p.end
	}
	if len(g.parts) == 0 || end != len(g.buf) {
		return fmt.Errorf("%d parts up to %d of %d", len(g.parts), end, len(g.buf))
	}
	return nil
}

// CheckMembers compares the filters of durable subscribers with those that were entered.
func (j *Journal) CheckMembers(want map[topictree.FilterID]int) error {
	if !maps.Equal(j.members, want) {
		return fmt.Errorf("durable subscribers are of %d filters, of %d counted", len(want), len(j.members))
	}
	return nil
}
