// Package mail carries messages from one event loop to another. They are collected per loop and posted
// once at the end of a turn: one item and at most one wake for all of them. Small messages of QoS 0 are
// copied into the item; what is kept anyway travels by reference. What a loop has not handled yet is
// bounded by a debt.
package mail

import (
	"sync/atomic"

	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
)

// How much one loop may have waiting at another, in bytes with a fixed cost a message, before it stops
// reading its sockets: publishers feel it as TCP backpressure, nothing is dropped.
const (
	DebtMax    = 16 << 20
	letterCost = 128
)

// Letter is one message in a Batch. X says what the receiving loop is to do with it.
type Letter[X any] struct {
	Order X

	m         *message.Message // nil: the message is in the batch's buf at [at, end)
	at, end   int
	topic     uint16 // length
	props     uint32 // length
	ids, owed int    // numbers of filters, taken in order from the batch's
	expiry    int64
	publisher uint64
	interval  uint32
	retain    bool
}

// Batch is the messages of one turn for one loop. L is a loop to who uses it.
type Batch[L, X any] struct {
	From, To L
	Debt     *Debt // of From at To

	letters []Letter[X]
	ids     []topictree.FilterID
	owed    []topictree.FilterID
	buf     []byte
	cost    int64
}

// Keeps reports whether a message travels by reference.
func Keeps(m *message.Message) bool {
	return m.QoS > 0 || len(m.Payload) >= message.ShareFrom || m.Kept()
}

// Add puts m, which may be a loan unless Keeps says so, into the batch. The letter is good until the next
// Add.
func (b *Batch[L, X]) Add(m *message.Message) *Letter[X] {
	b.letters = append(b.letters, Letter[X]{})
	l := &b.letters[len(b.letters)-1]
	b.cost += letterCost + int64(len(m.Payload))
	if Keeps(m) {
		l.m = m.Keep()
		return l
	}
	l.at = len(b.buf)
	b.buf = append(b.buf, m.Topic...)
	b.buf = append(b.buf, m.Properties...)
	b.buf = append(b.buf, m.Payload...)
	l.end = len(b.buf)
	l.topic, l.props = uint16(len(m.Topic)), uint32(len(m.Properties))
	l.expiry, l.interval, l.publisher, l.retain = m.Expiry, m.Interval, m.Publisher, m.Retain
	return l
}

// For notes that the letter is for the receivers of a filter.
func (b *Batch[L, X]) For(l *Letter[X], id topictree.FilterID) {
	b.ids = append(b.ids, id)
	l.ids++
}

// Owe notes that the store has the letter in transit for a filter.
func (b *Batch[L, X]) Owe(l *Letter[X], id topictree.FilterID) {
	b.owed = append(b.owed, id)
	l.owed++
}

// Costs adds to what the batch costs in the debt; who asks for it settles that part.
func (b *Batch[L, X]) Costs(n int64) { b.cost += n }

// Cost is what the batch costs in the debt.
func (b *Batch[L, X]) Cost() int64 { return b.cost }

// Opened is a letter as the receiving loop sees it.
type Opened[X any] struct {
	Message *message.Message // may be a loan until the next letter
	Order   *X
	IDs     []topictree.FilterID
	Owed    []topictree.FilterID
}

// Each shows all letters in their order. far holds a loan from the batch.
func (b *Batch[L, X]) Each(far *message.Message, show func(o Opened[X])) {
	ids, owed := b.ids, b.owed
	for i := range b.letters {
		l := &b.letters[i]
		show(Opened[X]{Message: l.open(b.buf, far), Order: &l.Order, IDs: ids[:l.ids], Owed: owed[:l.owed]})
		ids, owed = ids[l.ids:], owed[l.owed:]
	}
}

func (l *Letter[X]) open(buf []byte, far *message.Message) *message.Message {
	if l.m != nil {
		return l.m
	}
	raw := buf[l.at:l.end]
	t, p := int(l.topic), int(l.topic)+int(l.props)
	*far = message.Message{
		Topic: raw[:t], Properties: codec.Properties(raw[t:p]), Payload: raw[p:],
		Expiry: l.expiry, Interval: l.interval, Publisher: l.publisher, Retain: l.retain,
	}
	return far
}

// Debt is what one loop has posted to another that has not been handled. Both loops use it.
type Debt struct{ n atomic.Int64 }

// Settle notes that work was done. low says that the debt has just come down to what lets a loop that had to
// stop go on.
func (d *Debt) Settle(cost int64) (low bool) {
	left := d.n.Add(-cost)
	return left <= DebtMax/2 && left+cost > DebtMax/2
}

// Box is what a loop has for one other loop. The zero value is ready.
type Box[L, X any] struct {
	open    *Batch[L, X]
	debt    *Debt
	blocked bool // the debt is too high
}

// Open is the batch of this turn, made on first use, from one loop to another.
func (o *Box[L, X]) Open(from, to L) *Batch[L, X] {
	if o.open == nil {
		if o.debt == nil {
			o.debt = &Debt{}
		}
		o.open = &Batch[L, X]{From: from, To: to, Debt: o.debt}
	}
	return o.open
}

// Close takes the batch of this turn, nil if there is none, to be posted. block says that from now on the
// debt is too high, until Unblock.
func (o *Box[L, X]) Close() (b *Batch[L, X], block bool) {
	b = o.open
	if b == nil {
		return nil, false
	}
	o.open = nil
	if debt := o.debt.n.Add(b.cost); debt > DebtMax && !o.blocked {
		o.blocked, block = true, true
	}
	return b, block
}

// Unblock reports once that the debt is low again.
func (o *Box[L, X]) Unblock() bool {
	if !o.blocked || o.debt.n.Load() > DebtMax/2 {
		return false
	}
	o.blocked = false
	return true
}
