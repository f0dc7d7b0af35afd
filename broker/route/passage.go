package route

import (
	"bytes"
	"math/bits"
	"slices"

	"noctule/broker/fanout"
	"noctule/broker/mail"
	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/topictree"
	"noctule/wsnet"
)

// A message may match very many filters: of one client, of many, or shared subscriptions. What one turn
// does for it is bounded as with a large crowd: a slice at once, and the rest in later turns, with other
// work in between. All such messages of a loop go through one queue, a slice a turn. Meanwhile the
// connection that the message came by is not read, so that nothing of it overtakes and nobody has two
// messages in the queue; messages of others on the same topic go behind. What waits is the filters, 8 bytes
// each.
//
// The search goes in slices too. What it has not found yet cannot be owed by filter (package durable), so a
// loop that goes on in a later turn owes the message to its topic: after a crash it is passed on anew to all
// whose subscriptions match. Where clients are to have one copy nobody gets it before all filters are known;
// other loops get theirs together at the end.

// manyFrom is the number of filters from which the work for a message is counted.
const manyFrom = 128

// passage is one message on its way to this loop's subscribers of many filters.
type passage[C Receiver[C]] struct {
	m      *message.Message
	walk   *topictree.Matches // the search under way, and hits from next on to be served; nil: all are in ids
	next   int
	ids    []topictree.FilterID
	shares []topictree.FilterID // to be dealt by this loop
	owed   []topictree.FilterID // of these, in their order, the store has a transit

	durable uint64 // loops with durable subscribers of what the search has found
	routing bool   // the store has a transit by topic

	once   bool           // one copy to MQTT 3 clients, when all filters have been looked at
	behind fanout.Barrier // of the filter that is picked next: its jobs under way come first
	picked picks[C]
	far    [][]topictree.FilterID // what the search has found for other loops, by loop

	release func()     // lets the publisher go on; nil: nobody waits
	from    *Router[C] // whose messages have cost here until it is over; nil: this loop's own
	debt    *mail.Debt // of from to this loop
	cost    int64
}

// manyCost is what a filter of a passage costs in a loop's debt.
const manyCost = 16

// steps is how many nodes of the index one turn looks at for one message.
const steps = 4096

// publishMany routes a message that matches many filters, or whose topic has a passage under way. The
// search has begun in r.matches.
func (r *Router[C]) publishMany(m *message.Message) {
	walk := &topictree.Matches{}
	*walk, r.matches = r.matches, topictree.Matches{}
	if r.startPassage(&passage[C]{walk: walk, once: r.Once}, m) {
		r.matches = *walk
		r.matches.Trim()
	}
}

// mailMany takes the filters of a passage to another loop.
func (r *Router[C]) mailMany(m *message.Message, p *passage[C], loop int) {
	b := r.box(loop)
	e := r.enclose(b, m)
	many := &passage[C]{ids: p.ids, shares: p.shares, once: p.once, cost: manyCost * int64(p.len())}
	e.Order.many = many
	b.Costs(many.cost)
	switch {
	case r.Journal == nil || m.QoS == 0:
	case !p.once:
		r.oweMany(m, p, loop, func(id topictree.FilterID) { b.Owe(e, id) })
	case p.durable&(1<<loop) != 0:
		many.routing = true
		r.Journal.OweTopic(m, loop)
	}
}

func (p *passage[C]) len() int { return len(p.ids) + len(p.shares) }

// oweMany owes what is in a passage, in the order in which it is served.
func (r *Router[C]) oweMany(m *message.Message, p *passage[C], loop int, owed func(topictree.FilterID)) {
	for _, id := range p.ids {
		if r.Journal.Owe(m, id, loop) {
			owed(id)
		}
	}
	for _, id := range p.shares {
		if r.Journal.OweShared(m, id, loop) {
			owed(id)
		}
	}
}

// startPassage serves a slice at once, unless others are under way, and queues the rest; over says that
// there is none. r.Live holds m.
func (r *Router[C]) startPassage(p *passage[C], m *message.Message) (over bool) {
	p.m = m
	if r.passages.Len() == 0 && r.serveMany(p) {
		r.endPassage(p)
		return true
	}
	p.m = m.Keep()
	if p.from == nil && r.mustOwe(p) {
		p.routing = true
		r.Journal.OweTopic(p.m, store.AllLoops)
	}
	if p.from == nil {
		p.release = r.Hold()
	}
	r.passages.Push(p)
	r.begin()
	if r.passages.Len() == 1 {
		r.Loop.Again(passageTask[C]{r})
	}
	return false
}

// mustOwe reports whether a passage that has begun and is not over may be for durable sessions.
func (r *Router[C]) mustOwe(p *passage[C]) bool {
	if r.Journal == nil || p.m.QoS == 0 {
		return false
	}
	if p.durable != 0 || p.walk != nil && !r.Index.More(p.m.Topic, p.walk, 0) {
		return true
	}
	return p.walk != nil && slices.ContainsFunc(p.walk.Hits[p.next:], func(h topictree.Hit) bool {
		return r.Journal.Routes.Of(h.ID) != 0
	})
}

// passageTask serves the next slice of the oldest passage.
type passageTask[C Receiver[C]] struct{ r *Router[C] }

// Run implements wsnet.Task.
func (t passageTask[C]) Run(*wsnet.Loop) {
	r := t.r
	p := *r.passages.At(0)
	r.Live.Reset(p.m, r.Loop.Now())
	over := r.serveMany(p)
	r.Live.Release()
	if over {
		r.passages.Pop()
		r.passed++
		r.endPassage(p)
		r.end()
	}
	if r.passages.Len() > 0 {
		r.Loop.Again(t)
	}
}

