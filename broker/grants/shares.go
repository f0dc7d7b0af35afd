package grants

import (
	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/topictree"
)

// syncShares makes the client a member of the shared subscriptions of its grants, once each, and of no other.
func (t *Table[C]) syncShares(c C) {
	l := c.Given(false)
	for g := l.head(); g != nil; g = g.next {
		if g.extra != nil {
			t.pruneShares(c, g)
		}
	}
	for g := l.head(); g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		for i := range g.set.shares {
			t.joinShare(c, g, &g.set.shares[i])
		}
	}
}

// pruneShares leaves what a grant has no longer.
func (t *Table[C]) pruneShares(c C, g *grant[C]) {
	kept := g.extra.shares[:0]
	for _, m := range g.extra.shares {
		if g.has(m.ID.Filter()) {
			kept = append(kept, m)
			continue
		}
		t.dealers.Leave(c, m)
	}
	clear(g.extra.shares[len(kept):])
	g.extra.shares = kept
}

// joinShare joins one shared subscription, unless the client is in it already.
func (t *Table[C]) joinShare(c C, g *grant[C], p *behalf.Topic) {
	if g.muted(p.Filter) {
		return
	}
	group, name, _ := codec.SplitShare([]byte(p.Filter))
	if id, ok := t.index.LookupShared(group, name); ok {
		if c.Own(id) {
			return
		}
		if m := c.Given(true).share(id); m != nil {
			m.Options, m.SubID = optionsOf(p), p.ID
			return
		}
	}
	m, err := t.dealers.Join(c, group, name, optionsOf(p), p.ID)
	if err != nil {
		t.warn("Subscription of %s to %q refused: %v.", c.About().ID, p.Filter, err)
		return
	}
	x := g.more()
	x.shares = append(x.shares, m)
}

// LeaveShare makes room for a shared subscription of the client's own: it is not to count twice.
func (t *Table[C]) LeaveShare(c C, id topictree.FilterID) {
	t.loop.MustBeHere()
	for g := c.Given(false).head(); g != nil; g = g.next {
		if g.extra == nil {
			continue
		}
		for i, m := range g.extra.shares {
			if m.ID == id {
				last := len(g.extra.shares) - 1
				g.extra.shares[i] = g.extra.shares[last]
				g.extra.shares[last] = nil
				g.extra.shares = g.extra.shares[:last]
				t.dealers.Leave(c, m)
				break
			}
		}
	}
}

// leaveShares leaves all shared subscriptions of one grant.
func (t *Table[C]) leaveShares(c C, x *extra[C]) {
	if x == nil {
		return
	}
	for _, m := range x.shares {
		t.dealers.Leave(c, m)
	}
	x.shares = nil
}
