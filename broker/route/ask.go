package route

import (
	"math/bits"
	"slices"

	"noctule/topictree"
)

// Far is filters that another loop has subscribers of.
type Far struct {
	Loop int
	IDs  []topictree.FilterID
}

// Count counts who gets what is published on a topic: the subscriptions of this loop, and shared ones, which
// are one each. Whom the others' filters bring it, their loops know (Sizes).
func (r *Router[C]) Count(topic []byte) (here int, far []Far) {
	r.Index.Match(topic, &r.matches)
	defer r.matches.Trim()
	each := make([]Far, len(r.all.list))
	for i := range r.matches.Hits {
		h := &r.matches.Hits[i]
		if h.Shared {
			here++
			continue
		}
		for left := h.Loops; left != 0; left &= left - 1 {
			i := bits.TrailingZeros64(left)
			each[i].Loop, each[i].IDs = i, append(each[i].IDs, h.ID)
		}
	}
	here += r.Sizes(each[r.Number].IDs)
	return here, slices.DeleteFunc(each, func(f Far) bool { return f.Loop == r.Number || len(f.IDs) == 0 })
}

// Sizes counts this loop's subscriptions of some filters.
func (r *Router[C]) Sizes(ids []topictree.FilterID) (n int) {
	for _, id := range ids {
		n += r.Table.Size(id)
	}
	return n
}

// ForDurable reports whether a durable session, of whatever loop, may have a subscription that matches. It
// takes that for granted where the search would be too long for a turn. There is a store.
func (r *Router[C]) ForDurable(topic []byte) bool {
	r.Index.Start(topic, &r.matches)
	defer r.matches.Trim()
	if !r.Index.More(topic, &r.matches, steps) {
		return true
	}
	return slices.ContainsFunc(r.matches.Hits, func(h topictree.Hit) bool {
		return r.Journal.Routes.Of(h.ID) != 0
	})
}

// Passages is how many messages to very many filters have come to their end, a number that may wrap, and how
// many are under way.
func (r *Router[C]) Passages() (over uint32, underWay int) { return r.passed, r.passages.Len() }

// Searches is the number of messages for which subscriptions are still looked for.
func (r *Router[C]) Searches() (n int) {
	for i := range r.passages.Len() {
		if (*r.passages.At(i)).walk != nil {
			n++
		}
	}
	return n
}
