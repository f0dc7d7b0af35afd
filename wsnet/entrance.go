package wsnet

import (
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"noctule/internal/places"
)

// The entrance is where connections are before they have shown what they want: the handler says so with
// Conn.Arrived. They cost little, but who is there takes a file, and a TLS handshake takes memory and a
// goroutine. So both are bounded and shared by address: of the address with most the oldest gives way, for it
// has had the most time; who wants to shake hands waits for its turn without a goroutine, and gets the place
// of one whose client has left it waiting when all are taken.

// guest is a connection at the entrance.
type guest struct {
	e    *entrance    // set by enter, then read-only
	idle atomic.Int64 // Atomic: since when its handshake waits for the client, ns of monotonic time; 0 if not

	// Guarded by the entrance's mu:
	from    places.Peer
	place   places.Place[*guest]
	slot    places.Place[*guest] // of its handshake
	loop    *Loop                // where conn is; nil while it shakes hands or is on its way
	conn    *Conn
	cut     func()        // ends its handshake
	start   func()        // called when it gets its slot, from anywhere
	waiting *list.Element // in a turn's queue
	out     bool          // it has given way
}

// entrance is the guests of a server.
type entrance struct {
	// Set by newEntrance, then read-only:
	epoch    time.Time
	patience time.Duration // Config.HandshakeStall

	gaveWay atomic.Int64 // Atomic: guests that others have pushed out

	mu struct {
		sync.Mutex
		guests *places.Table[*guest]
		slots  *places.Table[*guest]
		turns  map[places.Peer]*turn // networks with guests that wait for a slot
		order  list.List             // of *turn, the next one first
	}
}

// turn is the guests of one network that wait for a slot. The newest goes first: when there are more than can
// be served, those served are served in time, and who opens many connections at once delays his own.
type turn struct {
	net   places.Peer
	queue list.List // of *guest, the newest at the back
	at    *list.Element
}

func newEntrance(cfg *Config) *entrance {
	e := &entrance{epoch: monotonic(), patience: cfg.HandshakeStall}
	guests, slots := int64(cfg.MaxGuests), int64(cfg.TLSHandshakes)
	e.mu.guests = places.New[*guest](places.Limits{
		Total: guests, Address: max(1, guests/4), Net56: max(1, guests/2), Net48: max(1, guests/2),
	}, places.Oldest)
	share := max(1, slots/4)
	e.mu.slots = places.New[*guest](places.Limits{
		Total: slots, Address: share, Net56: share, Net48: share,
	}, places.Oldest)
	e.mu.turns = make(map[places.Peer]*turn)
	return e
}

// peerOf is how a socket's own peer counts.
func peerOf(a netip.AddrPort) places.Peer {
	return places.Peer{Addr: a.Addr(), Trusted: !a.IsValid() || a.Addr().IsLoopback()}
}

// enter makes a guest. Others may have to go for it. Any goroutine.
func (e *entrance) enter(from places.Peer) *guest {
	g := &guest{e: e, from: from}
	g.place.Value, g.slot.Value = g, g
	e.mu.Lock()
	after := e.takeLocked(g)
	e.mu.Unlock()
	run(after)
	return g
}

// rename counts a guest by the address that a PROXY header claims.
func (g *guest) rename(a netip.AddrPort) {
	e := g.e
	e.mu.Lock()
	var after []func()
	if g.place.Held() {
		e.mu.guests.Leave(&g.place)
		g.from = places.Peer{Addr: a.Addr()}
		after = e.takeLocked(g)
	}
	e.mu.Unlock()
	run(after)
}

func (e *entrance) takeLocked(g *guest) (after []func()) {
	m := &e.mu
	push := func(p *places.Place[*guest]) {
		m.guests.Leave(p)
		after = append(after, e.pushOutLocked(p.Value))
	}
	for p := m.guests.Blocking(g.from, 1); p != nil; p = m.guests.Blocking(g.from, 1) {
		push(p)
	}
	m.guests.Put(&g.place, g.from, 1)
	for m.guests.Over() {
		push(m.guests.Most())
	}
	return after
}

// pushOutLocked marks a guest as one that has given way. What is returned is to be called without the lock.
func (e *entrance) pushOutLocked(g *guest) func() {
	e.gaveWay.Add(1)
	g.out = true
	if g.loop != nil {
		l := g.loop
		return func() { l.MustPost(TaskFunc(func(l *Loop) { g.expel(l) })) } // bounded by MaxGuests
	}
	if g.cut != nil {
		return g.cut
	}
	return func() {} // on its way, greet looks
}

// run calls functions.
func run(list []func()) {
	for _, f := range list {
		f()
	}
}

