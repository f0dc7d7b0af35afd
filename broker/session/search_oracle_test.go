package session

import (
	"math/bits"

	"noctule/broker/message"
	"noctule/codec"
)

// What the search knows without asking the machine: what was sent and answered on the wire, what arrived, and
// what the store was told. The world is the machine's Sink.

func (w *world) openAt(id uint16) int {
	return find(w.open[:w.opens], func(h *handshake) bool { return h.id == id })
}

// here is how many deliveries are under way on this connection.
func (w *world) here() (n int) {
	for i := range w.opens {
		if w.open[i].here {
			n++
		}
	}
	return n
}

// SendPublish implements Sink.
func (w *world) SendPublish(m *message.Message, d message.Delivery) bool {
	n, kind := m.Payload[0], m.Payload[1]
	f := &w.fates[n]
	switch {
	case !w.serverUp:
		panic(breachf("message %d is sent without a connection", n))
	case n <= w.lastSent[min(d.QoS, 1)]:
		panic(breachf("message %d is sent behind %d on one connection [MQTT-4.4.0-1] [MQTT-4.6.0-6]",
			n, w.lastSent[min(d.QoS, 1)]))
	case d.QoS != f.qos:
		panic(breachf("message %d is sent with QoS %d, not %d", n, d.QoS, f.qos))
	case kind == fading && w.now > 0 && !f.sent:
		panic(breachf("message %d has expired and is sent [MQTT-3.3.2-5]", n))
	}
	if d.QoS > 0 {
		w.checkSend(n, &d, f)
	}
	at := find(w.open[:w.opens], func(h *handshake) bool { return h.n == n })
	if kind == big && w.small {
		f.excused = true
		switch {
		case at < 0:
		case d.QoS == 2: // the client may have it: PUBREL follows
			w.open[at].comp = true
		default:
			w.opens = remove(w.open[:w.opens], at)
		}
		return false
	}
	w.lastSent[min(d.QoS, 1)], f.sent = n, true
	if d.QoS > 0 {
		if at < 0 {
			at = int(w.opens)
			w.opens++
		}
		w.open[at] = handshake{id: d.PacketID, n: n, qos: d.QoS, here: true}
		w.checkWindow()
	}
	if w.sc.durable && d.QoS == 2 && !d.Dup {
		w.turnGated = true // for its packet id
	}
	w.pushDown(packet{t: codec.PUBLISH, id: d.PacketID, n: n, qos: d.QoS, dup: d.Dup})
	if w.slow {
		w.slow = false
		w.s.Hold()
	}
	return true
}

// checkSend holds DUP and packet id of a PUBLISH against what was sent before.
func (w *world) checkSend(n uint8, d *message.Delivery, f *fate) {
	switch {
	case d.PacketID == 0:
		panic(breachf("message %d is sent with packet id 0 [MQTT-2.2.1-2]", n))
	case d.Dup && !f.sent && !f.lenient:
		panic(breachf("message %d is sent first with DUP [MQTT-3.3.1-1]", n))
	case !d.Dup && f.sent && !f.lenient:
		panic(breachf("message %d is sent again without DUP [MQTT-3.3.1-1]", n))
	}
	for i := range w.opens {
		h := &w.open[i]
		switch {
		case h.n != n && h.id == d.PacketID:
			panic(breachf("message %d has packet id %d, as message %d [MQTT-2.2.1-4]", n, h.id, h.n))
		case h.n == n && h.id != d.PacketID:
			panic(breachf("message %d has packet id %d, before it had %d [MQTT-4.4.0-1]", n, d.PacketID, h.id))
		case h.n == n && h.comp:
			panic(breachf("message %d is sent again behind its PUBREC [MQTT-4.3.3-6]", n))
		case h.n == n && h.here:
			panic(breachf("message %d is sent twice on one connection", n))
		}
	}
}

func (w *world) checkWindow() {
	if n := w.here(); n > int(w.window) {
		panic(breachf("%d messages in flight, Receive Maximum is %d [MQTT-3.3.4-9]", n, w.window))
	}
}

// pushDown puts a packet on the wire to the client.
func (w *world) pushDown(p packet) {
	if w.turnGated {
		p.gate = gateNow
	}
	if w.log != nil {
		w.say("  sends %s", p.String())
	}
	if w.clientUp {
		w.down.push(p)
	}
}

