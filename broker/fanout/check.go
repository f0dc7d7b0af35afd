package fanout

import (
	"fmt"

	"noctule/topictree"
)

// Check counts who has subscribed, members of sets not among them, and into sets how many filters each set
// has. The error is what of the table's invariants does not hold: a filter is in only or in crowds, places
// of those who have left are there while a job is, and nothing is kept that is empty. It walks through
// everything: for tests, and builds with the tag invariants.
func (t *Table[C]) Check(sets map[*Set[C]]int) (subscribers int, err error) {
	n := len(t.only)
	var nobody C
	for id, c := range t.only {
		if c == nobody || t.crowds[id] != nil {
			return n, fmt.Errorf("fanout: %q has an only subscriber, and a crowd or nobody", id.Filter())
		}
	}
	for id, cr := range t.crowds {
		left, empty := 0, len(cr.list) == 0 && cr.more == nil
		for _, mb := range cr.list {
			if mb.C == nobody {
				left++
			}
		}
		n += len(cr.list) - left
		if x := cr.more; x != nil {
			empty = len(x.sets)+len(x.taps) == 0
			for i := range x.sets {
				sets[x.sets[i].Set]++
			}
		}
		if left != int(cr.left) || cr.jobs.Len() == 0 && (left > 0 || empty) {
			return n, fmt.Errorf("fanout: crowd of %q has %d places, %d left, %d counted, %d jobs, empty %v",
				id.Filter(), len(cr.list), left, cr.left, cr.jobs.Len(), empty)
		}
	}
	return n, nil
}

// Has reports whether a receiver has subscribed to a filter itself and has this place.
func (t *Table[C]) Has(id topictree.FilterID, at int, c C) bool {
	if cr := t.crowds[id]; cr != nil {
		return at < len(cr.list) && cr.list[at].C == c
	}
	one, ok := t.only[id]
	return ok && one == c && at == 0
}

// Check counts the members and is what of the set's invariants does not hold.
func (x *Set[C]) Check() (members int, err error) {
	left := 0
	var nobody C
	for _, c := range x.members {
		if c == nobody {
			left++
		}
	}
	if left != x.left || x.busy < 0 || x.busy == 0 && left+len(x.moved) > 0 {
		err = fmt.Errorf("fanout: set has %d places, %d left, %d counted, %d moved, %d jobs",
			len(x.members), left, x.left, len(x.moved), x.busy)
	}
	return len(x.members) - left, err
}
