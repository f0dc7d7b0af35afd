package broker

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
// The search goes in slices too. What it has not found yet cannot be owed by filter (journal.go), so a loop
// that goes on in a later turn owes the message to its topic: after a crash it is passed on anew to all whose
// subscriptions match. Where clients are to have one copy nobody gets it before all filters are known; other
// loops get theirs together at the end.

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

	durable uint64 // loops with durable subscribers of what the search has found
	routing bool   // the store has a transit by topic

	once     bool           // one copy to MQTT 3 clients, when all filters have been looked at
	behind   fanout.Barrier // of the filter that is picked next: its jobs under way come first
	picked   []member
	pickedAt map[*client]int
	far      [][]topictree.FilterID // what the search has found for other loops, by loop

	conn *wsnet.Conn // not read until it is over; nil: none
	from *shard      // whose messages have cost here until it is over; nil: this loop's own
	debt *mail.Debt  // of from to this loop
	cost int64
}

// manyCost is what a filter of a passage costs in a loop's debt.
const manyCost = 16

// manySteps is how many nodes of the index one turn looks at for one message.
const manySteps = 4096

// publishMany routes a message that matches many filters, or whose topic has a passage under way. The
// search has begun in s.matches.
func (s *shard) publishMany(m *message.Message) {
	s.loop.MustBeHere()
	walk := &topictree.Matches{}
	*walk, s.matches = s.matches, topictree.Matches{}
	if s.startPassage(&passage{walk: walk, once: !s.opts.AllowDuplicates}, m) {
		s.matches = *walk
		s.matches.Trim()
	}
}

// routeMany takes the filters of a passage to another loop.
func (s *shard) routeMany(m *message.Message, p *passage, loop int) {
	b := s.box(loop)
	e := s.enclose(b, m)
	many := &passage{ids: p.ids, shares: p.shares, once: p.once, cost: manyCost * int64(p.len())}
	e.Order.many = many
	b.Costs(many.cost)
	switch {
	case s.journal == nil || m.QoS == 0:
	case !p.once:
		s.oweMany(m, p, loop, func(id topictree.FilterID) { b.Owe(e, id) })
	case p.durable&(1<<loop) != 0:
		many.routing = true
		s.journal.OweTopic(m, loop)
	}
}

func (p *passage) len() int { return len(p.ids) + len(p.shares) }

// oweMany owes what is in a passage, in the order in which it is served.
func (s *shard) oweMany(m *message.Message, p *passage, loop int, owed func(topictree.FilterID)) {
	for _, id := range p.ids {
		if s.journal.Owe(m, id, loop) {
			owed(id)
		}
	}
	for _, id := range p.shares {
		if s.journal.OweShared(m, id, loop) {
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
	if p.from == nil && s.mustOwe(p) {
		p.routing = true
		s.journal.OweTopic(p.m, store.AllLoops)
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

// mustOwe reports whether a passage that has begun and is not over may be for durable sessions.
func (s *shard) mustOwe(p *passage) bool {
	if s.journal == nil || p.m.QoS == 0 {
		return false
	}
	if p.durable != 0 || p.walk != nil && !s.b.index.More(p.m.Topic, p.walk, 0) {
		return true
	}
	return p.walk != nil && slices.ContainsFunc(p.walk.Hits[p.next:], func(h topictree.Hit) bool {
		return s.b.routes.Of(h.ID) != 0
	})
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
	left := slice
	if p.walk != nil {
		var over bool
		if left, over = s.serveWalk(p); !over {
			return false
		}
		p.walk = nil
	}
	for len(p.ids) > 0 {
		if left <= 0 {
			return false
		}
		id := p.ids[0]
		if p.once && !s.receivers.Passed(id, &p.behind) {
			return false
		}
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
		s.deal(id, p.m)
		s.settleMany(p, id, false)
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
			s.journal.Paid(p.m, id)
		}
		p.owed = nil
	}
	if p.routing {
		loop := store.AllLoops
		if p.from != nil {
			loop = s.index
		}
		s.journal.PaidTopic(p.m, loop)
	}
	return true
}

// serveWalk serves one slice of what is being searched, and reports how much of the slice is left and whether
// that was all. What other loops have to do goes to them at its end.
func (s *shard) serveWalk(p *passage) (left int, over bool) {
	loops := make([]passage, len(s.b.shards))
	searched := false
	for left = slice; left > 0 && !over; {
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
	if over {
		for i, ids := range p.far {
			if len(ids) > 0 {
				s.routeMany(p.m, &passage{ids: ids, once: true, durable: p.durable}, i)
			}
		}
	}
	return left, over
}

// serveHit serves this loop's part of one hit and notes that of others. It returns its weight.
func (s *shard) serveHit(p *passage, h *topictree.Hit, loops []passage) int {
	if s.journal != nil && p.m.QoS > 0 {
		p.durable |= s.b.routes.Of(h.ID)
	}
	own := uint64(1) << s.index
	weight := 1
	switch {
	case h.Loops&own == 0:
	case h.Shared:
		weight += s.dealWeight(h.ID)
		s.routeDeal(p.m, h.ID, s.index)
	case p.once:
		p.ids = append(p.ids, h.ID)
	default:
		weight = s.weight(h.ID, false)
		s.fanOut(h.ID, p.m, false)
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
func (s *shard) dealWeight(id topictree.FilterID) int {
	if g := s.shares.Group(id); g != nil {
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
		s.journal.Paid(p.m, id)
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

// behindPassage reports whether a message of the same topic is under way.
func (s *shard) behindPassage(topic []byte) bool {
	for i := range s.passages.Len() {
		if bytes.Equal((*s.passages.At(i)).m.Topic, topic) {
			return true
		}
	}
	return false
}