// SendAck implements Sink.
func (w *world) SendAck(t codec.Type, id uint16, r codec.Reason) {
	if !w.serverUp {
		panic(breachf("%s %d is sent without a connection", t, id))
	}
	if t == codec.PUBREL {
		i := w.openAt(id)
		switch {
		case i >= 0 && w.open[i].qos == 2 && w.open[i].comp:
			w.open[i].here = true
			w.checkWindow()
		case i >= 0 || r == codec.Success && !w.lenient():
			panic(breachf("PUBREL %d without PUBREC [MQTT-4.3.3-4]", id))
		case r == codec.Success: // of a handshake that began before a crash
			w.open[w.opens] = handshake{id: id, qos: 2, comp: true, here: true}
			w.opens++
			w.checkWindow()
		}
	}
	w.turnGated = w.turnGated || w.disk.open
	w.pushDown(packet{t: t, id: id, refused: t == codec.PUBREC && r >= 0x80})
}

// lenient reports whether there was a crash, behind which handshakes are not known here.
func (w *world) lenient() bool { return w.fates[0].lenient }

// ends takes note of an acknowledgement that ends a delivery.
func (w *world) ends(id uint16, qos uint8, comp bool) {
	i := w.openAt(id)
	if i < 0 {
		return
	}
	if h := &w.open[i]; h.qos != qos || h.comp != comp {
		panic(breachf("the client answers packet id %d, of message %d, as it was not sent", id, h.n))
	}
	w.opens = remove(w.open[:w.opens], i)
}

// Changed implements Sink.
func (w *world) Changed(c Change) {
	r := record{seq: c.Seq, id: c.ID, qos: c.Grant.QoS, state: c.State}
	if m := c.Message; m != nil {
		r.n, r.whole = m.Payload[0], true
		if len(m.Payload) > 1 {
			r.kind = m.Payload[1]
		}
	} else if c.Away != nil {
		r.n, r.whole = uint8(c.Away.ID), true
	}
	switch c.Kind {
	case Expired:
		if w.fates[r.n].kind != fading || w.now == 0 {
			panic(breachf("message %d has not expired", r.n))
		}
		w.fates[r.n].excused = true
		return
	case Wanted:
		if w.wanted {
			panic(breach("messages are wanted twice"))
		}
		w.wanted = true
		return
	case Superseded:
		if c.Message != nil {
			panic(breachf("lost: the client's message %d gives way", r.n))
		}
		if !w.sc.durable {
			return
		}
	case Yielded:
		r.whole = false
	case Stored:
		if c.Seq == 0 {
			panic(breach("a message without a place is stored"))
		}
	case Held:
		r.denied = c.Message == nil
	case Moved, Removed, Released:
	}
	if w.log != nil {
		w.say("  tells %d: %+v", c.Kind, r)
	}
	if !w.sc.durable {
		panic(breachf("a session that is not durable tells %d", c.Kind))
	}
	w.disk.note(c.Kind, r)
}

// check holds the world against what must be so between two steps.
func (w *world) check() {
	w.checkLost()
	s, o := &w.s, w.s.out
	if o == nil {
		return
	}
	o.checkFlight()
	n := w.here()
	if s.online != w.serverUp {
		panic(breach("online is not whether there is a connection"))
	}
	if s.online && s.Inflight() != n {
		panic(breachf("%d messages are in flight, the machine counts %d", n, s.Inflight()))
	}
	if err := s.Check(); err != nil {
		panic(breach(err.Error()))
	}
	w.checkStuck(o, s.Inflight())
	w.checkQueue(o)
	want := Totals{int64(s.Queued()), s.QueuedBytes(), s.AwayBytes(), int64(s.Inflight())}
	if w.totals != want {
		panic(breachf("totals are %+v, want %+v", w.totals, want))
	}
}

// checkLost looks at the messages that the session has no longer.
func (w *world) checkLost() {
	var held numbers
	if o := w.s.out; o != nil {
		for i := range o.flight.list.Len() {
			if m := o.flight.list.At(i).m; m != nil {
				held.add(m.Payload[0])
			}
		}
		loaded := o.loaded()
		for i := range o.queue.Len() {
			if m := o.queue.At(i).m; m != nil {
				held.add(m.Payload[0])
			} else {
				held.add(uint8((*o.kept.away.At(i - loaded)).ID))
			}
		}
	}
	for gone := w.held &^ held; gone != 0; gone &= gone - 1 {
		n := uint8(bits.TrailingZeros64(uint64(gone)))
		if f := &w.fates[n]; !f.arrived && !f.excused && (f.qos > 0 || !f.sent) {
			panic(breachf("lost: message %d with QoS %d", n, f.qos))
		}
	}
	w.held = held
}

