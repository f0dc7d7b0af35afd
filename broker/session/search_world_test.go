package session

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"noctule/broker/message"
	"noctule/codec"
	"noctule/internal/ring"
)

// The world that the search walks through: one session, a client that keeps to MQTT, the wire between them in
// both directions, and a store that is a step behind. What a step does is a function of the world alone.

// kinds of messages to the client.
const (
	plain  = iota
	big    // a connection may refuse it
	fading // it expires with the tick
	kinds
)

// mostNumbers bounds how many messages of one direction have numbers at a time; a set of them is one word. From
// renumberAt on those that are left begin at 1 again.
const (
	mostNumbers = 60
	renumberAt  = 40
)

// numbers is a set of message numbers.
type numbers uint64

func (s numbers) has(n uint8) bool { return s>>n&1 == 1 }
func (s *numbers) add(n uint8)     { *s |= 1 << n }

// below is how many members are less than n: the name of n among them, whatever was before.
func (s numbers) below(n uint8) uint8 { return uint8(bits.OnesCount64(uint64(s & (1<<n - 1)))) }

// packet is one packet on the wire, or one answer that the client owes.
type packet struct {
	t       codec.Type
	id      uint16
	n       uint8 // of a PUBLISH
	qos     uint8
	dup     bool
	refused bool  // PUBREC with a reason that is an error
	gate    uint8 // turns that must be stored before it leaves the broker
}

// line is packets in their order.
type line struct {
	n  int8
	at [12]packet
}

func (l *line) all() []packet { return l.at[:l.n] }

func (l *line) push(p packet) {
	if int(l.n) == len(l.at) {
		panic(breach("more than 12 packets are under way in one direction"))
	}
	l.at[l.n] = p
	l.n++
}

func (l *line) take(i int8) packet {
	p := l.at[i]
	copy(l.at[i:], l.at[i+1:l.n])
	l.n--
	l.at[l.n] = packet{}
	return p
}

// breach is the panic of an invariant that does not hold.
type breach string

func breachf(format string, args ...any) breach { return breach(fmt.Sprintf(format, args...)) }

// record is what the store has of one outgoing message or, with qos 0 and without seq, of an incoming one.
type record struct {
	seq    uint64
	id     uint16
	n      uint8
	qos    uint8
	kind   uint8
	state  State
	whole  bool // with its message
	denied bool // an incoming one that goes nowhere
}

// op is one change on its way into the store.
type op struct {
	kind ChangeKind
	last bool // of its turn
	r    record
}

// passedOn is the kind of an op that is no change of the session: an incoming message goes to subscribers.
const passedOn ChangeKind = 100

// turns is the store: what is durable, and turns that are not yet.
type turns struct {
	out, in [10]record
	outs    int8
	ins     int8
	ops     [40]op
	waiting int8 // ops
	open    bool // the last op's turn has not ended
}

// mine is one message of the client's own that it has not finished with.
type mine struct {
	id   uint16
	n    uint8
	qos  uint8
	comp bool // PUBREL is sent
}

// fate is what the oracle knows of a message to the client.
type fate struct {
	qos, kind uint8
	sent      bool // on some connection
	arrived   bool
	excused   bool // refused, expired, too large, or not stored when the broker crashed
	lenient   bool // there was a crash since it was sent: DUP and packet id of QoS 1 may be others
}

// handshake is a delivery to the client that has begun, as its packets say.
type handshake struct {
	id   uint16
	n    uint8
	qos  uint8
	comp bool // PUBREC has come
	here bool // on this connection
}

// world is a state of the search. Copied by clone.
type world struct {
	sc     *scenario
	s      Session
	limits Limits
	totals Totals

	now                int64 // 0 or 1
	serverUp, clientUp bool
	small, slow        bool
	window             uint8
	down, up           line // to the client, to the broker
	disk               turns
	turnGated          bool // in this step, what is sent waits for its turn
	wanted, reading    bool
	read               [2]uint8
	reads              int8
	answers            line    // that the client owes
	got                [6]mine // QoS 2 that the client has, and PUBREL has not come for
	gots               int8    //
	own                [3]mine // the client's own, oldest first
	owns               int8    //
	open               [8]handshake
	opens              int8
	next, upNext       uint8    // numbers
	top                uint8    // highest of QoS 1 and 2 that arrived
	lastSent           [2]uint8 // highest that was sent on this connection, of QoS 0, of others
	upTop              [3]uint8
	fates              [mostNumbers]fate
	held               numbers // messages that the session has, after the last step
	routed, completed  numbers // the client's own, passed on, and done with
	upQoS2, upExcused  numbers
	log                *[]string

	// What clone uses again:
	out    *outbound
	in     *inbound
	kept   *kept
	memory *Memory
}

