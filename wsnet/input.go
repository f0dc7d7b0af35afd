package wsnet

import (
	"sync"
	"sync/atomic"

	"noctule/internal/places"
)

// Input that a handler has not consumed, such as the first half of a large packet, is bounded for each
// connection by MaxPending, and for all together by MaxInput: the largest of the address that holds most has
// to go when there is more. What a connection holds below one unit counts as a part of it and is not looked
// at, so small packets cost nothing here.

// inputUnit is the granularity, in bytes.
const inputUnit = 4096

// inputs is what the connections of a server hold.
type inputs struct {
	limit   atomic.Int64 // Atomic: bytes
	gaveWay atomic.Int64 // Atomic: connections that had to go

	mu struct {
		sync.Mutex
		table *places.Table[*input]
	}
}

// input is what one connection holds. The mutex of inputs guards it.
type input struct {
	place places.Place[*input]
	loop  *Loop
	conn  *Conn
	out   bool // it has to go
}

func newInputs(limit int64) *inputs {
	s := &inputs{}
	s.limit.Store(limit)
	s.mu.table = places.New[*input](places.Limits{}, places.Largest)
	return s
}

// SetMaxInput replaces Config.MaxInput. Any goroutine.
func (s *Server) SetMaxInput(bytes int64) { s.inputs.limit.Store(bytes) }

// countInput notes what a connection holds now.
func (l *Loop) countInput(c *Conn) {
	x := c.extra
	n := cap(x.pending) + cap(x.raw)
	if c.tls != nil {
		n += cap(c.tls.pipe.in)
	}
	if n /= inputUnit; n != x.units {
		x.units = n
		l.server.inputs.set(l, c, int64(n))
	}
}

// forgetInput notes that a connection holds nothing, or is no longer this loop's.
func (l *Loop) forgetInput(c *Conn) {
	if x := c.extra; x != nil && x.units != 0 {
		x.units = 0
		l.server.inputs.set(l, c, 0)
	}
}

func (s *inputs) set(l *Loop, c *Conn, units int64) {
	s.mu.Lock()
	t, in := s.mu.table, c.extra.input
	if in == nil {
		in = &input{}
		in.place.Value = in
		c.extra.input = in
	}
	switch {
	case units == 0:
		t.Leave(&in.place)
		in.loop, in.conn, in.out = nil, nil, false
	case in.out:
	case in.place.Held():
		t.Grow(&in.place, units-in.place.Weight())
	default:
		in.loop, in.conn = l, c
		t.Put(&in.place, places.Peer{Addr: c.RemoteAddr().Addr(), Trusted: c.Local()}, units)
	}
	for t.Weight()*inputUnit > s.limit.Load() {
		in := t.Most().Value
		t.Leave(&in.place)
		in.out = true
		s.gaveWay.Add(1)
		in.loop.MustPost(TaskFunc(func(l *Loop) { s.expel(l, in) })) // each holds a unit at least
	}
	s.mu.Unlock()
}

// expel ends a connection that has to go, if it has not got rid of what it held.
func (s *inputs) expel(l *Loop, in *input) {
	s.mu.Lock()
	c := in.conn
	if in.loop != l || !in.out {
		c = nil
	}
	s.mu.Unlock()
	if c == nil || c.gone {
		return
	}
	if h, ok := l.handler.(InputHandler); ok && c.open && !c.ended {
		h.InputGaveWay(c)
	}
	c.end(ErrInputGaveWay)
}
