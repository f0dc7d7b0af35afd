package broker

import (
	"bytes"
	"math"
	"math/bits"
	"sync/atomic"

	"noctule/broker/message"
	"noctule/topictree"
	"noctule/wsnet"
)

// A message may match very many filters: of one client, of many, or shared subscriptions. What one turn
// does for it is bounded as with a large crowd: a slice at once, and the rest in later turns, with other
// work in between. All such messages of a loop go through one queue, a slice a turn. Meanwhile the
// connection that the message came by is not read, so that nothing of it overtakes and nobody has two
// messages in the queue; messages of others on the same topic go behind. What waits is the filters, 8 bytes
// each.

// manyFrom is the number of filters from which the work for a message is counted.
const manyFrom = 128

// passage is one message on its way to this loop's subscribers of many filters.
type passage struct {
	m      *message.Message
	walk   *topictree.Matches // the search under way, and hits from next on to be served; nil: all are in ids
	next   int
	ids    []topictree.FilterID
	shares []topictree.FilterID // to be dealt by this loop
	owed   []topictree.FilterID // of these, in their order, the store has a transit

	once     bool // one copy to MQTT 3 clients, when all filters have been looked at
	picked   []member
	pickedAt map[*client]int

	conn *wsnet.Conn   // not read until it is over; nil: none
	from *shard        // whose messages have cost here until it is over; nil: this loop's own
	debt *atomic.Int64 // of from to this loop
	cost int64
}

// manyCost is what a filter of a passage costs in a loop's debt.
const manyCost = 16

// manySteps is how many nodes of the index one turn looks at for one message.
const manySteps = 4096

// publishMany routes a message that matches many filters, or whose topic has a passage under way. The
// search has begun in s.matches. It is finished at once if the store must know all filters with the
// message, or if clients are to have one copy.
func (s *shard) publishMany(m *message.Message) {
	s.loop.MustBeHere()
	if s.opts.AllowDuplicates && (s.journal == nil || m.QoS == 0) {
		p := &passage{walk: &topictree.Matches{}}
		*p.walk, s.matches = s.matches, topictree.Matches{}
		if s.startPassage(p, m) {
			s.matches = *p.walk
			s.matches.Trim()
		}
		return
	}
	s.b.index.More(m.Topic, &s.matches, math.MaxInt)
	s.publishAll(m, s.matches.Hits)
	s.matches.Trim()
}

// publishAll is publishMany with all that has been found.
func (s *shard) publishAll(m *message.Message, hits []topictree.Hit) {
	var loops [maxLoops]passage
	for i := range hits {
		h := &hits[i]
		if h.Shared {
			p := &loops[bits.TrailingZeros64(h.Loops)]
			p.shares = append(p.shares, h.ID)
			continue
		}
		for left := h.Loops; left != 0; left &= left - 1 {
			p := &loops[bits.TrailingZeros64(left)]
			p.ids = append(p.ids, h.ID)
		}
	}
	for i := range s.b.shards {
		p := &loops[i]
		if i != s.index && p.len() > 0 {
			p.once = !s.opts.AllowDuplicates
			s.routeMany(m, p, i)
		}
	}
	if p := loops[s.index]; p.len() > 0 {
		p.once = !s.opts.AllowDuplicates
		s.startPassage(&p, m)
	}
}

// routeMany takes the filters of a passage to another loop.
func (s *shard) routeMany(m *message.Message, p *passage, loop int) {
	b := s.box(loop)
	e := b.add(m)
	e.many = &passage{ids: p.ids, shares: p.shares, once: p.once, cost: manyCost * int64(p.len())}
	b.cost += e.many.cost
	if s.journal != nil && m.QoS > 0 {
		s.oweMany(m, p, loop, func(id topictree.FilterID) { b.owe(e, id) })
	}
}

func (p *passage) len() int { return len(p.ids) + len(p.shares) }

// oweMany owes what is in a passage, in the order in which it is served.
func (s *shard) oweMany(m *message.Message, p *passage, loop int, owed func(topictree.FilterID)) {
	for _, id := range p.ids {
		if s.owe(m, id, loop) {
			owed(id)
		}
	}
	for _, id := range p.shares {
		if s.oweShared(m, id, loop) {
			owed(id)
		}
	}
}

// startPassage serves a slice at once, unless others are under way, and queues the rest; over says that
// there is none. s.live holds m.
func (s *shard) startPassage(p *passage, m *message.Message) (over bool) {
	s.loop.MustBeHere()
	p.m = m
	if s.passages.Len() == 0 && s.serveMany(p) {
		s.endPassage(p)
		return true
	}
	p.m = m.Keep()
	if p.from == nil && s.journal != nil && m.QoS > 0 {
		s.oweMany(p.m, p, s.index, func(id topictree.FilterID) { p.owed = append(p.owed, id) })
	}
	if p.from == nil && s.publisher != nil {
		p.conn = s.publisher
		s.publisher.Hold()
	}
	s.passages.Push(p)
	s.backlog++
	if s.backlog == backlogMax {
		s.halt(true)
	}
	if s.passages.Len() == 1 {
		s.loop.Again(passageTask{})
	}
	return false
}

// passageTask serves the next slice of the oldest passage.
type passageTask struct{}