// messages made once: they are never written to.
type catalogue struct {
	down [kinds][mostNumbers]*message.Message
	up   [mostNumbers]*message.Message
}

func newCatalogue() *catalogue {
	c := &catalogue{}
	for n := range uint8(mostNumbers) {
		for k := range uint8(kinds) {
			m := message.New([]byte("t"), []byte{n, k}, 2, false)
			if k == fading {
				m.Expiry = 1
			}
			m.Stored = message.NewStored(uint64(n), m)
			c.down[k][n] = m
		}
		c.up[n] = message.New([]byte("t"), []byte{n}, 2, false)
		c.up[n].Stored = message.NewStored(1000+uint64(n), c.up[n])
	}
	return c
}

func newWorld(sc *scenario) *world {
	w := &world{
		sc: sc, next: 1, upNext: 1, out: &outbound{}, kept: &kept{}, memory: &Memory{},
		in: &inbound{held: make(map[uint16]*message.Message)},
	}
	w.fresh()
	return w
}

// fresh makes the session anew.
func (w *world) fresh() {
	w.limits, w.totals = w.sc.limits, Totals{}
	w.limits.Totals = &w.totals
	if w.sc.memory >= 0 {
		w.limits.Memory = &Memory{Bound: w.sc.memory}
	}
	w.s = New(&w.limits)
	if w.sc.durable {
		w.s.SetDurable()
	}
}

// clone is a world that shares nothing that changes. It is made in one that was given back, if there is one.
func (w *world) clone() *world {
	pool := &w.sc.spare
	var c *world
	if n := len(*pool); n > 0 {
		c = (*pool)[n-1]
		*pool = (*pool)[:n-1]
	} else {
		c = &world{out: &outbound{}, in: &inbound{held: make(map[uint16]*message.Message)}, kept: &kept{}, memory: &Memory{}}
	}
	out, in, kept, memory := c.out, c.in, c.kept, c.memory
	*c = *w
	c.out, c.in, c.kept, c.memory = out, in, kept, memory
	c.limits.Totals = &c.totals
	if m := w.limits.Memory; m != nil {
		memory.Bound = m.Bound
		memory.used.Store(m.Used())
		c.limits.Memory = memory
	}
	c.s.limits = &c.limits
	if w.s.out != nil {
		w.s.out.copyTo(out, kept)
		c.s.out = out
	}
	if w.s.in != nil {
		in.bytes = w.s.in.bytes
		clear(in.held)
		maps.Copy(in.held, w.s.in.held)
		c.s.in = in
	}
	return c
}

// giveBack is for a world that is not used any more.
func (w *world) giveBack() { w.sc.spare = append(w.sc.spare, w) }

// copyTo makes c, whose memory it uses, a copy.
func (o *outbound) copyTo(c *outbound, k *kept) {
	list, queue, away := c.flight.list, c.queue, k.away
	*c = *o
	c.flight.list, c.queue = list, queue
	copyRing(&c.flight.list, &o.flight.list)
	copyRing(&c.queue, &o.queue)
	if old := o.flight.old; old != nil {
		x := *old
		x.places = slices.Clone(old.places)
		c.flight.old = &x
	}
	if o.kept != nil {
		*k = *o.kept
		k.away = away
		copyRing(&k.away, &o.kept.away)
		c.kept = k
	}
}

func copyRing[T any](to, from *ring.Ring[T]) {
	to.Truncate(0)
	for i := range from.Len() {
		to.Push(*from.At(i))
	}
}

// take does one action that is possible.
func (w *world) take(a action) {
	w.turnGated = false
	actions[a].do(w)
	w.endTurn()
	w.check()
	if w.next > renumberAt || w.upNext > renumberAt {
		w.renumber()
	}
}

// endTurn closes the turn of a step: packets that promise something wait for it.
func (w *world) endTurn() {
	if d := &w.disk; d.open {
		d.ops[d.waiting-1].last, d.open = true, false
	}
	depth := w.disk.depth()
	for i := range w.down.all() {
		if p := &w.down.at[i]; p.gate == gateNow {
			p.gate = depth
		}
	}
	for w.disk.depth() > turnsMost {
		w.commit()
	}
}

