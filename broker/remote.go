package broker

import (
	"math/bits"
	"sync/atomic"

	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// Messages for other loops are collected per loop and posted once at the end of a turn: one mailbox item
// and at most one wake for all of them. Small QoS 0 messages are copied into the batch; what is kept anyway
// travels by reference.

// outbox is what this loop has for one other loop.
type outbox struct {
	batch   *batch
	debt    *atomic.Int64 // payload bytes and items posted there and not yet handled, set once
	blocked bool          // the debt is too high: this loop reads no sockets until it has shrunk
}

// batch is a mailbox item with messages of one turn.
type batch struct {
	from  *shard
	debt  *atomic.Int64
	items []envelope
	ids   []topictree.FilterID
	owed  []topictree.FilterID
	buf   []byte
	cost  int64
}

// envelope is one message in a batch.
type envelope struct {
	m         *message.Message // nil: the message is in buf at [at, end)
	target    *shareMember     // set: only for this member of a shared subscription
	at, end   int
	topic     uint16 // length
	props     uint32 // length
	ids       int    // number of filter ids, taken in order from batch.ids
	expiry    int64
	publisher uint64
	interval  uint32
	retain    bool
	once      bool     // deliver one copy to MQTT 3 clients
	many      *passage // for many filters, and without ids
	deal      bool     // the id is a shared subscription's: pick one of its members
	owed      int      // number of filter ids for which the store has it in transit, in order from batch.owed
}

// debtMax is how much one loop may have waiting at another, in bytes with a fixed cost a message, before it
// stops reading its sockets: publishers feel it as TCP backpressure, nothing is dropped.
const (
	debtMax      = 16 << 20
	envelopeCost = 128
)

// box returns the open batch for shard i.
func (s *shard) box(i int) *batch {
	s.loop.MustBeHere()
	o := &s.remote[i]
	if o.debt == nil {
		o.debt = new(atomic.Int64)
	}
	if o.batch == nil {
		o.batch = &batch{from: s, debt: o.debt}
	}
	return o.batch
}

// routeRemote adds m for one filter to the batch of each loop in the set.
func (s *shard) routeRemote(m *message.Message, id topictree.FilterID, loops uint64) {
	for loops != 0 {
		i := bits.TrailingZeros64(loops)
		loops &= loops - 1
		b := s.box(i)
		e := b.add(m)
		b.ids = append(b.ids, id)
		e.ids = 1
		if s.journal.Owe(m, id, i) {
			b.owe(e, id)
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
		e := b.add(m)
		e.once = true
		for j := range hits {
			if !hits[j].Shared && hits[j].Loops&(1<<i) != 0 {
				b.ids = append(b.ids, hits[j].ID)
				e.ids++
				if s.journal.Owe(m, hits[j].ID, i) {
					b.owe(e, hits[j].ID)
				}
			}
		}
	}
}

// add puts m into the batch.
func (b *batch) add(m *message.Message) *envelope {
	b.items = append(b.items, envelope{})
	e := &b.items[len(b.items)-1]
	b.cost += envelopeCost + int64(len(m.Payload))
	if m.QoS > 0 || len(m.Payload) >= message.ShareFrom || m.Kept() {
		e.m = m.Keep()
		if b.from.journal != nil {
			b.from.journal.Stored(e.m) // before others see it
		}
		return e
	}
	e.at = len(b.buf)
	b.buf = append(b.buf, m.Topic...)
	b.buf = append(b.buf, m.Properties...)
	b.buf = append(b.buf, m.Payload...)
	e.end = len(b.buf)
	e.topic, e.props = uint16(len(m.Topic)), uint32(len(m.Properties))
	e.expiry, e.interval, e.publisher, e.retain = m.Expiry, m.Interval, m.Publisher, m.Retain
	return e
}

// message returns the envelope's message; a loan from the batch goes into far.
func (e *envelope) message(b *batch, far *message.Message) *message.Message {
	if e.m != nil {
		return e.m
	}
	raw := b.buf[e.at:e.end]
	t, p := int(e.topic), int(e.topic)+int(e.props)
	*far = message.Message{
		Topic: raw[:t], Properties: codec.Properties(raw[t:p]), Payload: raw[p:],
		Expiry: e.expiry, Interval: e.interval, Publisher: e.publisher, Retain: e.retain,
	}
	return far
}

// postRemote posts the batches of this turn.
func (s *shard) postRemote() {
	s.loop.MustBeHere()
	for i := range s.b.shards {
		o := &s.remote[i]
		b := o.batch
		if b == nil {
			continue
		}
		o.batch = nil
		debt := o.debt.Add(b.cost)
		s.b.shards[i].loop.MustPost(b) // bounded by the debt
		if debt > debtMax && !o.blocked {
			o.blocked = true
			s.halt(true)
		}
	}
}

// Run implements wsnet.Task on the receiving loop.
func (b *batch) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	ids, owed, cost := b.ids, b.owed, b.cost
	for i := range b.items {
		e := &b.items[i]
		m := e.message(b, &s.far)
		s.live.Reset(m, l.Now())
		pays := false
		switch {
		case e.many != nil:
			e.many.from, e.many.debt, e.many.owed = b.from, b.debt, owed[:e.owed]
			cost -= e.many.cost
			s.startPassage(e.many, m)
			pays = true
		case e.target != nil:
			s.deliverShared(e.target, m)
		case e.deal:
			s.deal(ids[0], m)
		default:
			pays = s.fromLoop(b, m, e.once, ids[:e.ids], owed[:e.owed])
		}
		s.live.Release()
		if !pays {
			for _, id := range owed[:e.owed] {
				s.journal.Paid(m, id)
			}
		}
		ids, owed = ids[e.ids:], owed[e.owed:]
	}
	s.settleDebt(b.from, b.debt, cost)
}

// fromLoop serves the filters that another loop has found for m, and reports whether what is owed for them is
// paid later. What is too much for a turn, or comes behind such a message of its topic, becomes a passage.
func (s *shard) fromLoop(b *batch, m *message.Message, once bool, ids, owed []topictree.FilterID) bool {
	later := s.passages.Len() > 0 && s.behindPassage(m.Topic)
	for i, left := 0, slice; once && !later && i < len(ids); i++ {
		later = s.loads(ids[i], &left)
	}
	switch {
	case later:
		s.startPassage(&passage{ids: ids, owed: owed, once: once, from: b.from, debt: b.debt}, m)
		return true
	case once:
		s.picked = s.picked[:0]
		for _, id := range ids {
			s.pick(id, m)
		}
		s.deliverPicked(m)
		return false
	default:
		return s.fanOut(ids[0], m, len(owed) > 0)
	}
}

// settleDebt notes that this loop has done work of another one.
func (s *shard) settleDebt(from *shard, debt *atomic.Int64, cost int64) {
	left := debt.Add(-cost)
	if left <= debtMax/2 && left+cost > debtMax/2 {
		to := s.index
		from.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { from.unblock(to) }))
	}
}

// owe notes that the store has an envelope in transit for a filter.
func (b *batch) owe(e *envelope, id topictree.FilterID) {
	b.owed = append(b.owed, id)
	e.owed++
}

// unblock resumes reading after shard `to` has caught up.
func (s *shard) unblock(to int) {
	o := &s.remote[to]
	if o.blocked && o.debt.Load() <= debtMax/2 {
		o.blocked = false
		s.halt(false)
	}
}
