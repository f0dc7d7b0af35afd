package wsnet

import (
	"net"
	"sync"
	"sync/atomic"
)

// The portable poller: two goroutines per connection read and write through Go's network; the loop sees a
// socket that behaves like a non-blocking one.

// chanPoller waits on a channel.
type chanPoller struct {
	l  *Loop
	ch chan struct{}
}

func newChanPoller(l *Loop) *chanPoller { return &chanPoller{l: l, ch: make(chan struct{}, 1)} }

func (p *chanPoller) wait(park bool) {
	if park {
		<-p.ch
	} else {
		select {
		case <-p.ch:
		default:
		}
	}
	p.l.begin()
}

func (p *chanPoller) wake() {
	select {
	case p.ch <- struct{}{}:
	default:
	}
}

func (p *chanPoller) close() {}

// netSocket is a connection of Go's network as a socket.
type netSocket struct {
	// Set by newNetSocket and startNet, then read-only:
	nc     net.Conn
	server *Server
	c      *Conn
	taken  chan struct{} // the loop has taken all input

	loop atomic.Pointer[Loop] // Atomic: where it is registered

	mu struct {
		sync.Mutex
		in       []byte // read and not yet taken
		err      error  // of the read after in
		out      []byte
		writable *sync.Cond // out has changed
		end      bool       // shut down once out is written
		closed   bool
		full     bool // a write was refused for want of room
		started  bool
	}
}

// netBuffer is how much output a socket holds before it blocks, in bytes.
const netBuffer = 256 << 10

func newNetSocket(s *Server, nc net.Conn) *netSocket {
	n := &netSocket{nc: nc, server: s, taken: make(chan struct{}, 1)}
	n.mu.writable = sync.NewCond(&n.mu)
	return n
}

func (s *netSocket) register(l *Loop, _ *Conn) error {
	s.loop.Store(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.started {
		s.mu.started = true
		s.server.wg.Add(2)
		go s.reader() // server.wg
		go s.writer() // server.wg
	}
	return nil
}

// unregister leaves the old loop in place until the new one registers: its tasks forward themselves.
func (s *netSocket) unregister(*Loop, *Conn) { s.loop.Store(nil) }

// event runs f on the loop that has the connection. While it is on its way to another one the task goes
// round.
type event struct {
	s *netSocket
	f func(l *Loop, c *Conn)
}

// Run implements Task.
func (e event) Run(l *Loop) {
	switch at := e.s.loop.Load(); at {
	case l:
		if !e.s.c.gone {
			e.f(l, e.s.c)
		}
	case nil:
		l.MustPost(e)
	default:
		at.MustPost(e)
	}
}

func (s *netSocket) post(f func(*Loop, *Conn)) {
	l := s.loop.Load()
	if l == nil {
		l = s.server.loops[0]
	}
	l.MustPost(event{s, f})
}

func (s *netSocket) reader() {
	defer s.server.wg.Done()
	buf := make([]byte, 16<<10)
	for {
		n, err := s.nc.Read(buf)
		s.mu.Lock()
		s.mu.in, s.mu.err = buf[:n], err
		closed := s.mu.closed
		s.mu.Unlock()
		if closed {
			return
		}
		s.post(func(l *Loop, c *Conn) { l.read(c) })
		if err != nil {
			return
		}
		select {
		case <-s.taken:
		case <-s.server.stop:
			return
		}
	}
}

func (s *netSocket) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.in) > 0 {
		n := copy(b, s.mu.in)
		s.mu.in = s.mu.in[n:]
		if len(s.mu.in) == 0 && s.mu.err == nil {
			s.taken <- struct{}{}
		}
		if s.mu.err != nil {
			s.c.hup = true
		}
		return n, nil
	}
	if s.mu.err != nil {
		return 0, s.mu.err
	}
	return 0, errWouldBlock
}

func (s *netSocket) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(b), max(netBuffer-len(s.mu.out), 0))
	s.mu.out = append(s.mu.out, b[:n]...)
	s.mu.full = n < len(b)
	s.mu.writable.Signal()
	return n, nil
}

func (s *netSocket) writev(pieces [][]byte) (int, error) {
	total := 0
	for _, p := range pieces {
		n, err := s.write(p)
		total += n
		if err != nil || n < len(p) {
			return total, err
		}
	}
	return total, nil
}

func (s *netSocket) writer() {
	defer s.server.wg.Done()
	var spare []byte
	for {
		s.mu.Lock()
		for len(s.mu.out) == 0 && !s.mu.end && !s.mu.closed {
			s.mu.writable.Wait()
		}
		b, end, closed := s.mu.out, s.mu.end, s.mu.closed
		s.mu.out = spare[:0]
		s.mu.Unlock()
		if closed {
			return
		}
		if len(b) > 0 {
			if _, err := s.nc.Write(b); err != nil {
				s.post(func(l *Loop, c *Conn) { l.broken(c, err) })
				return
			}
		}
		spare = b
		if end {
			if cw, ok := s.nc.(interface{ CloseWrite() error }); ok {
				_ = cw.CloseWrite()
			}
			return
		}
		s.mu.Lock()
		full := s.mu.full
		s.mu.full = false
		s.mu.Unlock()
		if full {
			s.post(func(_ *Loop, c *Conn) { c.Flush() })
		}
	}
}

func (s *netSocket) shutdown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.end = true
	s.mu.writable.Signal()
	return true
}

func (s *netSocket) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.writable.Signal()
	s.mu.Unlock()
	_ = s.nc.Close()
	select {
	case s.taken <- struct{}{}:
	default:
	}
}
