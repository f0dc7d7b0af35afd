package wsnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// knock is for a connection whose TLS is to begin. Its bytes stay where they are, for the goroutine that will
// shake hands.
func (l *Loop) knock(c *Conn) {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(c.fd), b[:], unix.MSG_PEEK)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil:
		l.broken(c, err)
		return
	case n == 0:
		l.broken(c, io.EOF)
		return
	case c.ended || c.extra.asked:
		return
	}
	c.extra.asked = true
	c.extra.greeting.c = nil
	l.await(c, &l.greeting, l.server.cfg.HandshakeTimeout)
	c.extra.guest.shake(func() {
		l.MustPost(TaskFunc(func(l *Loop) { l.handOver(c) })) // bounded by TLSHandshakes
	})
}

// handOver gives a connection that is nothing but a socket yet to the goroutine of its handshake.
func (l *Loop) handOver(c *Conn) {
	x := c.extra
	if c.gone || c.ended || x == nil || x.guest == nil { // its end gives the slot back
		return
	}
	g, ln := x.guest, c.listener
	c.io.unregister(l, c)
	if c.queued {
		l.ready = without(l.ready, c)
	}
	c.gone = true
	x.greeting.c, x.greeting = nil, nil
	x.guest, x.knocking, x.asked = nil, false, false
	c.settle()
	nc := newFileSocket(int(c.fd), c.RemoteAddr(), ln)
	if !ln.shakes.begin(c.RemoteAddr(), func() { ln.shakes.shake(nc, nil, g) }) {
		ln.abandon(nc, g)
	}
}

// fileSocket is a socket as Go's network sees it, for the time of a handshake.
type fileSocket struct {
	*os.File
	local, remote net.Addr
}

func newFileSocket(fd int, remote netip.AddrPort, ln *Listener) *fileSocket {
	s := &fileSocket{File: os.NewFile(uintptr(fd), "socket"), local: ln.addr}
	if s.remote = ln.addr; remote.IsValid() {
		s.remote = net.TCPAddrFromAddrPort(remote)
	}
	return s
}

// LocalAddr implements net.Conn.
func (s *fileSocket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn; of unix sockets it is the listener's.
func (s *fileSocket) RemoteAddr() net.Addr { return s.remote }

// Read implements net.Conn.
func (s *fileSocket) Read(b []byte) (int, error) {
	n, err := s.File.Read(b)
	return n, plain(err)
}

// Write implements net.Conn.
func (s *fileSocket) Write(b []byte) (int, error) {
	n, err := s.File.Write(b)
	return n, plain(err)
}

// CloseWrite ends the sending direction.
func (s *fileSocket) CloseWrite() error {
	rc, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var shut error
	if err := rc.Control(func(fd uintptr) { shut = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return err
	}
	return os.NewSyscallError("shutdown", shut)
}

// plain is an error without the name of a file that nobody knows.
func plain(err error) error {
	var p *os.PathError
	if errors.As(err, &p) && p.Err != nil {
		var no syscall.Errno
		if errors.As(p.Err, &no) {
			return os.NewSyscallError(p.Op, no)
		}
		return p.Err
	}
	return err
}