// gateNow marks packets of the turn under way; turnsMost is how far the store is behind at most.
const (
	gateNow   = 255
	turnsMost = 3
)

// depth is the number of turns that are not stored.
func (d *turns) depth() (n uint8) {
	for i := range d.waiting {
		if d.ops[i].last {
			n++
		}
	}
	return n
}

func (d *turns) note(k ChangeKind, r record) {
	d.ops[d.waiting] = op{kind: k, r: r}
	d.waiting++
	d.open = true
}

// commit makes the oldest turn durable.
func (w *world) commit() {
	d := &w.disk
	n := int8(0)
	for more := true; more; n++ {
		d.apply(&d.ops[n])
		more = !d.ops[n].last
	}
	copy(d.ops[:], d.ops[n:d.waiting])
	clear(d.ops[d.waiting-n : d.waiting])
	d.waiting -= n
	for i := range w.down.all() {
		if p := &w.down.at[i]; p.gate > 0 {
			p.gate--
		}
	}
}

func (d *turns) apply(o *op) {
	switch o.kind {
	case Stored, Moved, Yielded:
		if i := find(d.out[:d.outs], func(r *record) bool { return r.seq == o.r.seq }); i >= 0 {
			d.out[i] = o.r
			return
		}
		d.out[d.outs] = o.r
		d.outs++
	case Removed:
		if i := find(d.out[:d.outs], func(r *record) bool { return r.seq == o.r.seq }); i >= 0 {
			d.outs = remove(d.out[:d.outs], i)
		}
	case Held:
		if i := find(d.in[:d.ins], func(r *record) bool { return r.id == o.r.id }); i >= 0 {
			d.in[i] = o.r
			return
		}
		d.in[d.ins] = o.r
		d.ins++
	case Released, Superseded:
		if i := find(d.in[:d.ins], func(r *record) bool { return r.id == o.r.id }); i >= 0 {
			d.ins = remove(d.in[:d.ins], i)
		}
	}
}

func find[T any](list []T, f func(*T) bool) int {
	for i := range list {
		if f(&list[i]) {
			return i
		}
	}
	return -1
}

// remove takes one out of a list and returns the new length.
func remove[T any](list []T, i int) int8 {
	var zero T
	copy(list[i:], list[i+1:])
	list[len(list)-1] = zero
	return int8(len(list) - 1)
}

// crash makes the session again from what is durable.
func (w *world) crash() {
	d := &w.disk
	for i := range d.waiting { // what was passed on goes back with its turn
		if o := &d.ops[i]; o.kind == passedOn {
			if w.completed.has(o.r.n) {
				panic(breachf("the client's message %d was acknowledged before it was stored", o.r.n))
			}
			w.routed &^= 1 << o.r.n
		}
	}
	w.upTop = [3]uint8{}
	for n := range w.upNext {
		if q := w.qosUp(n); w.routed.has(n) {
			w.upTop[q] = n
		}
	}
	clear(d.ops[:d.waiting])
	d.waiting = 0
	for n := range w.next {
		f := &w.fates[n]
		if w.held.has(n) && find(d.out[:d.outs], func(r *record) bool { return r.n == n }) < 0 {
			f.excused = true // nobody was told that it is safe
		}
		f.lenient = true
	}
	w.cutServer()
	w.cutClient()
	w.wanted, w.reading, w.reads = false, false, 0
	w.fresh()
	w.opens = 0
	clear(w.open[:])
	var list []Change
	for i := range d.outs {
		r := &d.out[i]
		c := Change{Seq: r.seq, State: r.state, ID: r.id, Grant: w.sc.grant(r.qos)}
		if r.whole {
			c.Message = w.sc.made.down[r.kind][r.n]
		}
		list = append(list, c)
	}
	if w.sc.memory >= 0 {
		flying := len(Flying(list))
		for i := flying; i < len(list); i++ {
			if m := list[i].Message; m != nil {
				list[i].Away, list[i].Message = m.Stored, nil
			}
		}
	}
	if len(list) > 0 {
		w.s.Restore(list)
	}
	for i := range d.ins {
		r := &d.in[i]
		m := w.sc.made.up[r.n]
		if r.denied {
			m = nil
		}
		w.s.RestoreHeld(r.id, m)
	}
}

