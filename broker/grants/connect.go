package grants

import (
	"context"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
)

// Pinned is a set on the home loop of a session that connects.
type Pinned[C comparable] struct {
	origin *behalf.Origin
	set    *set[C]
	keep   bool
	late   func() // see behalf.Grant
}

// Drop lets go of the sets of a CONNECT that came to nothing, from any goroutine.
func (d *Doors[C]) Drop(loop int, list []Pinned[C]) {
	if len(list) > 0 {
		d.loops.Post(loop, func() { d.tables[loop].Unpin(list) }) // bounded by those who are asked about
	}
}

// Unpin lets go of the sets of a CONNECT that came to nothing.
func (t *Table[C]) Unpin(list []Pinned[C]) {
	for i := range list {
		if x := list[i].set; x != nil {
			t.unpin(x)
		}
	}
}

// Admit gives a client that connects what others have subscribed it to, before CONNACK.
func (t *Table[C]) Admit(c C, list []Pinned[C]) {
	t.loop.MustBeHere()
	t.takePending(c)
	for g := c.Given(false).head(); g != nil; g = g.next {
		if g.origin.Unsubscribe == behalf.Sticky && g.extra != nil && len(g.extra.muted) > 0 {
			t.unmute(c, g)
		}
		if g.origin.PerConnect && !listed(list, g.origin.Name) {
			t.regrant(c, g.origin, nil, nil, false)
		}
	}
	for i := range list {
		p := &list[i]
		if !p.keep && (p.set != nil || c.Given(false).of(p.origin.Name) != nil) {
			t.regrant(c, p.origin, t.fit(c, p.origin, p.set), nil, false)
		}
		t.expect(c, p)
	}
	t.Unpin(list)
	t.unpinLoose()
}

// expect notes whether the list of an origin is still to come, and has it asked for.
func (t *Table[C]) expect(c C, p *Pinned[C]) {
	g := c.Given(false).of(p.origin.Name)
	if p.late == nil {
		if g != nil {
			g.late = false
		}
		return
	}
	if g == nil {
		g = t.newGrant(c, p.origin)
	}
	if g != nil {
		g.late = true
	}
	p.late()
}

func listed[C comparable](list []Pinned[C], origin string) bool {
	for i := range list {
		if list[i].origin.Name == origin {
			return true
		}
	}
	return false
}

// fit is the part of a set that a client has room for, where it takes the place of what the client has of an
// origin; the client's rights and listener have made the set already.
func (t *Table[C]) fit(c C, o *behalf.Origin, x *set[C]) *set[C] {
	terms := behalf.Terms{Room: t.terms(c, o).Room, MaxQoS: 2}
	if terms.Room < 0 || x.len() <= terms.Room {
		return x
	}
	want := x.contents()
	plan := behalf.NewPlan(c.Given(false).of(o.Name).contents(), im.Replace, want, &terms)
	if plan.Want == want {
		return x
	}
	t.tellCut(c, o, &plan)
	return t.ready(plan.Want, o.Bypass)
}

// tellCut logs that a client has no room for all of a list.
func (t *Table[C]) tellCut(c C, o *behalf.Origin, plan *behalf.Plan) {
	cut := 0
	for _, why := range plan.Refused {
		if why == codec.QuotaExceeded {
			cut++
		}
	}
	if n := plan.Want.Len(); cut > 0 {
		t.warn("Client %s gets %d of %d topics of %s: it has too many.", c.About().ID, n, n+cut, o.Name)
	}
}

// Plant makes the sets of a CONNECT ready on the loop of its session, which may not be there yet. What it
// returns is for Admit, or else for Drop; with false ctx has ended, and the CONNECT cannot go on.
func (d *Doors[C]) Plant(
	ctx context.Context,
	loop int,
	list []behalf.Grant,
	b Bounds,
) (all []Pinned[C], ok bool) {
	t := d.tables[loop]
	for i := range list {
		g := &list[i]
		p := Pinned[C]{origin: g.Origin, keep: g.Keep, late: g.Late}
		if !g.Keep && g.Topics.Len() > 0 {
			terms := b.terms(g.Origin)
			plan := behalf.NewPlan(nil, im.Replace, g.Topics, &terms)
			if g.Refused != nil && len(plan.Refused) > 0 {
				g.Refused(plan.Refused)
			}
			want := plan.Want
			if p.set = t.hold(ctx, want, g.Origin.Bypass); p.set == nil && want.Len() > 0 {
				return all, false
			}
		}
		all = append(all, p)
	}
	return all, true
}