// checkStuck finds messages that wait although nothing keeps them.
func (w *world) checkStuck(o *outbound, n int) {
	s := &w.s
	if !s.online || s.held || n >= int(w.window) {
		return
	}
	f := &o.flight
	if int(f.resent) < f.list.Len() {
		panic(breachf("%d of %d in flight, and one is not sent again", n, w.window))
	}
	if l := s.limits.InflightBytes; o.queue.Len() == 0 || l > 0 && n > 0 && o.bytes >= l {
		return
	}
	if o.loaded() > 0 {
		panic(breachf("%d of %d in flight, and one waits", n, w.window))
	}
	if !w.wanted || !o.kept.asked {
		panic(breach("messages wait in the store, and nobody asks for them"))
	}
}

// checkFlight holds the flight against its invariants.
func (o *outbound) checkFlight() {
	f := &o.flight
	gaps, sum := 0, int64(0)
	for i := range f.list.Len() {
		e := f.list.At(i)
		if e.state == done {
			gaps++
			if i == 0 || e.m != nil {
				panic(breachf("place %d of the flight is a gap, message %v", i, e.m))
			}
			continue
		}
		if e.id == 0 || (e.m == nil) != (e.state == WaitComp) {
			panic(breachf("place %d of the flight: packet id %d, state %d, message %v", i, e.id, e.state, e.m))
		}
		if k, ok := f.find(e.id); !ok || k != i {
			panic(breachf("packet id %d is at %d and is found at %d, %v", e.id, i, k, ok))
		}
		if i < int(f.resent) && e.m != nil {
			sum += e.m.Size()
		}
	}
	if gaps != int(f.gaps) || int(f.resent) > f.list.Len() || sum != o.bytes {
		panic(breachf("%d gaps, %d counted; %d resent of %d; %d bytes, %d counted",
			gaps, f.gaps, f.resent, f.list.Len(), sum, o.bytes))
	}
}

// checkQueue holds the queue, and what is not in memory, against the invariants of kept.
func (w *world) checkQueue(o *outbound) {
	var last uint64
	seqs := func(e *entry) {
		if e.state == done {
			return
		}
		if w.s.durable != (e.seq != 0) || w.s.durable && (e.seq <= last || e.seq > o.kept.seq) {
			panic(breachf("seq %d behind %d", e.seq, last))
		}
		last = e.seq
	}
	for i := range o.flight.list.Len() {
		seqs(o.flight.list.At(i))
	}
	var all, away int64
	loaded := o.loaded()
	for i := range o.queue.Len() {
		e := o.queue.At(i)
		seqs(e)
		if (e.m == nil) != (i >= loaded) {
			panic(breachf("place %d of the queue, %d loaded: message %v", i, loaded, e.m))
		}
		var size int64
		if e.m != nil {
			size = e.m.Size()
		} else {
			size = (*o.kept.away.At(i - loaded)).Size
			away += size
		}
		all += size
	}
	if o.queueBytes != all || w.s.AwayBytes() != away {
		panic(breachf("%d bytes wait, %d of them away; counted %d, %d", all, away, o.queueBytes, w.s.AwayBytes()))
	}
	if m := w.s.limits.Memory; m != nil && m.Used() != all-away {
		panic(breachf("%d bytes are in memory, counted %d", all-away, m.Used()))
	}
	if l := w.s.limits.Queued; l > 0 && o.queue.Len() > l && !w.lenient() {
		panic(breachf("%d messages wait, at most %d", o.queue.Len(), l))
	}
	if o.kept != nil && o.kept.asked != w.wanted {
		panic(breachf("asked %v, told %v", o.kept.asked, w.wanted))
	}
}

// checkStrays gives a copy answers that no client owes: they change nothing, and end the connection if they do
// not fit a packet id that is in use.
func (w *world) checkStrays() {
	if w.s.out == nil || !w.serverUp {
		return
	}
	before, after := &w.sc.before, &w.sc.after
	old := w.encode(before[:0])
	for _, id := range w.strays() {
		used := w.openAt(id)
		for _, t := range []codec.Type{codec.PUBACK, codec.PUBREC, codec.PUBCOMP} {
			if used >= 0 && w.open[used].fits(t) {
				continue
			}
			c := w.clone()
			c.down, c.clientUp = line{}, true
			var err error
			switch t {
			case codec.PUBACK:
				err = c.s.Puback(id, c.now, c)
			case codec.PUBREC:
				err = c.s.Pubrec(id, codec.Success, c.now, c)
			default:
				err = c.s.Pubcomp(id, c.now, c)
			}
			said := c.down.n
			c.down, c.clientUp = w.down, w.clientUp
			switch {
			case (err != nil) != (used >= 0):
				panic(breachf("%s %d, which nobody owes: %v", t, id, err))
			case string(c.encode(after[:0])) != string(old) || said > 1 || said == 1 && t != codec.PUBREC:
				panic(breachf("%s %d, which nobody owes, changes something", t, id))
			}
			c.giveBack()
		}
	}
}