func (w *world) qosUp(n uint8) uint8 {
	if w.upQoS2.has(n) {
		return 2
	}
	return 1
}

// send puts a packet of the client on the wire, if there is one.
func (w *world) send(p packet) {
	if w.serverUp && w.clientUp {
		w.up.push(p)
	}
}

// cutServer is the broker's end of a connection gone, cutClient the client's.
func (w *world) cutServer() {
	if w.serverUp {
		w.s.Suspend()
	}
	w.serverUp, w.slow, w.small, w.window = false, false, false, 0
	w.up = line{}
	for i := range w.down.all() { // what has not left never does
		if w.down.at[i].gate > 0 {
			for w.down.n > int8(i) {
				w.down.take(w.down.n - 1)
			}
			break
		}
	}
	for i := range w.opens {
		w.open[i].here = false
	}
	w.lastSent = [2]uint8{}
}

func (w *world) cutClient() {
	w.clientUp = false
	w.down, w.answers = line{}, line{}
}

// connect is a CONNECT that resumes the session, from an earlier connection too.
func (w *world) connect(window uint8, small bool) {
	w.cutServer()
	w.cutClient()
	for w.disk.depth() > 0 { // CONNACK waits for its own turn and all before
		w.commit()
	}
	w.serverUp, w.clientUp, w.small, w.window = true, true, small, window
	rm := uint16(window)
	if !w.sc.v5 {
		rm = 0
		w.window = 2
	}
	for i := range w.owns { // the client sends again what it has not finished [MQTT-4.4.0-1]
		m := &w.own[i]
		if m.comp {
			w.up.push(packet{t: codec.PUBREL, id: m.id})
		} else {
			w.up.push(packet{t: codec.PUBLISH, id: m.id, n: m.n, qos: m.qos, dup: true})
		}
	}
	w.s.Resume(rm, w.now, w)
}

// publish gives the session a message for the client.
func (w *world) publish(qos, kind uint8) {
	n := w.next
	w.fates[n] = fate{qos: qos, kind: kind}
	full := w.s.QueueFull()
	busy := w.s.Busy()
	m := w.sc.made.down[kind][n]
	switch out := w.s.Deliver(m, w.sc.grant(qos), w); {
	case out == Sent && busy, out == Queued && !busy, out == DroppedQoS0:
		panic(breachf("Deliver says %d, busy %v, full %v", out, busy, full))
	case out == DroppedFull:
		if !full || !busy {
			panic(breach("a message is dropped though there is room"))
		}
		w.fates[n] = fate{}
		return
	case out == Queued && full:
		panic(breach("the queue has more than its limit"))
	}
	w.next++
}

// clientPublish begins a delivery to the broker.
func (w *world) clientPublish(qos uint8) {
	id := uint16(1)
	for w.ownAt(id) >= 0 {
		id++
	}
	n := w.upNext
	w.upNext++
	if qos == 2 {
		w.upQoS2.add(n)
	}
	w.own[w.owns] = mine{id: id, n: n, qos: qos}
	w.owns++
	w.send(packet{t: codec.PUBLISH, id: id, n: n, qos: qos})
}

func (w *world) ownAt(id uint16) int {
	return find(w.own[:w.owns], func(m *mine) bool { return m.id == id })
}

func (w *world) gotAt(id uint16) int {
	return find(w.got[:w.gots], func(m *mine) bool { return m.id == id })
}

// clientTakes is the client that handles the next packet; with refuse it turns a new QoS 2 message down.
func (w *world) clientTakes(refuse bool) {
	p := w.down.take(0)
	switch p.t {
	case codec.PUBLISH:
		w.clientTakesPublish(&p, refuse)
	case codec.PUBREL:
		if i := w.gotAt(p.id); i >= 0 {
			w.gots = remove(w.got[:w.gots], i)
		}
		w.answers.push(packet{t: codec.PUBCOMP, id: p.id})
	case codec.PUBREC:
		i := w.ownAt(p.id)
		switch {
		case i < 0:
			panic(breachf("PUBREC %d for nothing", p.id))
		case w.own[i].qos != 2:
			panic(breachf("PUBREC %d for QoS %d", p.id, w.own[i].qos))
		case p.refused:
			w.upExcused.add(w.own[i].n)
			w.owns = remove(w.own[:w.owns], i)
		case !w.own[i].comp:
			w.own[i].comp = true
			w.send(packet{t: codec.PUBREL, id: p.id})
		}
	default: // PUBACK, PUBCOMP
		i := w.ownAt(p.id)
		if i < 0 || (w.own[i].qos == 1) != (p.t == codec.PUBACK) || p.t == codec.PUBCOMP && !w.own[i].comp {
			panic(breachf("%s %d does not fit", p.t, p.id))
		}
		n := w.own[i].n
		if !w.routed.has(n) && !w.upExcused.has(n) {
			panic(breachf("lost: the client's message %d is acknowledged and was not passed on", n))
		}
		w.completed.add(n)
		w.owns = remove(w.own[:w.owns], i)
	}
}

