package wsnet

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"noctule/internal/proxyproto"
)

// listenNet listens with Go's network, for the portable poller.
func (ln *Listener) listenNet() error {
	if ln.cfg.Network == "unix" {
		if st, err := os.Lstat(ln.cfg.Address); err == nil && st.Mode()&os.ModeSocket != 0 {
			_ = os.Remove(ln.cfg.Address)
		}
	}
	nl, err := net.Listen(ln.cfg.Network, ln.cfg.Address)
	if err != nil {
		return err
	}
	if ln.cfg.Network == "unix" && ln.cfg.UnixMode != 0 {
		if err := os.Chmod(ln.cfg.Address, ln.cfg.UnixMode); err != nil {
			_ = nl.Close()
			return err
		}
	}
	ln.addr = nl.Addr()
	done := make(chan struct{})
	go func() { // closer waits
		defer close(done)
		ln.acceptNet(nl)
	}()
	ln.closer = func() {
		_ = nl.Close()
		<-done
	}
	return nil
}

// acceptNet takes connections for the portable poller.
func (ln *Listener) acceptNet(nl net.Listener) {
	for {
		nc, err := nl.Accept()
		if err != nil {
			if !ln.restAfter(err) {
				return
			}
			continue
		}
		if !ln.admit(remoteAddr(nc)) {
			_ = nc.Close()
			continue
		}
		g := ln.server.entrance.enter(peerOf(remoteAddr(nc)))
		if ln.shakes == nil {
			ln.startNet(nc, newNetSocket(ln.server, nc), nil, g)
		} else if !ln.shakes.begin(remoteAddr(nc), func() { ln.shakes.knock(nc, g) }) {
			ln.abandon(nc, g)
		}
	}
}

// restAfter is for an accept that failed: false when that is the end of the listener, otherwise it rests a
// moment, as files or memory have run out.
func (ln *Listener) restAfter(err error) bool {
	if ln.closed.Load() || errors.Is(err, net.ErrClosed) {
		return false
	}
	ln.exhausted()
	ln.server.cfg.Log.Error("wsnet: accept: " + err.Error())
	pauseAccept()
	return true
}

// abandon closes a connection that comes to nothing.
func (ln *Listener) abandon(nc net.Conn, g *guest) {
	g.leave()
	ln.leave()
	_ = nc.Close()
}

// startTLS hands a connection to a loop after its handshake, with its PROXY header if it has one.
func (ln *Listener) startTLS(nc net.Conn, t *tlsState, h *proxyproto.Header, g *guest) {
	if _, epoll := ln.server.loops[0].poll.(interface{ native() }); !epoll {
		_ = nc.SetDeadline(time.Time{})
		ln.startNet(nc, newNetSocket(ln.server, t.conn), h, g)
		return
	}
	addr := remoteAddr(nc)
	ln.setNoDelay(nc)
	fd, err := socketOf(nc)
	if err != nil {
		ln.server.cfg.Log.Error("wsnet: " + err.Error())
		ln.abandon(nc, g)
		return
	}
	t.pipe.Conn, t.pipe.switched = nil, true
	c := ln.newFileConn(fd)
	c.setAddr(addr)
	c.tls = t
	ln.server.next().MustPost(TaskFunc(func(l *Loop) { l.greet(c, h, g) }))
}

func (ln *Listener) startNet(nc net.Conn, io *netSocket, h *proxyproto.Header, g *guest) {
	ln.setNoDelay(nc)
	c := ln.newConn(io)
	c.setAddr(remoteAddr(nc))
	io.c = c
	ln.server.next().MustPost(TaskFunc(func(l *Loop) { l.greet(c, h, g) }))
}

func (ln *Listener) setNoDelay(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetNoDelay(ln.live.Load().noDelay)
	}
}

func remoteAddr(nc net.Conn) netip.AddrPort {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// stateOf describes the TLS connection under a socket of the portable poller.
func stateOf(io socket) *tls.ConnectionState {
	if s, ok := io.(*netSocket); ok {
		if tc, ok := s.nc.(*tls.Conn); ok {
			st := tc.ConnectionState()
			return &st
		}
	}
	return nil
}
