package wsnet

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A pipe is a connection without a socket: its client is in this process. The loop sees a socket that behaves
// like a non-blocking one, and the handler a connection like any other; the client has a net.Conn. Between
// them are two buffers, which are there while something is in them, and no goroutine: an idle pipe is two
// small structs. What one side changes reaches the loop as one task at most, whatever happens before it runs,
// which reads the connection once: so pipes have their turn among the sockets.

// pipeRoom is how many bytes each direction holds before who writes must wait.
const pipeRoom = 256 << 10

// PipeNetwork is the Network of a listener that listens nowhere and has connections by Pipe only, and the
// name of their addresses.
const PipeNetwork = "pipe"

// pipeFd stands for the file descriptor that a pipe has none of.
const pipeFd fdSocket = -1

// pipeSocket is a pipe as its loop sees it.
type pipeSocket struct {
	// Set by Pipe, then read-only:
	c *Conn

	loop atomic.Pointer[Loop] // Atomic: where it is registered

	mu struct {
		sync.Mutex
		up       []byte // the client wrote it, and the loop has not taken it; nil when it is empty
		down     []byte // the loop wrote it, and the client has not read it; nil when it is empty
		upEnd    bool   // the client sends no more
		downEnd  bool   // the loop sends no more
		closed   bool   // by the client
		gone     bool   // closed by the loop
		posted   bool   // a task is on its way to the loop
		full     bool   // down took not all, and the loop waits for room
		readable *sync.Cond
		writable *sync.Cond
		reading  deadline
		writing  deadline
	}
}

// Pipe makes a connection without a socket and returns the client's end of it. To the handler it is like one
// that this listener has accepted: Opened, Data and Closed come for it, it may be held and moved, and counts
// as one of the listener's connections. What the transport of the listener adds, TLS, WebSocket and the PROXY
// header, is not on it: the handler gets what the client writes. It has no remote address, is Local, and is
// never one of the guests that give way to each other (Config.MaxGuests).
//
// Each direction holds 256 KiB: beyond that Write waits until the loop reads, and the loop, as with a socket,
// until the client reads. Read, Write and Close may be called from several goroutines, and deadlines work as
// for TCP; a connection that is not closed stays until Shutdown. The result has CloseWrite as a *net.TCPConn
// has. A listener that is closed, or has MaxConnections already, gives one that has ended: Read returns
// io.EOF. Any goroutine may call it, a loop's too.
func (ln *Listener) Pipe() net.Conn {
	s := &pipeSocket{}
	s.mu.readable, s.mu.writable = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	end := &pipeEnd{s}
	s.c = &Conn{listener: ln, io: s, fd: pipeFd}
	if !ln.startPipe(s.c) {
		s.mu.gone = true
	}
	return end
}

// startPipe hands a new pipe to a loop; false if it is too late or there are too many.
func (ln *Listener) startPipe(c *Conn) bool {
	s := ln.server
	s.mu.Lock() // Shutdown stops the loops later
	if s.mu.closed || ln.closed.Load() {
		s.mu.Unlock()
		return false
	}
	n := ln.open.Add(1)
	s.open.Add(1)
	limit := ln.live.Load().maxConnections
	if limit > 0 && n > limit {
		s.mu.Unlock()
		ln.leave()
		s.refused.Add(1)
		ln.refuse(Refusal{Path: PipeNetwork, Cause: CauseTooMany})
		return false
	}
	s.accepted.Add(1)
	c.id = s.lastID.Add(1)
	s.next().MustPost(TaskFunc(func(l *Loop) { l.greetPipe(c) }))
	s.mu.Unlock()
	return true
}

// greetPipe starts a new pipe on this loop.
func (l *Loop) greetPipe(c *Conn) {
	l.adopt(c)
	l.serving = c
	_ = c.io.register(l, c) // never fails
	l.opened(c)
}

// Piped reports whether it is one of Listener.Pipe.
func (c *Conn) Piped() bool { return c.fd == pipeFd }

// each visits all connections of a loop; f may close them. The loop's goroutine calls it.
func (l *Loop) each(f func(c *Conn)) {
	l.poll.each(f)
	for c := range l.pipes {
		f(c)
	}
}

// register implements registration. What the client did meanwhile is looked at.
func (s *pipeSocket) register(l *Loop, c *Conn) error {
	if l.pipes == nil {
		l.pipes = make(map[*Conn]struct{})
	}
	l.pipes[c] = struct{}{}
	s.loop.Store(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.posted = true
	l.MustPost(pipeEvent{s})
	return nil
}

func (s *pipeSocket) unregister(l *Loop, c *Conn) {
	delete(l.pipes, c)
	s.loop.Store(nil)
}

// pipeEvent says that a pipe may be read or written, or has ended. One for a pipe is under way, or two while
// it moves.
type pipeEvent struct{ s *pipeSocket }

// Run implements Task.
func (e pipeEvent) Run(l *Loop) {
	if at := e.s.loop.Load(); at != l {
		if at != nil {
			at.MustPost(e)
		}
		return // while it moves: register posts another
	}
	e.s.mu.Lock()
	e.s.mu.posted = false
	e.s.mu.Unlock()
	c := e.s.c
	if c.gone {
		return
	}
	l.woken(c)
}

// postLocked sends the loop to the pipe, unless it is on its way.
func (s *pipeSocket) postLocked() {
	if s.mu.posted || s.mu.gone {
		return
	}
	if l := s.loop.Load(); l != nil {
		s.mu.posted = true
		l.MustPost(pipeEvent{s}) // one a pipe
	}
}

// read implements octets.
func (s *pipeSocket) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.up) == 0 {
		if s.mu.upEnd {
			return 0, io.EOF
		}
		return 0, errWouldBlock
	}
	n := copy(b, s.mu.up)
	s.mu.up = rest(s.mu.up, n)
	s.mu.writable.Broadcast()
	if s.mu.upEnd {
		s.c.hup = true
	}
	return n, nil
}

