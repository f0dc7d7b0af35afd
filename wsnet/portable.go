package wsnet

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The portable poller: two goroutines per connection read and write through Go's network; the loop sees a
// socket that behaves like a non-blocking one.

// chanPoller waits on a channel.
type chanPoller struct {
	// Set by newChanPoller, then read-only:
	l  *Loop
	ch chan struct{}

	// Owned by the loop:
	conns map[*Conn]struct{}
}

func newChanPoller(l *Loop) *chanPoller {
	return &chanPoller{l: l, ch: make(chan struct{}, 1), conns: make(map[*Conn]struct{})}
}

// each implements registry.
func (p *chanPoller) each(f func(*Conn)) {
	for c := range p.conns {
		f(c)
	}
}

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
		writeErr error
		writable *sync.Cond // out, end or closed has changed
		end      bool       // end the sending direction once out is written
		closed   bool
		full     bool // a write was refused for want of room
		started  bool
	}
}

// netBuffer is how much output a socket holds before it blocks, in bytes.
const netBuffer = 256 << 10

// closeGrace is how long the output of a closed socket may take to leave.
const closeGrace = 250 * time.Millisecond

func newNetSocket(s *Server, nc net.Conn) *netSocket {
	n := &netSocket{nc: nc, server: s, taken: make(chan struct{}, 1)}
	n.mu.writable = sync.NewCond(&n.mu)
	return n
}

// register tells the loop to look at the socket: events during a move go nowhere.
func (s *netSocket) register(l *Loop, c *Conn) error {
	l.poll.(*chanPoller).conns[c] = struct{}{}
	s.loop.Store(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.started {
		l.MustPost(event{s})
		return nil
	}
	s.mu.started = true
	s.server.wg.Add(2)
	go s.reader() // server.wg
	go s.writer() // server.wg
	return nil
}

func (s *netSocket) unregister(l *Loop, c *Conn) {
	delete(l.poll.(*chanPoller).conns, c)
	s.loop.Store(nil)
}

// event says that a socket may be read or written, or has failed.
type event struct{ s *netSocket }

// Run implements Task.
func (e event) Run(l *Loop) {
	if at := e.s.loop.Load(); at != l {
		if at != nil {
			at.MustPost(e)
		}
		return
	}
	c := e.s.c
	if c.gone {
		return
	}
	if err := e.s.failed(); err != nil {
		l.broken(c, err)
		return
	}
	l.woken(c)
}

func (s *netSocket) post() {
	if l := s.loop.Load(); l != nil {
		l.MustPost(event{s})
	}
}

func (s *netSocket) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.writeErr
}

func (s *netSocket) reader() {
	defer s.server.wg.Done()
	defer s.server.crashing(nil, remoteAddr(s.nc))
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
		s.post()
		if err != nil {
			return
		}
		<-s.taken
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
	if s.mu.writeErr != nil {
		return 0, s.mu.writeErr
	}
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

// writer writes what the loop gave, and closes the connection after the loop did.
func (s *netSocket) writer() {
	defer s.server.wg.Done()
	defer s.server.crashing(nil, remoteAddr(s.nc))
	var err error
	var spare []byte
	for {
		b, end, closed := s.output(spare)
		if len(b) > 0 && err == nil {
			if _, err = s.nc.Write(b); err != nil {
				s.fail(err)
			}
		}
		if closed {
			break
		}
		if cw, ok := s.nc.(interface{ CloseWrite() error }); ok && end {
			_ = cw.CloseWrite()
		}
		if spare = b[:0]; cap(spare) > maxBuffer {
			spare = nil
		}
		s.mu.Lock()
		full := s.mu.full
		s.mu.full = false
		s.mu.Unlock()
		if full {
			s.post()
		}
	}
	if tc, ok := s.nc.(interface{ NetConn() net.Conn }); ok && err != nil {
		_ = tc.NetConn().Close() // an alert would wait
		return
	}
	_ = s.nc.Close()
}

// output waits for something to do and takes it; spare is the buffer for what comes next.
func (s *netSocket) output(spare []byte) (b []byte, end, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.mu.out) == 0 && !s.mu.end && !s.mu.closed {
		s.mu.writable.Wait()
	}
	b, end, closed = s.mu.out, s.mu.end, s.mu.closed
	s.mu.out, s.mu.end = spare, false
	return b, end, closed
}

func (s *netSocket) fail(err error) {
	s.mu.Lock()
	s.mu.writeErr = err
	s.mu.Unlock()
	s.post()
}

func (s *netSocket) shutdown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.end = true
	s.mu.writable.Signal()
	return true
}

// close ends both goroutines. What was written before has closeGrace to leave.
func (s *netSocket) close(l *Loop) {
	delete(l.poll.(*chanPoller).conns, s.c)
	s.mu.Lock()
	s.mu.closed = true
	started := s.mu.started
	s.mu.writable.Signal()
	s.mu.Unlock()
	if !started {
		_ = s.nc.Close()
		return
	}
	_ = s.nc.SetReadDeadline(time.Unix(1, 0))
	_ = s.nc.SetWriteDeadline(monotonic().Add(closeGrace))
	select {
	case s.taken <- struct{}{}:
	default:
	}
}
