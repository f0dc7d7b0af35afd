package view

import (
	"iter"

	"noctule/broker/fanout"
	"noctule/codec"
	"noctule/topictree"
)

// SharesOf makes a cursor of the shared subscriptions that the loops deal; at is those of one.
func SharesOf[C comparable](p *Pages, at func(loop int) *fanout.Shares[C]) *Cursor[Share] {
	all := func(loop int) iter.Seq[topictree.FilterID] { return at(loop).All() }
	return OfTables(p, all, func(loop int, id topictree.FilterID) (Share, bool) {
		g := at(loop).Group(id)
		if g == nil {
			return Share{}, false
		}
		group, filter, ok := codec.SplitShare([]byte(id.Filter()))
		return Share{Group: string(group), Filter: string(filter), Members: g.Len()}, ok
	})
}

// MembersOf makes a cursor of the names of a shared subscription's members, in the order in which they are
// dealt to, by the loop that deals. of looks the subscription up, on the loop.
func MembersOf[C comparable](
	p *Pages, loop int, shares *fanout.Shares[C], of func() (topictree.FilterID, bool), name func(c C) string,
) *Cursor[string] {
	at := 0
	return OfLoop(p, loop, func(page []string, limit int) ([]string, bool) {
		id, ok := of()
		if !ok || shares.Group(id) == nil {
			return page, true
		}
		g := shares.Group(id)
		for _, m := range g.Page(at, limit) {
			page = append(page, name(m.C))
			at++
		}
		return page, at >= g.Len()
	})
}
