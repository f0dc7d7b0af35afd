package broker

import (
	"math/bits"

	"noctule/broker/mail"
	"noctule/broker/message"
	"noctule/topictree"
	"noctule/wsnet"
)

// Messages for other loops go by mail: what they are for is here, how they travel in package mail.

// order is what another loop is to do with a message. None of it: to deliver it to the filter's subscribers.
type order struct {
	target *shareMember // only to this member of a shared subscription
	many   *passage     // to those of many filters
	once   bool         // one copy to MQTT 3 clients
	deal   bool         // the filter is a shared subscription's: pick one of its members
}

type (
	batch  = mail.Batch[order]
	letter = mail.Letter[order]
)

// box is the open batch for shard i.
func (s *shard) box(i int) *batch { return s.remote[i].Open(s.index) }

// enclose puts m into a batch.
func (s *shard) enclose(b *batch, m *message.Message) *letter {
	if s.journal != nil && mail.Keeps(m) {
		s.journal.Stored(m.Keep()) // before others see it
	}
	return b.Add(m)
}

// routeRemote adds m for one filter to the batch of each loop in the set.
func (s *shard) routeRemote(m *message.Message, id topictree.FilterID, loops uint64) {
	for loops != 0 {
		i := bits.TrailingZeros64(loops)
		loops &= loops - 1
		b := s.box(i)
		e := s.enclose(b, m)
		if b.For(e, id); s.journal.Owe(m, id, i) {
			b.Owe(e, id)
		}
	}
}

// routeRemoteAll adds m with all its filters to the batch of each loop in the set, to be delivered once.
func (s *shard) routeRemoteAll(m *message.Message, hits []topictree.Hit, loops uint64) {
	var all uint64
	for i := range hits {
		if !hits[i].Shared {
			all |= hits[i].Loops
		}
	}
	all &= loops
	for all != 0 {
		i := bits.TrailingZeros64(all)
		all &= all - 1
		b := s.box(i)
		e := s.enclose(b, m)
		e.Order.once = true
		for j := range hits {
			if !hits[j].Shared && hits[j].Loops&(1<<i) != 0 {
				if b.For(e, hits[j].ID); s.journal.Owe(m, hits[j].ID, i) {
					b.Owe(e, hits[j].ID)
				}
			}
		}
	}
}

// postRemote posts the batches of this turn.
func (s *shard) postRemote() {
	s.loop.MustBeHere()
	for i, to := range s.b.shards {
		b, block := s.remote[i].Close()
		if b == nil {
			continue
		}
		to.loop.MustPost((*delivery)(b)) // bounded by the debt
		if block {
			s.halt(true)
		}
	}
}

// delivery is a batch in the mail.
type delivery batch

// Run implements wsnet.Task on the receiving loop.
func (d *delivery) Run(l *wsnet.Loop) {
	s, b := l.Handler().(*shard), (*batch)(d)
	from, cost := s.b.shards[b.From], b.Cost()
	b.Each(&s.far, func(o mail.Opened[order]) {
		m, many := o.Message, o.Order.many
		s.live.Reset(m, l.Now())
		pays := false
		switch {
		case many != nil:
			many.from, many.debt, many.owed = from, b.Debt, o.Owed
			cost -= many.cost
			s.startPassage(many, m)
			pays = true
		case o.Order.target != nil:
			s.deliverShared(o.Order.target, m)
		case o.Order.deal:
			s.deal(o.IDs[0], m)
		default:
			pays = s.fromLoop(b, o)
		}
		s.live.Release()
		if !pays {
			for _, id := range o.Owed {
				s.journal.Paid(m, id)
			}
		}
	})
	s.settleDebt(from, b.Debt, cost)
}

// fromLoop serves the filters that another loop has found for a message, and reports whether what is owed for
// them is paid later. What is too much for a turn, or comes behind such a message of its topic, becomes a
// passage.
func (s *shard) fromLoop(b *batch, o mail.Opened[order]) bool {
	m, once := o.Message, o.Order.once
	later := s.passages.Len() > 0 && s.behindPassage(m.Topic)
	for i, left := 0, slice; once && !later && i < len(o.IDs); i++ {
		later = s.loads(o.IDs[i], &left)
	}
	switch {
	case later:
		s.startPassage(&passage{
			ids: o.IDs, owed: o.Owed, once: once, from: s.b.shards[b.From], debt: b.Debt,
		}, m)
		return true
	case once:
		s.picked = s.picked[:0]
		for _, id := range o.IDs {
			s.pick(id, m)
		}
		s.deliverPicked(m)
		return false
	default:
		return s.fanOut(o.IDs[0], m, len(o.Owed) > 0)
	}
}

// settleDebt notes that this loop has done work of another one.
func (s *shard) settleDebt(from *shard, debt *mail.Debt, cost int64) {
	if debt.Settle(cost) {
		to := s.index
		from.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { from.unblock(to) }))
	}
}

// unblock resumes reading after shard `to` has caught up.
func (s *shard) unblock(to int) {
	if s.remote[to].Unblock() {
		s.halt(false)
	}
}
