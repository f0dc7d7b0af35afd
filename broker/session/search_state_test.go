package session

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"

	"noctule/codec"
)

// stateMax is more than an encoded world has, in bytes.
const stateMax = 2048

// hash is that of the encoded world.
func (w *world) hash() uint64 { return xxhash.Sum64(w.encode(w.sc.after[:0])) }

// encode appends the world in a form that is the same for worlds that cannot be told apart from now on. Numbers
// of messages go by their order among those that are still somewhere, packet ids of the broker's by their
// distance from the last that was given. A run that looks at the place where ids begin at 1 again keeps them.
func (w *world) encode(b []byte) []byte {
	e := encoder{b: b, live: w.live(), upLive: w.upLive(), exact: w.sc.exact}
	if w.s.out != nil {
		e.last = w.s.out.flight.last
	}
	e.bits(w.serverUp, w.clientUp, w.small, w.slow, w.s.online, w.s.held, w.wanted, w.reading)
	e.bits(w.s.out == nil, w.now > 0)
	e.byte(w.window, uint8(w.s.window))
	e.byte(e.upTo(e.live, w.top), e.upTo(e.live, w.lastSent[0]), e.upTo(e.live, w.lastSent[1]))
	e.byte(e.upTo(e.upLive, w.upTop[1]), e.upTo(e.upLive, w.upTop[2]))
	for s := e.live; s != 0; s &= s - 1 {
		f := &w.fates[bits.TrailingZeros64(uint64(s))]
		e.byte(f.qos | f.kind<<2)
		e.bits(f.sent, f.arrived, f.excused, f.lenient)
	}
	for s := e.upLive; s != 0; s &= s - 1 {
		n := uint8(bits.TrailingZeros64(uint64(s)))
		e.bits(w.upQoS2.has(n), w.routed.has(n), w.completed.has(n), w.upExcused.has(n))
	}
	e.session(&w.s)
	e.wire(w)
	e.store(&w.disk)
	return e.b
}

// live is the messages to the client that are still somewhere.
func (w *world) live() numbers {
	live := w.held
	for i := range w.down.all() {
		if p := &w.down.at[i]; p.t == codec.PUBLISH {
			live.add(p.n)
		}
	}
	for i := range w.gots {
		live.add(w.got[i].n)
	}
	for i := range w.opens {
		live.add(w.open[i].n)
	}
	d := &w.disk
	for i := range d.outs {
		live.add(d.out[i].n)
	}
	for i := range d.waiting {
		if o := &d.ops[i]; o.kind == Stored || o.kind == Moved {
			live.add(o.r.n)
		}
	}
	return live
}

// upLive is the client's own messages that are still somewhere.
func (w *world) upLive() (live numbers) {
	for i := range w.owns {
		live.add(w.own[i].n)
	}
	for i := range w.up.all() {
		if p := &w.up.at[i]; p.t == codec.PUBLISH {
			live.add(p.n)
		}
	}
	if w.s.in != nil {
		for _, m := range w.s.in.held {
			if m != nil {
				live.add(m.Payload[0])
			}
		}
	}
	d := &w.disk
	for i := range d.ins {
		live.add(d.in[i].n)
	}
	for i := range d.waiting {
		if o := &d.ops[i]; o.kind == Held || o.kind == passedOn {
			live.add(o.r.n)
		}
	}
	return live
}

type encoder struct {
	b            []byte
	live, upLive numbers
	last         uint16
	exact        bool
}

func (e *encoder) byte(list ...byte) { e.b = append(e.b, list...) }

func (e *encoder) bits(list ...bool) {
	var v byte
	for i, x := range list {
		if x {
			v |= 1 << i
		}
	}
	e.b = append(e.b, v)
}

// upTo is how many of a set are not above n.
func (e *encoder) upTo(s numbers, n uint8) uint8 { return s.below(n + 1) }

// id is a packet id that the broker has given.
func (e *encoder) id(id uint16) {
	if id != 0 && !e.exact {
		id = e.last - id + 1000
	}
	e.b = binary.BigEndian.AppendUint16(e.b, id)
}

func (e *encoder) session(s *Session) {
	if o := s.out; o != nil {
		f := &o.flight
		e.byte(byte(f.list.Len()), byte(o.queue.Len()), byte(f.used), byte(f.resent), byte(f.gaps), byte(o.bytes))
		if e.exact {
			e.id(f.last)
		}
		for i := range f.list.Len() {
			e.entry(f.list.At(i))
		}
		if f.old == nil {
			e.byte(0)
		} else {
			e.byte(1, byte(f.old.next), byte(f.old.young), byte(f.old.popped))
			for _, p := range f.old.places {
				e.id(p.id)
				e.byte(byte(p.at))
			}
		}
		for i := range o.queue.Len() {
			e.entry(o.queue.At(i))
		}
		if o.kept == nil {
			e.byte(0)
		} else {
			e.byte(1, byte(o.kept.away.Len()))
			e.bits(o.kept.asked)
			for i := range o.kept.away.Len() {
				e.byte(e.live.below(byte((*o.kept.away.At(i)).ID)))
			}
		}
	}
	if s.in == nil {
		e.byte(0)
		return
	}
	e.byte(byte(len(s.in.held)))
	ids := make([]uint16, 0, 4)
	for id := range s.in.held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		e.byte(byte(id), 255)
		if m := s.in.held[id]; m != nil {
			e.b[len(e.b)-1] = e.upLive.below(m.Payload[0])
		}
	}
}

