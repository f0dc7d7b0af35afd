package grants

import (
	"fmt"
	"slices"
	"strings"

	"noctule/broker/fanout"
	"noctule/broker/retained"
	"noctule/topictree"
)

// Census counts what sessions have, to hold it against what a table says: for tests, and builds with the tag
// invariants.
type Census[C Client[C]] struct {
	t                     *Table[C]
	grants, members, pins map[*set[C]]int
}

// Census begins to count. One is under way at a time, whose memory is kept.
func (t *Table[C]) Census() *Census[C] {
	t.loop.MustBeHere()
	x := t.census
	if x == nil {
		x = &Census[C]{t: t, grants: map[*set[C]]int{}, members: map[*set[C]]int{}, pins: map[*set[C]]int{}}
		t.census = x
	}
	clear(x.grants)
	clear(x.members)
	clear(x.pins)
	return x
}

// Add counts what a session has. The error says that it is not at its place in a set.
func (x *Census[C]) Add(c C) error {
	for g := c.Given(false).head(); g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		if x.grants[g.set]++; !g.member {
			continue
		}
		m := &g.set.members
		if x.members[g.set]++; int(g.at) >= m.Len() || m.At(int(g.at)) != c {
			return fmt.Errorf("%s is a member of a set at %d, which is not its place", c.About().ID, g.at)
		}
	}
	return nil
}

// ends holds that the sets that sessions have, and in which something ends, are in the heap once.
func (x *Census[C]) ends() error {
	e, n := &x.t.ends, 0
	for _, st := range x.t.sets {
		if st.ending == nil {
			continue
		}
		at := st.ending.at
		due := st.grants > 0 && !st.ending.busy
		if in := at >= 0; in != due || in && (at >= e.Len() || e.sets[at] != st) {
			const form = "set: %d grants, busy %v, at %d of %d that end"
			return fmt.Errorf(form, st.grants, st.ending.busy, at, e.Len())
		}
		if at >= 0 {
			n++
		}
	}
	if n != e.Len() {
		return fmt.Errorf("%d sets that end, %d known", e.Len(), n)
	}
	return nil
}

// Fault is what does not hold, once all sessions have been counted that have been given something: references
// of sets balance, who holds one is counted, each member is at its place once, and each topic that is planted
// has the set among its receivers. planted is what fanout.Table.Check has counted.
func (x *Census[C]) Fault(planted map[*fanout.Set[C]]int) error {
	for _, st := range x.t.loose {
		x.pins[st]++
	}
	for _, p := range x.t.waiting.byTime {
		if p.set != nil {
			x.pins[p.set]++
		}
	}
	for _, st := range x.t.sets {
		if err := st.check(x.grants[st], x.members[st], x.pins[st], planted[&st.members]); err != nil {
			return err
		}
		delete(x.grants, st)
		delete(planted, &st.members)
	}
	if len(x.grants)+len(planted) > 0 {
		return fmt.Errorf("%d sets with grants, and %d with topics, are gone", len(x.grants), len(planted))
	}
	return x.ends()
}

// check compares a set with the grants of it, its members, the pins that are known and the filters that have
// it.
func (x *set[C]) check(grants, members, pins, planted int) error {
	n, err := x.members.Check()
	if err != nil {
		return err
	}
	sorted := slices.IsSortedFunc(x.topics, func(a, b retained.Topic) int {
		return strings.Compare(a.ID.Filter(), b.ID.Filter())
	})
	switch {
	case x.grants != grants || x.pins < pins:
		return fmt.Errorf("set: %d grants, %d counted; %d pins or more, %d counted",
			grants, x.grants, pins, x.pins)
	case (x.grants+x.pins == 0) != x.uprooting:
		return fmt.Errorf("set: %d grants, %d pins, uprooting %v", x.grants, x.pins, x.uprooting)
	case n != members:
		return fmt.Errorf("set: %d members, %d of them know", n, members)
	case len(x.topics) != planted || !sorted:
		return fmt.Errorf("set: %d topics, %d planted, sorted %v", len(x.topics), planted, sorted)
	}
	return nil
}

// Durable counts into filters those of lists that durable sessions have, see durable.Journal.CheckMembers.
func (t *Table[C]) Durable(filters map[topictree.FilterID]int) {
	for _, x := range t.sets {
		if x.kept.routed {
			for i := range x.topics {
				filters[x.topics[i].ID]++
			}
		}
	}
}