// rest is b without its first n bytes; nil if that is nothing.
func rest(b []byte, n int) []byte {
	if n == len(b) {
		return nil
	}
	return b[n:]
}

// write implements octets. Like a kernel that has not heard yet that the client is gone, it takes what nobody
// will read: the end comes by read, behind what the client sent before.
func (s *pipeSocket) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked(b), nil
}

func (s *pipeSocket) takeLocked(b []byte) int {
	if s.mu.closed {
		return len(b)
	}
	n := min(len(b), pipeRoom-len(s.mu.down))
	s.mu.full = n < len(b)
	if n > 0 {
		s.mu.down = append(s.mu.down, b[:n]...)
		s.mu.readable.Broadcast()
	}
	return n
}

// writev implements octets.
func (s *pipeSocket) writev(pieces [][]byte) (total int, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pieces {
		n := s.takeLocked(p)
		total += n
		if n < len(p) {
			break
		}
	}
	return total, nil
}

// shutdown implements socket.
func (s *pipeSocket) shutdown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.downEnd = true
	s.mu.readable.Broadcast()
	return true
}

// close implements registration. What was written before stays there for the client.
func (s *pipeSocket) close(l *Loop) {
	delete(l.pipes, s.c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.gone, s.mu.up = true, nil
	s.mu.readable.Broadcast()
	s.mu.writable.Broadcast()
}

// pipeEnd is a pipe as its client sees it.
type pipeEnd struct{ s *pipeSocket }

// Read implements net.Conn. When the broker's side has ended, what it has written comes before io.EOF.
func (e *pipeEnd) Read(b []byte) (int, error) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.mu.closed:
			return 0, net.ErrClosed
		case s.mu.reading.expired:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(s.mu.down) > 0:
			n := copy(b, s.mu.down)
			s.mu.down = rest(s.mu.down, n)
			if s.mu.full && len(s.mu.down) <= pipeRoom/2 {
				s.mu.full = false
				s.postLocked()
			}
			return n, nil
		case s.mu.downEnd || s.mu.gone:
			return 0, io.EOF
		}
		s.mu.readable.Wait()
	}
}

// Write implements net.Conn. When the broker's side has ended it returns io.ErrClosedPipe.
func (e *pipeEnd) Write(b []byte) (n int, err error) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.mu.closed || s.mu.upEnd:
			return n, net.ErrClosed
		case s.mu.gone:
			return n, io.ErrClosedPipe
		case s.mu.writing.expired:
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		}
		if k := min(len(b)-n, pipeRoom-len(s.mu.up)); k > 0 {
			s.mu.up = append(s.mu.up, b[n:n+k]...)
			n += k
			s.postLocked()
			if n == len(b) {
				return n, nil
			}
		}
		s.mu.writable.Wait()
	}
}

// CloseWrite ends the sending direction: the broker's side reads io.EOF behind what was written.
func (e *pipeEnd) CloseWrite() error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.s.mu.closed {
		return net.ErrClosed
	}
	e.s.endLocked()
	return nil
}

func (s *pipeSocket) endLocked() {
	s.mu.upEnd = true
	s.mu.writable.Broadcast()
	s.postLocked()
}

// Close implements net.Conn. What was written before still reaches the broker.
func (e *pipeEnd) Close() error {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil
	}
	s.mu.closed, s.mu.down, s.mu.full = true, nil, false
	s.mu.reading.stop()
	s.mu.writing.stop()
	s.mu.readable.Broadcast()
	s.endLocked()
	return nil
}

// LocalAddr implements net.Conn.
func (e *pipeEnd) LocalAddr() net.Addr { return pipeAddr{} }

// RemoteAddr implements net.Conn.
func (e *pipeEnd) RemoteAddr() net.Addr { return pipeAddr{} }

// pipeAddr is the address of either end.
type pipeAddr struct{}

// Network implements net.Addr.
func (pipeAddr) Network() string { return PipeNetwork }

// String implements net.Addr.
func (pipeAddr) String() string { return PipeNetwork }

// SetDeadline implements net.Conn.
func (e *pipeEnd) SetDeadline(t time.Time) error {
	if err := e.SetReadDeadline(t); err != nil {
		return err
	}
	return e.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	return e.setDeadline(&e.s.mu.reading, e.s.mu.readable, t)
}

// SetWriteDeadline implements net.Conn.
func (e *pipeEnd) SetWriteDeadline(t time.Time) error {
	return e.setDeadline(&e.s.mu.writing, e.s.mu.writable, t)
}

func (e *pipeEnd) setDeadline(d *deadline, wake *sync.Cond, t time.Time) error {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return net.ErrClosed
	}
	d.set(t, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.look()
		wake.Broadcast()
	})
	wake.Broadcast()
	return nil
}

// deadline is one of a connection in memory. Its owner's lock guards it.
type deadline struct {
	at      time.Time // zero: none
	timer   *time.Timer
	expired bool
}

// set replaces it. due is called later, at the new one or at none, and looks.
func (d *deadline) set(t time.Time, due func()) {
	d.at = t
	if d.look(); d.expired || t.IsZero() {
		d.stop()
		return
	}
	if in := t.Sub(monotonic()); d.timer == nil {
		d.timer = time.AfterFunc(in, due) // ends by itself, or by stop
	} else {
		d.timer.Reset(in)
	}
}

// look works out whether it has passed.
func (d *deadline) look() { d.expired = !d.at.IsZero() && !monotonic().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
