package fanout

import (
	"strings"
	"testing"

	"noctule/topictree"
)

// nobodyElse is a receiver for tests that look inside.
type nobodyElse struct{ Member[*nobodyElse] }

func (c *nobodyElse) Subscribed(topictree.FilterID) Member[*nobodyElse] { return c.Member }
func (*nobodyElse) Placed(topictree.FilterID, int)                      {}
func (*nobodyElse) PlacedIn(*Set[*nobodyElse], int)                     {}

// TestCheckSees breaks a table in many ways, each of which Check must find.
func TestCheckSees(t *testing.T) {
	index := topictree.New(topictree.Options{})
	table := New[*nobodyElse](index, 0, 10)
	add := func(filter string) topictree.FilterID {
		id, err := index.Add([]byte(filter), 0)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	c, x := &nobodyElse{}, &Set[*nobodyElse]{}
	c.C = c
	one, two, shared, unused := add("one"), add("two"), add("shared"), add("unused")
	table.Join(one, c.Member)
	table.Join(two, c.Member)
	table.Join(two, c.Member)
	table.Attach(shared, Ref[*nobodyElse]{Set: x})
	x.Enter(c)
	sets := map[*Set[*nobodyElse]]int{}
	crowd, empty := table.crowds[two], table.crowds[shared]
	for name, p := range map[string]struct{ do, undo func() }{
		"both":   {func() { table.crowds[one] = crowd }, func() { delete(table.crowds, one) }},
		"nobody": {func() { table.only[one] = nil }, func() { table.only[one] = c }},
		"left":   {func() { crowd.left = 1 }, func() { crowd.left = 0 }},
		"gap":    {func() { crowd.list[0].C, crowd.left = nil, 1 }, func() { crowd.list[0].C, crowd.left = c, 0 }},
	} {
		p.do()
		clear(sets)
		if _, err := table.Check(sets); err == nil {
			t.Errorf("%s: not found", name)
		}
		p.undo()
		clear(sets)
		if n, err := table.Check(sets); err != nil || n != 3 || sets[x] != 1 {
			t.Fatalf("%s, mended: %d subscribers, %v", name, n, err)
		}
	}
	refs := empty.more.sets
	empty.more.sets = nil
	if _, err := table.Check(sets); err == nil || !strings.Contains(err.Error(), "empty true") {
		t.Errorf("an empty crowd: %v", err)
	}
	empty.more.sets = refs
	if !table.Has(one, 0, c) || !table.Has(two, 1, c) || table.Has(two, 2, c) || table.Has(one, 1, c) ||
		table.Has(unused, 0, c) {
		t.Error("Has is wrong")
	}
	for name, p := range map[string]struct{ do, undo func() }{
		"left":  {func() { x.left = 1 }, func() { x.left = 0 }},
		"gap":   {func() { x.members[0], x.left = nil, 1 }, func() { x.members[0], x.left = c, 0 }},
		"jobs":  {func() { x.busy = -1 }, func() { x.busy = 0 }},
		"moved": {func() { x.moved = map[int]move[*nobodyElse]{0: {}} }, func() { x.moved = nil }},
	} {
		p.do()
		if _, err := x.Check(); err == nil {
			t.Errorf("set, %s: not found", name)
		}
		p.undo()
		if n, err := x.Check(); err != nil || n != 1 {
			t.Fatalf("set, %s, mended: %d members, %v", name, n, err)
		}
	}
}