// Run implements wsnet.Task.
func (t passageTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	p := *s.passages.At(0)
	s.live.Reset(p.m, l.Now())
	over := s.serveMany(p)
	s.live.Release()
	if over {
		s.passages.Pop()
		s.passed++
		s.endPassage(p)
		s.jobDone(1)
	}
	if s.passages.Len() > 0 {
		l.Again(t)
	}
}

// endPassage lets those go on that have waited for it.
func (s *shard) endPassage(p *passage) {
	if p.from != nil {
		s.settleDebt(p.from, p.debt, p.cost)
	}
	if p.conn != nil {
		p.conn.Release(s.loop, wsnet.TaskFunc(func(*wsnet.Loop) {}))
	}
}

// serveMany serves one slice of a passage; true when it was the last. s.live holds its message.
func (s *shard) serveMany(p *passage) bool {
	s.loop.MustBeHere()
	if p.walk != nil {
		return s.serveWalk(p)
	}
	left := slice
	for len(p.ids) > 0 {
		if left <= 0 {
			return false
		}
		id := p.ids[0]
		p.ids = p.ids[1:]
		left -= s.weight(id, p.once)
		if p.once {
			s.pickMany(p, id)
		} else {
			s.settleMany(p, id, s.fanOut(id, p.m, p.owes(id)))
		}
	}
	for len(p.shares) > 0 {
		if left <= 0 {
			return false
		}
		id := p.shares[0]
		left -= 1 + s.dealWeight(id)
		p.shares = p.shares[1:]
		s.dealMany(p, id)
		if !p.once {
			s.settleMany(p, id, false)
		}
	}
	n := min(max(left, 1), len(p.picked))
	for _, mb := range p.picked[:n] {
		s.deliver(mb, p.m)
	}
	if p.picked = p.picked[n:]; len(p.picked) > 0 {
		return false
	}
	if p.once {
		for _, id := range p.owed {
			s.paid(p.m, id)
		}
		p.owed = nil
	}
	return true
}

// serveWalk serves one slice of what is being searched. What other loops have to do goes to them at its
// end.
func (s *shard) serveWalk(p *passage) bool {
	loops := make([]passage, len(s.b.shards))
	left, searched, over := slice, false, false
	for left > 0 && !over {
		if p.next == len(p.walk.Hits) {
			if p.walk.Hits, p.next = p.walk.Hits[:0], 0; searched {
				break
			}
			searched = true
			over = s.b.index.More(p.m.Topic, p.walk, manySteps) && len(p.walk.Hits) == 0
			continue
		}
		h := &p.walk.Hits[p.next]
		p.next++
		left -= s.serveHit(p, h, loops)
	}
	for i := range loops {
		if loops[i].len() > 0 {
			s.routeMany(p.m, &loops[i], i)
		}
	}
	return over
}

// serveHit serves this loop's part of one hit and notes that of others. It returns its weight.
func (s *shard) serveHit(p *passage, h *topictree.Hit, loops []passage) int {
	own := uint64(1) << s.index
	weight := 1
	if h.Loops&own != 0 {
		if h.Shared {
			weight += s.dealWeight(h.ID)
			s.routeDeal(p.m, h.ID, s.index)
		} else {
			weight = s.weight(h.ID, false)
			s.fanOut(h.ID, p.m, false)
		}
	}
	for left := h.Loops &^ own; left != 0; left &= left - 1 {
		to := &loops[bits.TrailingZeros64(left)]
		if h.Shared {
			to.shares = append(to.shares, h.ID)
		} else {
			to.ids = append(to.ids, h.ID)
		}
	}
	return weight
}

// dealWeight is what looking for a member costs; most are passed over quickly.
func (s *shard) dealWeight(id topictree.FilterID) int {
	if g := s.shares[id]; g != nil {
		return g.Len() / 16
	}
	return 0
}

// weight is how many members a filter is for, of those that are served within this turn: all if they are
// only picked, none of a crowd that is served in slices of its own.
func (s *shard) weight(id topictree.FilterID, pick bool) int {
	n := max(1, s.receivers.Size(id))
	if n > slice && !pick {
		return 1
	}
	return n
}

// owes reports whether the store has a transit for the filter that is served now.
func (p *passage) owes(id topictree.FilterID) bool { return len(p.owed) > 0 && p.owed[0] == id }

// settleMany pays for a filter, unless a crowd's slices do.
func (s *shard) settleMany(p *passage, id topictree.FilterID, later bool) {
	if !p.owes(id) {
		return
	}
	p.owed = p.owed[1:]
	if !later {
		s.paid(p.m, id)
	}
}

// pickMany is pick over several turns.
func (s *shard) pickMany(p *passage, id topictree.FilterID) {
	if p.pickedAt == nil {
		p.pickedAt = make(map[*client]int)
	}
	s.picked, s.pickedIn, p.picked = p.picked, p.pickedAt, s.picked
	s.pick(id, p.m)
	s.picked, s.pickedIn, p.picked = p.picked, nil, s.picked
}

// dealMany deals the message to one shared subscription whose home is this loop.
func (s *shard) dealMany(p *passage, id topictree.FilterID) {
	if p.from == nil {
		s.routeDeal(p.m, id, s.index)
		return
	}
	s.deal(id, p.m)
}

// behindPassage reports whether a message of the same topic is under way.
func (s *shard) behindPassage(topic []byte) bool {
	for i := range s.passages.Len() {
		if bytes.Equal((*s.passages.At(i)).m.Topic, topic) {
			return true
		}
	}
	return false
}
