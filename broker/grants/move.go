package grants

import (
	"context"
	"errors"

	"noctule/broker/behalf"
	"noctule/codec/im"
)

// moveStep is how many members change their set at a time.
const moveStep = 256

// Move edits a set: all sessions whose list of an origin is from, connected or not, get the list to instead,
// as if each had been asked for. It returns their number when that is in effect on all loops. A session whose
// rights or listener made another list of from is left as it is.
func (d *Doors[C]) Move(ctx context.Context, o *behalf.Origin, from, to *behalf.Set) (moved int, err error) {
	if d.tables[0].journal.Failing() {
		return 0, errNotKept
	}
	for _, t := range d.tables {
		next := t.hold(ctx, to, o.Bypass)
		if next == nil && to.Len() > 0 {
			return moved, behalf.ErrNoAnswer
		}
		m := &moving[C]{
			t: t, origin: o, key: setKey{from.Key(), o.Bypass}, from: from, to: next, topics: to, at: -1,
		}
		for more := true; more; {
			n := 0
			if !t.on(ctx, func() { n, more = m.step() }) {
				t.letGo(next)
				return moved, behalf.ErrNoAnswer
			}
			moved += n
		}
		t.letGo(next)
	}
	for _, t := range d.tables {
		if !t.durably(ctx) {
			return moved, behalf.ErrNoAnswer
		}
	}
	return moved, nil
}

// moving is the edit of a set on one loop.
type moving[C Client[C]] struct {
	t      *Table[C]
	origin *behalf.Origin
	key    setKey
	to     *set[C]
	from   *behalf.Set
	topics *behalf.Set // that to is made of
	at     int         // place of the next member, from the end; -1: at the beginning
}

// step moves some members; more says that it has not come to the end.
func (m *moving[C]) step() (n int, more bool) {
	x := m.t.sets[m.key]
	if x == nil || x == m.to || x.uprooting {
		return 0, false
	}
	if m.at < 0 || m.at >= x.members.Len() {
		m.at = x.members.Len() - 1
	}
	x.pins++ // its last member may leave
	var nobody C
	for left := moveStep; m.at >= 0 && left > 0; left-- {
		c := x.members.At(m.at)
		m.at--
		if c == nobody {
			continue
		}
		g := c.Given(false).of(m.origin.Name)
		if g == nil || g.set != x || c.About().Mount != "" { // from is without mount point
			continue
		}
		m.t.regrant(c, m.origin, m.fit(c), nil, false)
		m.t.host.Changed(c)
		n++
	}
	m.t.unpinLoose()
	m.t.unpin(x)
	return n, m.at >= 0
}

// fit is the set that one member gets.
func (m *moving[C]) fit(c C) *set[C] {
	terms := m.t.terms(c, m.origin)
	plan := behalf.NewPlan(m.from, im.Replace, m.topics, &terms)
	if plan.Want == m.topics {
		return m.to
	}
	m.t.tellCut(c, m.origin, &plan)
	return m.t.ready(plan.Want, m.origin.Bypass)
}

var errNotKept = errors.New("grants: persistent state cannot be written")
