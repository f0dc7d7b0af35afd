package grants

import (
	"maps"
	"slices"

	"noctule/broker/behalf"
)

// Told is what a session hears of the lists that it has been given, and how many topics they have: with more
// than tellMax they are not told one by one.
func (l *List[C]) Told() (out behalf.Listing, topics int) {
	out.Revision, topics = l.Revision(), l.Topics()
	for g := l.head(); g != nil; g = g.next {
		if g.set == nil && !g.late {
			continue
		}
		h := behalf.Holding{Origin: g.origin.Name, Revision: g.revision, Late: g.late}
		if topics <= tellMax {
			all := g.set.contents()
			h.Topics, h.Ends = all.Topics(), all.Ends()
		}
		out.Holdings = append(out.Holdings, h)
	}
	return out, topics
}

// tellMax is how many topics are told one by one.
const tellMax = 1000

// Holdings are all lists that a session has been given, with what it has unsubscribed from.
func (l *List[C]) Holdings() (list []behalf.Holding) {
	for g := l.head(); g != nil; g = g.next {
		all := g.set.contents()
		h := behalf.Holding{
			Origin: g.origin.Name, Bypass: g.origin.Bypass, Revision: g.revision,
			Topics: all.Topics(), Ends: all.Ends(), Late: g.late,
		}
		if g.extra != nil {
			h.Muted = slices.Collect(maps.Keys(g.extra.muted))
		}
		list = append(list, h)
	}
	return list
}
