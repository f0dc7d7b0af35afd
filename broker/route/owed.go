package route

import (
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/topictree"
)

// After a crash what loops owed each other is paid: a message that some receivers of a filter, or of all
// filters that match, have not had.

// Repay gives m to the receivers of this loop that a filter brings it to, or, with "", one copy each to those
// that its topic brings it to, at the highest QoS of their subscriptions. Those who have had it, or were not
// owed it, are not owed. Shared subscriptions are not among it: they are dealt again.
func (r *Router[C]) Repay(m *message.Message, filter string, owed func(c C) bool) {
	r.Live.Reset(m, r.Loop.Now())
	defer r.Live.Release()
	if filter != "" {
		if id, ok := r.Index.Lookup([]byte(filter)); ok {
			r.owners(id, m, func(mb fanout.Member[C]) { repay(mb, m, owed) })
		}
		return
	}
	var found topictree.Matches
	r.Index.Match(m.Topic, &found)
	best := map[C]fanout.Member[C]{}
	for i := range found.Hits {
		if found.Hits[i].Shared {
			continue
		}
		r.owners(found.Hits[i].ID, m, func(mb fanout.Member[C]) {
			old, known := best[mb.C]
			if !known || old.Options.QoS() < mb.Options.QoS() {
				best[mb.C] = mb
			}
		})
	}
	for _, mb := range best {
		repay(mb, m, owed)
	}
}

// owners calls f for all whom a filter brings a message.
func (r *Router[C]) owners(id topictree.FilterID, m *message.Message, f func(mb fanout.Member[C])) {
	r.Table.Each(id, m, func(id topictree.FilterID, h fanout.Hit[C], m *message.Message) {
		if mb, _, ok := h.C.Picks(id, h, m); ok {
			f(mb)
		}
	})
}

func repay[C Receiver[C]](mb fanout.Member[C], m *message.Message, owed func(c C) bool) {
	if owed(mb.C) {
		mb.C.Take(mb, m)
	}
}

// SharesOf is the shared subscriptions that a topic matches.
func SharesOf(x *topictree.Index, topic []byte) (ids []topictree.FilterID) {
	var found topictree.Matches
	x.Match(topic, &found)
	for _, h := range found.Hits {
		if h.Shared {
			ids = append(ids, h.ID)
		}
	}
	return ids
}
