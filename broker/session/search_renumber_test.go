package session

import (
	"bytes"
	"math/bits"

	"noctule/broker/message"
)

// renumber gives the messages that are still somewhere the numbers from 1 on, in their order. What a world is
// encoded as does not change.
func (w *world) renumber() {
	before := w.encode(nil)
	defer func() {
		if !bytes.Equal(before, w.encode(nil)) {
			panic(breach("the search is wrong: another number makes another state"))
		}
	}()
	live, upLive := w.live(), w.upLive()
	to := func(n uint8) uint8 {
		if n == 0 {
			return 0
		}
		return live.below(n) + 1
	}
	up := func(n uint8) uint8 { return upLive.below(n) + 1 }
	w.renumberSession(to, up)
	var fates [mostNumbers]fate
	fates[0] = w.fates[0]
	for s := live &^ 1; s != 0; s &= s - 1 {
		n := uint8(bits.TrailingZeros64(uint64(s)))
		fates[to(n)] = w.fates[n]
	}
	w.top = (live &^ 1).below(w.top + 1)
	for i, n := range w.lastSent {
		w.lastSent[i] = (live &^ 1).below(n + 1)
	}
	w.upTop[1], w.upTop[2] = upLive.below(w.upTop[1]+1), upLive.below(w.upTop[2]+1)
	w.fates, w.next = fates, uint8(bits.OnesCount64(uint64(live&^1)))+1
	for _, s := range []*numbers{&w.routed, &w.completed, &w.upQoS2, &w.upExcused} {
		*s = s.renumbered(upLive)
	}
	w.upNext = uint8(bits.OnesCount64(uint64(upLive))) + 1
	w.held = w.held.renumbered(live &^ 1)
	for i := range w.down.all() {
		w.down.at[i].n = to(w.down.at[i].n)
	}
	for i := range w.up.all() {
		if p := &w.up.at[i]; p.n != 0 {
			p.n = up(p.n)
		}
	}
	for i := range w.gots {
		w.got[i].n = to(w.got[i].n)
	}
	for i := range w.opens {
		w.open[i].n = to(w.open[i].n)
	}
	for i := range w.owns {
		w.own[i].n = up(w.own[i].n)
	}
	for i := range w.reads {
		w.read[i] = to(w.read[i])
	}
	d := &w.disk
	for i := range d.outs {
		d.out[i].n = to(d.out[i].n)
	}
	for i := range d.ins {
		d.in[i].n = up(d.in[i].n)
	}
	for i := range d.waiting {
		switch o := &d.ops[i]; o.kind {
		case Held, Released, Superseded, passedOn:
			o.r.n = up(o.r.n)
		default:
			o.r.n = to(o.r.n)
		}
	}
}

// renumbered is what is left of s among the live, by their new numbers.
func (s numbers) renumbered(live numbers) (out numbers) {
	for l := live; l != 0; l &= l - 1 {
		if n := uint8(bits.TrailingZeros64(uint64(l))); s.has(n) {
			out.add(live.below(n) + 1)
		}
	}
	return out
}

// renumberSession puts other messages into the session.
func (w *world) renumberSession(to, up func(uint8) uint8) {
	down := func(m *message.Message) *message.Message {
		if m == nil {
			return nil
		}
		return w.sc.made.down[m.Payload[1]][to(m.Payload[0])]
	}
	if o := w.s.out; o != nil {
		for i := range o.flight.list.Len() {
			e := o.flight.list.At(i)
			e.m = down(e.m)
		}
		for i := range o.queue.Len() {
			e := o.queue.At(i)
			e.m = down(e.m)
		}
		if o.kept != nil {
			for i := range o.kept.away.Len() {
				at := o.kept.away.At(i)
				n := uint8((*at).ID)
				*at = w.sc.made.down[w.fates[n].kind][to(n)].Stored
			}
		}
	}
	if w.s.in != nil {
		for id, m := range w.s.in.held {
			if m != nil {
				w.s.in.held[id] = w.sc.made.up[up(m.Payload[0])]
			}
		}
	}
}