// endPassage lets those go on that have waited for it.
func (r *Router[C]) endPassage(p *passage[C]) {
	if p.from != nil {
		r.settleDebt(p.from, p.debt, p.cost)
	}
	if p.release != nil {
		p.release()
	}
}

// serveMany serves one slice of a passage; true when it was the last. r.Live holds its message.
func (r *Router[C]) serveMany(p *passage[C]) bool {
	left := r.Slice
	if p.walk != nil {
		var over bool
		if left, over = r.serveWalk(p); !over {
			return false
		}
		p.walk = nil
	}
	for len(p.ids) > 0 {
		if left <= 0 {
			return false
		}
		id := p.ids[0]
		if p.once && !r.Table.Passed(id, &p.behind) {
			return false
		}
		p.ids = p.ids[1:]
		left -= r.weight(id, p.once)
		if p.once {
			if p.picked.at == nil {
				p.picked.at = make(map[C]int)
			}
			r.pickFor(&p.picked, id, p.m)
		} else {
			r.settleMany(p, id, r.fanOut(id, p.m, p.owes(id)))
		}
	}
	for len(p.shares) > 0 {
		if left <= 0 {
			return false
		}
		id := p.shares[0]
		left -= 1 + r.dealWeight(id)
		p.shares = p.shares[1:]
		r.dealHere(id, p.m)
		r.settleMany(p, id, false)
	}
	list := p.picked.list
	n := min(max(left, 1), len(list))
	for _, mb := range list[:n] {
		mb.C.Take(mb, p.m)
	}
	if p.picked.list = list[n:]; n < len(list) {
		return false
	}
	if p.once {
		for _, id := range p.owed {
			r.Journal.Paid(p.m, id)
		}
		p.owed = nil
	}
	if p.routing {
		loop := store.AllLoops
		if p.from != nil {
			loop = r.Number
		}
		r.Journal.PaidTopic(p.m, loop)
	}
	return true
}

// serveWalk serves one slice of what is being searched, and reports how much of the slice is left and whether
// that was all. What other loops have to do goes to them at its end.
func (r *Router[C]) serveWalk(p *passage[C]) (left int, over bool) {
	loops := make([]passage[C], len(r.all.list))
	searched := false
	for left = r.Slice; left > 0 && !over; {
		if p.next == len(p.walk.Hits) {
			if p.walk.Hits, p.next = p.walk.Hits[:0], 0; searched {
				break
			}
			searched = true
			over = r.Index.More(p.m.Topic, p.walk, steps) && len(p.walk.Hits) == 0
			continue
		}
		h := &p.walk.Hits[p.next]
		p.next++
		left -= r.serveHit(p, h, loops)
	}
	for i := range loops {
		if loops[i].len() > 0 {
			r.mailMany(p.m, &loops[i], i)
		}
	}
	if over {
		for i, ids := range p.far {
			if len(ids) > 0 {
				r.mailMany(p.m, &passage[C]{ids: ids, once: true, durable: p.durable}, i)
			}
		}
	}
	return left, over
}

// serveHit serves this loop's part of one hit and notes that of others. It returns its weight.
func (r *Router[C]) serveHit(p *passage[C], h *topictree.Hit, loops []passage[C]) int {
	if r.Journal != nil && p.m.QoS > 0 {
		p.durable |= r.Journal.Routes.Of(h.ID)
	}
	own := uint64(1) << r.Number
	weight := 1
	switch {
	case h.Loops&own == 0:
	case h.Shared:
		weight += r.dealWeight(h.ID)
		r.dealBy(p.m, h.ID, r.Number)
	case p.once:
		p.ids = append(p.ids, h.ID)
	default:
		weight = r.weight(h.ID, false)
		r.fanOut(h.ID, p.m, false)
	}
	for left := h.Loops &^ own; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		switch {
		case h.Shared:
			loops[i].shares = append(loops[i].shares, h.ID)
		case p.once:
			if p.far == nil {
				p.far = make([][]topictree.FilterID, len(loops))
			}
			p.far[i] = append(p.far[i], h.ID)
		default:
			loops[i].ids = append(loops[i].ids, h.ID)
		}
	}
	return weight
}

// dealWeight is what looking for a member costs; most are passed over quickly.
func (r *Router[C]) dealWeight(id topictree.FilterID) int {
	if g := r.Shares.Group(id); g != nil {
		return g.Len() / 16
	}
	return 0
}

// weight is how many members a filter is for, of those that are served within this turn: all if they are
// only picked, none of a crowd that is served in slices of its own.
func (r *Router[C]) weight(id topictree.FilterID, pick bool) int {
	n := max(1, r.Table.Size(id))
	if n > r.Slice && !pick {
		return 1
	}
	return n
}

// owes reports whether the store has a transit for the filter that is served now.
func (p *passage[C]) owes(id topictree.FilterID) bool { return len(p.owed) > 0 && p.owed[0] == id }

// settleMany pays for a filter, unless a crowd's slices do.
func (r *Router[C]) settleMany(p *passage[C], id topictree.FilterID, later bool) {
	if !p.owes(id) {
		return
	}
	p.owed = p.owed[1:]
	if !later {
		r.Journal.Paid(p.m, id)
	}
}

// behindPassage reports whether a message of the same topic is under way.
func (r *Router[C]) behindPassage(topic []byte) bool {
	for i := range r.passages.Len() {
		if bytes.Equal((*r.passages.At(i)).m.Topic, topic) {
			return true
		}
	}
	return false
}