// strays are packet ids: those in use on this connection, and one that is not.
func (w *world) strays() []uint16 {
	var list []uint16
	for i := range w.opens {
		list = append(list, w.open[i].id)
	}
	free := w.s.out.flight.last + 1000
	if w.lenient() {
		return nil
	}
	return append(list, free%65535+1)
}

// fits reports whether an acknowledgement is one that the handshake may get.
func (h *handshake) fits(t codec.Type) bool {
	switch t {
	case codec.PUBACK:
		return h.qos == 1
	case codec.PUBREC:
		return h.qos == 2
	default:
		return h.qos == 2 && h.comp
	}
}

// checkRest brings copies to rest: on the connection there is, on a new one and, of a durable session, after a
// crash. All that was accepted must arrive, and nothing may be left.
func (w *world) checkRest() {
	if w.serverUp && w.clientUp {
		c := w.clone()
		c.rest("on this connection")
		c.giveBack()
	}
	c := w.clone()
	c.connect(2, false)
	c.endTurn()
	c.check()
	c.rest("on a new connection")
	c.giveBack()
	if w.sc.durable {
		c = w.clone()
		c.crash()
		c.connect(2, false)
		c.endTurn()
		c.check()
		c.rest("after a crash")
		c.giveBack()
	}
}

// rest goes on until nothing is left to do, or until a state from which that was done before.
func (w *world) rest(where string) {
	way := w.sc.way[:]
	for n := range way {
		h := w.hash()
		a, ok := w.settling()
		switch {
		case w.log == nil && w.sc.settled.has(h):
		case !ok:
			w.checkResting(where)
		default:
			way[n] = h
			w.take(a)
			continue
		}
		for _, h := range way[:n] {
			w.sc.settled.add(h)
		}
		return
	}
	panic(breachf("%s there is no end", where))
}

// settling is an action that brings the world nearer to rest.
func (w *world) settling() (action, bool) {
	for _, a := range []action{commitTurn, drained, readAway, supplyAll, brokerNext, clientNext, answerFirst} {
		if actions[a].can(w) {
			return a, true
		}
	}
	return 0, false
}

// checkEnd ends the session of a copy and takes its messages out: by a shared subscription what waits and what was
// sent with QoS 1 goes to others, once and in order, and what was sent with QoS 2 does not [MQTT-4.8.2-5].
func (w *world) checkEnd() {
	var want numbers
	if o := w.s.out; o != nil {
		want = w.held
		for i := range o.flight.list.Len() {
			if e := o.flight.list.At(i); e.m != nil && e.qos() == 2 {
				want &^= 1 << e.m.Payload[0]
			}
		}
		for n := range w.next {
			if want.has(n) && w.fates[n].qos == 0 {
				want &^= 1 << n
			}
		}
	}
	c := w.clone()
	c.cutServer()
	var got numbers
	last := uint8(0)
	for range 100 {
		switch c.s.Bequeath(1, c, func(m *message.Message, share uint8) {
			n := m.Payload[0]
			if n <= last || share != 1 || !want.has(n) {
				panic(breachf("message %d, mark %d, goes to another member behind %d", n, share, last))
			}
			last = n
			got.add(n)
		}) {
		case AwayLeft:
			c.readMessages()
			c.serverSupply()
		case SomeLeft:
		case NoneLeft:
			c.endTurn()
			for c.disk.depth() > 0 {
				c.commit()
			}
			c.s.End()
			if got != want || c.totals != (Totals{}) || c.disk.outs > 0 {
				panic(breachf("messages %b go to other members, not %b; %+v, %d stored", got, want, c.totals, c.disk.outs))
			}
			c.giveBack()
			return
		}
	}
	panic(breach("a session never ends"))
}

func (w *world) checkResting(where string) {
	s := &w.s
	switch {
	case w.held != 0 || s.Queued() > 0:
		panic(breachf("%s messages %b are never sent", where, w.held))
	case s.out != nil && (s.out.flight.list.Len() > 0 || s.Inflight() > 0):
		panic(breachf("%s %d packet ids are never free", where, s.out.flight.list.Len()))
	case s.out != nil && s.out.flight.old != nil:
		panic(breachf("%s old packet ids are never forgotten", where))
	case w.opens > 0:
		panic(breachf("%s %d deliveries never end", where, w.opens))
	case s.Unreleased() > 0 || w.owns > 0:
		panic(breachf("%s %d handshakes of the client never end, it knows of %d", where, s.Unreleased(), w.owns))
	case w.gots > 0:
		panic(breachf("%s PUBREL %d never comes", where, w.got[0].id))
	case w.disk.outs+w.disk.ins > 0:
		panic(breachf("%s the store has %d messages and %d handshakes", where, w.disk.outs, w.disk.ins))
	}
}