// entry is one of the machine's; that its seq is in order is an invariant, so it need not be here.
func (e *encoder) entry(x *entry) {
	e.byte(byte(x.state), byte(x.flags), 255)
	if x.m != nil {
		e.b[len(e.b)-1] = e.live.below(x.m.Payload[0])
	}
	e.id(x.id)
}

func (e *encoder) wire(w *world) {
	e.byte(byte(w.down.n), byte(w.up.n), byte(w.answers.n), byte(w.gots), byte(w.owns), byte(w.opens), byte(w.reads))
	for i := range w.down.all() {
		p := &w.down.at[i]
		e.byte(byte(p.t), p.qos, p.gate)
		e.bits(p.dup, p.refused)
		if p.t == codec.PUBLISH || p.t == codec.PUBREL {
			e.byte(e.live.below(p.n))
			e.id(p.id)
		} else {
			e.byte(byte(p.id))
		}
	}
	for i := range w.up.all() {
		p := &w.up.at[i]
		e.byte(byte(p.t), p.qos)
		e.bits(p.dup, p.refused)
		if p.t == codec.PUBLISH || p.t == codec.PUBREL {
			e.byte(e.upLive.below(p.n), byte(p.id))
		} else {
			e.id(p.id)
		}
	}
	for i := range w.answers.all() {
		p := &w.answers.at[i]
		e.byte(byte(p.t))
		e.bits(p.refused)
		e.id(p.id)
	}
	for i := range w.gots {
		e.byte(e.live.below(w.got[i].n))
		e.id(w.got[i].id)
	}
	for i := range w.owns {
		m := &w.own[i]
		e.byte(e.upLive.below(m.n), byte(m.id), m.qos)
		e.bits(m.comp)
	}
	var open [8]handshake
	list := open[:copy(open[:], w.open[:w.opens])]
	slices.SortFunc(list, func(a, b handshake) int { return int(a.n) - int(b.n) + (int(a.id)-int(b.id))<<8 })
	for i := range list {
		h := &list[i]
		e.byte(e.live.below(h.n), h.qos)
		e.bits(h.comp, h.here)
		e.id(h.id)
	}
	for _, n := range w.read[:w.reads] {
		e.byte(e.live.below(n))
	}
}

func (e *encoder) store(d *turns) {
	e.byte(byte(d.outs), byte(d.ins), byte(d.waiting))
	var buf [10]record
	list := buf[:copy(buf[:], d.out[:d.outs])]
	slices.SortFunc(list, func(a, b record) int { return int(a.seq) - int(b.seq) })
	for i := range list {
		e.record(&list[i], Stored)
	}
	list = buf[:copy(buf[:], d.in[:d.ins])]
	slices.SortFunc(list, func(a, b record) int { return int(a.id) - int(b.id) })
	for i := range list {
		e.record(&list[i], Held)
	}
	for i := range d.waiting {
		e.byte(byte(d.ops[i].kind))
		e.bits(d.ops[i].last)
		e.record(&d.ops[i].r, d.ops[i].kind)
	}
}

func (e *encoder) record(r *record, k ChangeKind) {
	e.byte(r.qos, byte(r.state))
	e.bits(r.whole, r.denied)
	switch k {
	case Held, Released, Superseded, passedOn:
		e.byte(e.upLive.below(r.n), byte(r.id))
	default:
		e.byte(e.live.below(r.n))
		e.id(r.id)
	}
}

// String is the packet as a trace shows it.
func (p *packet) String() string {
	s := p.t.String()
	if p.t == codec.PUBLISH {
		s += fmt.Sprintf(" #%d q%d", p.n, p.qos)
	}
	if p.id != 0 {
		s += fmt.Sprintf(" m%d", p.id)
	}
	if p.dup {
		s += " dup"
	}
	if p.refused {
		s += " refused"
	}
	if p.gate > 0 {
		s += " (waits for the store)"
	}
	return s
}

// say notes something in the trace of a counterexample.
func (w *world) say(format string, args ...any) {
	if w.log != nil {
		*w.log = append(*w.log, fmt.Sprintf(format, args...))
	}
}
