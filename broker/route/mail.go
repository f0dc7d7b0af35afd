package route

import (
	"math/bits"

	"noctule/broker/fanout"
	"noctule/broker/mail"
	"noctule/broker/message"
	"noctule/topictree"
	"noctule/wsnet"
)

// Messages for other loops go by mail: what they are for is here, how they travel in package mail.

// order is what another loop is to do with a message. None of it: to deliver it to the filter's subscribers.
type order[C Receiver[C]] struct {
	target *fanout.Share[C] // only to this member of a shared subscription
	many   *passage[C]      // to those of many filters
	once   bool             // one copy to MQTT 3 clients
	deal   bool             // the filter is a shared subscription's: pick one of its members
}

// box is the open batch for a loop.
func (r *Router[C]) box(loop int) *mail.Batch[*Router[C], order[C]] {
	if r.boxes == nil {
		r.boxes = make([]mail.Box[*Router[C], order[C]], len(r.all.list))
	}
	return r.boxes[loop].Open(r, r.all.list[loop])
}

// enclose puts m into a batch.
func (r *Router[C]) enclose(b *mail.Batch[*Router[C], order[C]], m *message.Message) *mail.Letter[order[C]] {
	if r.Journal != nil && mail.Keeps(m) {
		r.Journal.Stored(m.Keep()) // before others see it
	}
	return b.Add(m)
}

// mailTo adds m for one filter to the batch of each loop in the set.
func (r *Router[C]) mailTo(m *message.Message, id topictree.FilterID, loops uint64) {
	for loops != 0 {
		i := bits.TrailingZeros64(loops)
		loops &= loops - 1
		b := r.box(i)
		e := r.enclose(b, m)
		if b.For(e, id); r.Journal.Owe(m, id, i) {
			b.Owe(e, id)
		}
	}
}

// mailAll adds m with all its filters to the batch of each loop in the set, to be delivered once.
func (r *Router[C]) mailAll(m *message.Message, hits []topictree.Hit, loops uint64) {
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
		b := r.box(i)
		e := r.enclose(b, m)
		e.Order.once = true
		for j := range hits {
			if !hits[j].Shared && hits[j].Loops&(1<<i) != 0 {
				if b.For(e, hits[j].ID); r.Journal.Owe(m, hits[j].ID, i) {
					b.Owe(e, hits[j].ID)
				}
			}
		}
	}
}

// Post posts the mail of this turn.
func (r *Router[C]) Post() {
	for i := range r.boxes {
		b, block := r.boxes[i].Close()
		if b == nil {
			continue
		}
		b.To.Loop.MustPost(delivery[C]{b}) // bounded by the debt
		if block {
			r.Halt(true)
		}
	}
}

// delivery is a batch in the mail.
type delivery[C Receiver[C]] struct {
	b *mail.Batch[*Router[C], order[C]]
}

// Run implements wsnet.Task on the receiving loop.
func (d delivery[C]) Run(*wsnet.Loop) {
	b := d.b
	r, cost := b.To, b.Cost()
	b.Each(&r.far, func(o mail.Opened[order[C]]) {
		m, many := o.Message, o.Order.many
		r.Live.Reset(m, r.Loop.Now())
		pays := false
		switch {
		case many != nil:
			many.from, many.debt, many.owed = b.From, b.Debt, o.Owed
			cost -= many.cost
			r.startPassage(many, m)
			pays = true
		case o.Order.target != nil:
			r.takeShared(o.Order.target, m)
		case o.Order.deal:
			r.dealHere(o.IDs[0], m)
		default:
			pays = r.fromLoop(b, o)
		}
		r.Live.Release()
		if !pays {
			for _, id := range o.Owed {
				r.Journal.Paid(m, id)
			}
		}
	})
	r.settleDebt(b.From, b.Debt, cost)
}

// fromLoop serves the filters that another loop has found for a message, and reports whether what is owed for
// them is paid later. What is too much for a turn, or comes behind such a message of its topic, becomes a
// passage.
func (r *Router[C]) fromLoop(b *mail.Batch[*Router[C], order[C]], o mail.Opened[order[C]]) bool {
	m, once := o.Message, o.Order.once
	later := r.passages.Len() > 0 && r.behindPassage(m.Topic)
	for i, left := 0, r.Slice; once && !later && i < len(o.IDs); i++ {
		later = r.loads(o.IDs[i], &left)
	}
	switch {
	case later:
		r.startPassage(&passage[C]{
			ids: o.IDs, owed: o.Owed, once: once, from: b.From, debt: b.Debt,
		}, m)
		return true
	case once:
		for _, id := range o.IDs {
			r.pickFor(&r.picked, id, m)
		}
		r.takePicked(m)
		return false
	default:
		return r.fanOut(o.IDs[0], m, len(o.Owed) > 0)
	}
}

// settleDebt notes that this loop has done work of another one.
func (r *Router[C]) settleDebt(from *Router[C], debt *mail.Debt, cost int64) {
	if debt.Settle(cost) {
		to := r.Number
		from.Loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { from.unblock(to) }))
	}
}

// unblock resumes reading after another loop has caught up.
func (r *Router[C]) unblock(to int) {
	if r.boxes[to].Unblock() {
		r.Halt(false)
	}
}
