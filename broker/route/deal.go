package route

import (
	"hash/maphash"
	"math/bits"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/topictree"
	"noctule/wsnet"
)

// A shared subscription (MQTT 5, 4.8.2) is dealt by one loop, the home of the pair of share name and filter,
// whatever loops its members live on.

// Home is the loop, of so many, that deals a shared subscription.
func Home(seed maphash.Seed, group, filter []byte, loops int) int {
	h := maphash.Bytes(seed, filter) ^ bits.RotateLeft64(maphash.Bytes(seed, group), 17)
	return int(h % uint64(loops))
}

// Join tells the home of a shared subscription, which has been added to the index, of a new member of this
// loop. It is posted before any message that follows.
func (r *Router[C]) Join(sh *fanout.Share[C]) {
	r.at(sh.Home, func(h *Router[C]) { h.Shares.Join(sh) })
}

// Leave takes a member out.
func (r *Router[C]) Leave(sh *fanout.Share[C]) {
	sh.Gone = true
	r.Index.RemoveShared(sh.ID)
	r.at(sh.Home, func(h *Router[C]) { h.Shares.Leave(sh) })
}

// at runs f with the Router of a loop: now if that is this one, else by its mailbox.
func (r *Router[C]) at(loop int, f func(*Router[C])) {
	if loop == r.Number {
		f(r)
		return
	}
	to := r.all.list[loop]
	to.Loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { f(to) })) // bounded by the SUBSCRIBE that caused it
}

// Deal has a message that no other is on the way of dealt by the home of a shared subscription.
func (r *Router[C]) Deal(m *message.Message, id topictree.FilterID, home int) {
	r.Live.Reset(m, r.Loop.Now())
	r.dealBy(m, id, home)
	r.Live.Release()
}

// dealHit takes m to the loop that deals.
func (r *Router[C]) dealHit(m *message.Message, h *topictree.Hit) {
	r.dealBy(m, h.ID, bits.TrailingZeros64(h.Loops))
}

// dealBy has m dealt: here, or by the home of the shared subscription.
func (r *Router[C]) dealBy(m *message.Message, id topictree.FilterID, home int) {
	if home == r.Number {
		if r.Shares.Begun(id) {
			r.dealHere(id, m)
		} else {
			r.dealLater(m, id)
		}
		return
	}
	b := r.box(home)
	e := r.enclose(b, m)
	e.Order.deal = true
	if b.For(e, id); r.Journal.OweShared(m, id, home) {
		b.Owe(e, id)
	}
}

// dealLater has m dealt behind what is in the mail. The first member may have its SUBACK while its Join still
// waits in the mail of this loop, since sockets are read before; what comes until then goes behind m.
func (r *Router[C]) dealLater(m *message.Message, id topictree.FilterID) {
	m = m.Keep()
	if r.Shares.Defer(id, fanout.Early{Message: m, Owed: r.Journal.OweShared(m, id, r.Number)}) {
		r.Loop.MustPost(earlyTask[C]{r, id}) // one a shared subscription and turn
	}
}

// earlyTask deals what was early for a shared subscription.
type earlyTask[C Receiver[C]] struct {
	r  *Router[C]
	id topictree.FilterID
}

// Run implements wsnet.Task.
func (t earlyTask[C]) Run(*wsnet.Loop) {
	r := t.r
	for _, e := range r.Shares.Deferred(t.id) {
		r.Live.Reset(e.Message, r.Loop.Now())
		r.dealHere(t.id, e.Message)
		r.Live.Release()
		if e.Owed {
			r.Journal.Paid(e.Message, t.id)
		}
	}
}

// dealHere gives m to the member whose turn it is.
func (r *Router[C]) dealHere(id topictree.FilterID, m *message.Message) {
	sh := r.Shares.Deal(id, m)
	switch {
	case sh == nil:
		r.Lost()
	case sh.Loop == r.Number:
		r.takeShared(sh, m)
	default:
		b := r.box(sh.Loop)
		e := r.enclose(b, m)
		e.Order.target = sh
		if r.Journal.OweShared(m, id, sh.Loop) {
			b.Owe(e, id)
		}
	}
}

// takeShared gives m to one member, on the member's loop. If it has left meanwhile, another one is dealt to.
func (r *Router[C]) takeShared(sh *fanout.Share[C], m *message.Message) {
	if sh.Gone || !sh.C.TakeShared(sh, m) {
		r.dealBy(m, sh.ID, sh.Home)
	}
}