// expel ends the connection of a guest that has given way, if it is still on this loop.
func (g *guest) expel(l *Loop) {
	g.e.mu.Lock()
	c := g.conn
	if g.loop != l {
		c = nil
	}
	g.e.mu.Unlock()
	if c == nil || c.ended || c.gone {
		return
	}
	if c.open {
		c.end(ErrGaveWay)
		return
	}
	c.refuse(CauseGaveWay, nil)
}

// seat says that a guest is a connection on a loop now; false if it has given way meanwhile.
func (g *guest) seat(l *Loop, c *Conn) bool {
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	g.loop, g.conn = l, c
	return !g.out
}

// leave ends the visit, with its handshake if there is one.
func (g *guest) leave() {
	e := g.e
	e.mu.Lock()
	e.mu.guests.Leave(&g.place)
	e.unqueueLocked(g)
	e.mu.slots.Leave(&g.slot)
	g.loop, g.conn, g.cut, g.start = nil, nil, nil, nil
	after := e.grantLocked()
	e.mu.Unlock()
	run(after)
}

// shake asks for a slot: start is called when there is one, here or later.
func (g *guest) shake(start func()) {
	e := g.e
	e.mu.Lock()
	m := &e.mu
	if g.out {
		e.mu.Unlock()
		return
	}
	g.start = start
	t := m.turns[g.from.Net()]
	if t == nil {
		t = &turn{net: g.from.Net()}
		t.at = m.order.PushBack(t)
		m.turns[t.net] = t
	}
	g.waiting = t.queue.PushBack(g)
	after := e.grantLocked()
	e.mu.Unlock()
	run(after)
}

// shaken gives the slot of a handshake back. The guest stays.
func (g *guest) shaken() {
	e := g.e
	e.mu.Lock()
	e.mu.slots.Leave(&g.slot)
	g.cut = nil
	after := e.grantLocked()
	e.mu.Unlock()
	run(after)
}

// cutBy says how to end the handshake that begins; false if it has given way already.
func (g *guest) cutBy(cut func()) bool {
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	g.loop, g.conn, g.cut = nil, nil, cut
	return !g.out
}

// pushedOut says that a guest has given way.
func (g *guest) pushedOut() bool {
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	return g.out
}

// relieve gives slots whose clients keep them waiting to those who want one.
func (e *entrance) relieve() {
	e.mu.Lock()
	after := e.grantLocked()
	e.mu.Unlock()
	run(after)
}

func (e *entrance) unqueueLocked(g *guest) {
	if g.waiting == nil {
		return
	}
	t := e.mu.turns[g.from.Net()]
	t.queue.Remove(g.waiting)
	g.waiting = nil
	if t.queue.Len() == 0 {
		e.mu.order.Remove(t.at)
		delete(e.mu.turns, t.net)
	}
}

// grantLocked gives slots to those who wait, a network at a time, while there are any.
func (e *entrance) grantLocked() (after []func()) {
	m := &e.mu
	for at := m.order.Front(); at != nil; {
		t := at.Value.(*turn)
		g := t.queue.Back().Value.(*guest)
		if p := m.slots.Blocking(g.from, 1); p != nil {
			if !e.stalled(p.Value) {
				at = at.Next()
				continue
			}
			after = append(after, e.stopLocked(p.Value))
		}
		m.slots.Put(&g.slot, g.from, 1)
		if m.slots.Over() {
			p := m.slots.Most()
			if p == &g.slot || !e.stalled(p.Value) {
				m.slots.Leave(&g.slot)
				return after
			}
			after = append(after, e.stopLocked(p.Value))
		}
		m.order.MoveToBack(at)
		e.unqueueLocked(g)
		after = append(after, g.start)
		at = m.order.Front()
	}
	return after
}

// stopLocked takes the slot of a handshake away.
func (e *entrance) stopLocked(g *guest) func() {
	e.mu.slots.Leave(&g.slot)
	e.mu.guests.Leave(&g.place)
	return e.pushOutLocked(g)
}

// stalled says that a handshake waits for its client for long.
func (e *entrance) stalled(g *guest) bool {
	since := g.idle.Load()
	return since != 0 && e.now()-since > int64(e.patience)
}

func (e *entrance) now() int64 { return max(1, int64(monotonic().Sub(e.epoch))) }

// waits and computes say what a handshake does.
func (g *guest) waits()    { g.idle.Store(g.e.now()) }
func (g *guest) computes() { g.idle.Store(0) }

// defaultGuests is how many guests there may be by default; half of the files, where that is less, so that
// the other half is for those who have arrived.
const defaultGuests = 16384