func (w *world) clientTakesPublish(p *packet, refuse bool) {
	f := &w.fates[p.n]
	known := -1
	if p.qos == 2 {
		known = w.gotAt(p.id)
	}
	switch {
	case p.qos == 2 && known >= 0 && w.got[known].n != p.n:
		panic(breachf("lost: message %d comes under packet id %d, which message %d has", p.n, p.id, w.got[known].n))
	case known >= 0: // a repetition
		w.answers.push(packet{t: codec.PUBREC, id: p.id})
		return
	case p.qos == 2 && refuse:
		f.excused = true
		w.answers.push(packet{t: codec.PUBREC, id: p.id, refused: true})
		return
	case p.qos == 2 && f.arrived:
		panic(breachf("message %d with QoS 2 arrives twice [MQTT-4.3.3-10]", p.n))
	}
	if !f.arrived && p.qos > 0 {
		if p.n < w.top && !f.excused {
			panic(breachf("message %d arrives behind %d [MQTT-4.6.0-6]", p.n, w.top))
		}
		w.top = max(w.top, p.n)
	}
	f.arrived = true
	switch p.qos {
	case 1:
		w.answers.push(packet{t: codec.PUBACK, id: p.id})
	case 2:
		w.got[w.gots] = mine{id: p.id, n: p.n, qos: 2}
		w.gots++
		w.answers.push(packet{t: codec.PUBREC, id: p.id})
	}
}

// brokerTakes is the broker that handles the next packet; with refuse it turns a QoS 2 message down.
func (w *world) brokerTakes(refuse bool) {
	p := w.up.take(0)
	var err error
	switch p.t {
	case codec.PUBLISH:
		if p.qos == 1 {
			w.route(p.n)
			w.SendAck(codec.PUBACK, p.id, codec.Success)
			break
		}
		m := w.sc.made.up[p.n]
		switch {
		case refuse && w.sc.v5:
			err = w.s.Receive(p.id, m, codec.NotAuthorized, w)
		case refuse:
			w.upExcused.add(p.n)
			err = w.s.ReceiveDenied(p.id, m, w)
		default:
			err = w.s.Receive(p.id, m, codec.Success, w)
		}
	case codec.PUBREL:
		m, r := w.s.Release(p.id, w)
		if m != nil {
			w.route(m.Payload[0])
		}
		w.SendAck(codec.PUBCOMP, p.id, r)
	case codec.PUBACK:
		w.ends(p.id, 1, false)
		err = w.s.Puback(p.id, w.now, w)
	case codec.PUBREC:
		r := codec.Success
		if p.refused {
			r = codec.NotAuthorized
			w.ends(p.id, 2, false)
		} else if i := w.openAt(p.id); i >= 0 {
			w.open[i].comp = true
		}
		err = w.s.Pubrec(p.id, r, w.now, w)
	case codec.PUBCOMP:
		w.ends(p.id, 2, true)
		err = w.s.Pubcomp(p.id, w.now, w)
	}
	if err != nil {
		panic(breachf("a correct %s ends the connection: %v", p.t, err))
	}
}

// route passes a message of the client's own on.
func (w *world) route(n uint8) {
	q := w.qosUp(n)
	if q == 2 && w.routed.has(n) {
		panic(breachf("the client's message %d with QoS 2 is passed on twice [MQTT-4.3.3-12]", n))
	}
	if !w.routed.has(n) {
		if n < w.upTop[q] {
			panic(breachf("the client's message %d is passed on behind %d [MQTT-4.6.0-5]", n, w.upTop[q]))
		}
		w.upTop[q] = n
		w.routed.add(n)
		if w.sc.durable {
			w.disk.note(passedOn, record{n: n})
		}
	}
}
