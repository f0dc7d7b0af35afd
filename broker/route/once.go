package route

import (
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/topictree"
)

// Where clients are to get one copy, receivers are picked by all filters of a message first: a client of
// MQTT 3 with overlapping subscriptions gets it once, at the highest QoS of them [MQTT-3.3.5-1]. Each loop
// does so for its own; shared subscriptions stay apart.

// picks are members that a message has come to.
type picks[C comparable] struct {
	list []fanout.Member[C]
	at   map[C]int // where they are in list, if it is picked in several turns; else nil
}

// add adds a member; one that is to get one copy is there once.
func (p *picks[C]) add(mb fanout.Member[C], once *uint32) {
	if once == nil {
		p.list = append(p.list, mb)
		return
	}
	at := int(*once)
	if p.at != nil {
		n, ok := p.at[mb.C]
		if !ok {
			n = len(p.list)
			p.at[mb.C] = n
		}
		at = n
	}
	if at >= len(p.list) || p.list[at].C != mb.C {
		*once = uint32(len(p.list))
		p.list = append(p.list, mb)
		return
	}
	if x := &p.list[at]; x.Options.QoS() < mb.Options.QoS() {
		x.Options = mb.Options | x.Options&fanout.Covered // they match the same topic
	} else {
		x.Options |= mb.Options & fanout.Covered
	}
}

// pickFor adds the subscribers of one filter to p.
func (r *Router[C]) pickFor(p *picks[C], id topictree.FilterID, m *message.Message) {
	r.into = p
	r.Table.Each(id, m, r.pick)
	r.into = nil
}

// takePicked gives m to all in r.picked.
func (r *Router[C]) takePicked(m *message.Message) {
	for _, mb := range r.picked.list {
		mb.C.Take(mb, m)
	}
	clear(r.picked.list)
	r.picked.list = r.picked.list[:0]
}

// publishOnce routes a message of which clients get one copy.
func (r *Router[C]) publishOnce(m *message.Message, hits []topictree.Hit) {
	own := uint64(1) << r.Number
	for i := range hits {
		switch h := &hits[i]; {
		case h.Shared:
			r.dealHit(m, h)
		case h.Loops&own != 0:
			r.pickFor(&r.picked, h.ID, m)
		}
	}
	r.mailAll(m, hits, ^own)
	r.takePicked(m)
}

// crowded reports whether what this loop has to serve of a message that goes to each client once is too much
// for a turn, or must wait for what is under way.
func (r *Router[C]) crowded(hits []topictree.Hit) bool {
	left := r.Slice
	for i := range hits {
		if h := &hits[i]; !h.Shared && h.Loops&(1<<r.Number) != 0 && r.loads(h.ID, &left) {
			return true
		}
	}
	return false
}

// loads takes the receivers of a filter off left; true when there are too many, or some wait for their slice.
func (r *Router[C]) loads(id topictree.FilterID, left *int) bool {
	n, busy := r.Table.Load(id)
	*left -= n
	return busy || *left < 0
}
