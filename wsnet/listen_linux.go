package wsnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenBacklog is the length of the queue of connections that are not accepted yet.
const listenBacklog = 4096

// acceptor is one listening socket on one loop.
type acceptor struct {
	ln   *Listener
	fd   int
	deal bool // hand connections to all loops in turn
}

// listenNative opens one SO_REUSEPORT socket per loop, or a single unix socket on the first.
func (ln *Listener) listenNative() error {
	if ln.cfg.Network == "unix" {
		return ln.listenUnix()
	}
	addr, dual, err := resolve(ln.cfg.Network, ln.cfg.Address)
	if err != nil {
		return err
	}
	var as []*acceptor
	for range ln.server.loops {
		fd, err := listenTCP(addr, dual, len(as) > 0)
		if err != nil {
			for _, a := range as {
				_ = unix.Close(a.fd)
			}
			return err
		}
		as = append(as, &acceptor{ln: ln, fd: fd})
		if addr.Port() == 0 {
			sa, err := unix.Getsockname(fd)
			if err != nil {
				return fmt.Errorf("getsockname: %w", err)
			}
			addr = netip.AddrPortFrom(addr.Addr(), addrOf(sa).Port())
		}
	}
	ln.addr = net.TCPAddrFromAddrPort(addr)
	ln.start(as)
	return nil
}

// start registers the acceptors with their loops, and sets how to end them.
func (ln *Listener) start(as []*acceptor) {
	var started sync.WaitGroup
	for i, a := range as {
		started.Add(1)
		ln.server.loops[i].MustPost(TaskFunc(func(l *Loop) {
			a.register(l)
			started.Done()
		}))
	}
	started.Wait()
	ln.closer = func() {
		var ended sync.WaitGroup
		for i, a := range as {
			ended.Add(1)
			ln.server.loops[i].MustPost(TaskFunc(func(l *Loop) {
				delete(l.poll.(*epoll).listeners, int32(a.fd))
				_ = unix.Close(a.fd)
				ended.Done()
			}))
		}
		ended.Wait()
		if ln.cfg.Network == "unix" {
			_ = os.Remove(ln.cfg.Address)
		}
	}
}

func (a *acceptor) register(l *Loop) {
	if a.ln.closed.Load() {
		return
	}
	p := l.poll.(*epoll)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(a.fd), Pad: genListener}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, a.fd, &ev); err != nil {
		l.server.cfg.Log.Error("wsnet: listener is lost: " + err.Error())
		return
	}
	p.listeners[int32(a.fd)] = a
}

// acceptBatch is how many connections one turn takes from one listener.
const acceptBatch = 64

// accept takes a batch of new connections.
func (a *acceptor) accept(l *Loop) {
	for range acceptBatch {
		fd, sa, err := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			a.admit(l, fd, sa)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		default: // files or memory have run out: rest, instead of spinning
			a.ln.exhausted()
			l.server.cfg.Log.Error("wsnet: accept: " + err.Error())
			p := l.poll.(*epoll)
			delete(p.listeners, int32(a.fd))
			_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, a.fd, nil)
			resumeAccept(l, a)
			return
		}
	}
}

func (a *acceptor) admit(l *Loop, fd int, sa unix.Sockaddr) {
	addr := addrOf(sa)
	if !a.ln.admit(addr) {
		_ = unix.Close(fd)
		return
	}
	if a.ln.live.Load().noDelay && addr.IsValid() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	c, g := a.ln.newFileConn(fd), l.server.entrance.enter(peerOf(addr))
	c.setAddr(addr)
	if a.deal {
		l.server.next().MustPost(TaskFunc(func(l *Loop) { l.greet(c, nil, g) }))
		return
	}
	l.greet(c, nil, g)
}

// newFileConn makes the connection of a non-blocking socket.
func (ln *Listener) newFileConn(fd int) *Conn {
	c := ln.newConn(nil)
	c.fd = fdSocket(fd)
	c.io = &c.fd
	return c
}

// resolve finds the address to bind; dual says that an IPv6 socket takes IPv4 as well.
func resolve(network, address string) (addr netip.AddrPort, dual bool, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return addr, false, err
	}
	if host == "" && network != "tcp4" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return addr, false, fmt.Errorf("port %q: %w", port, err)
		}
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), network == "tcp", nil
	}
	a, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return addr, false, err
	}
	ap := a.AddrPort()
	if !ap.Addr().IsValid() {
		ap = netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), false, nil
}

// listenTCP opens a listening socket. The first of a port begins without SO_REUSEPORT, so that it does not
// share the port with another program of the same user, and gets the option when it has the port.
func listenTCP(addr netip.AddrPort, dual, further bool) (_ int, err error) {
	fd, err := bindTCP(addr, dual, further)
	if err != nil {
		return 0, err
	}
	if err = unix.Listen(fd, listenBacklog); err != nil {
		err = os.NewSyscallError("listen", err)
	} else if !further {
		err = sharePort(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func sharePort(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	return os.NewSyscallError("setsockopt", err)
}

// bindTCP is listenTCP up to the port that is taken; nobody can connect yet.
func bindTCP(addr netip.AddrPort, dual, further bool) (_ int, err error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if further {
		if err = sharePort(fd); err != nil {
			return 0, err
		}
	}
	var v4 [4]byte
	if addr.Addr().Is4() {
		v4 = addr.Addr().As4()
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: v4}
	if family == unix.AF_INET6 {
		only := 1
		if dual {
			only = 0
		}
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return 0, os.NewSyscallError("setsockopt", err)
		}
		ip := addr.Addr()
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16(), ZoneId: zone(ip.Zone())}
	}
	if err = unix.Bind(fd, sa); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// vacantTCP binds as Listen does and lets go at once. Nobody can connect meanwhile, and a program that opens
// the same port in this moment gets it: of two sockets with SO_REUSEADDR only one that listens is in the way.
func vacantTCP(network, address string) error {
	addr, dual, err := resolve(network, address)
	if err != nil {
		return err
	}
	fd, err := bindTCP(addr, dual, false)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	if i, err := net.InterfaceByName(name); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(name, 10, 32)
	return uint32(n)
}

// listenUnix opens a unix socket on the first loop, which deals its connections to all. A stale file gives
// way.
func (ln *Listener) listenUnix() (err error) {
	path := ln.cfg.Address
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if ln.cfg.UnixMode != 0 {
		if err = os.Chmod(path, ln.cfg.UnixMode); err != nil {
			return err
		}
	}
	if err = unix.Listen(fd, listenBacklog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	ln.addr = &net.UnixAddr{Name: path, Net: "unix"}
	ln.start([]*acceptor{{ln: ln, fd: fd, deal: true}})
	return nil
}

// addrOf is the address in a socket address; zero for unix sockets.
func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// socketOf takes the file descriptor out of a connection of Go's network, for an epoll loop to own.
func socketOf(nc net.Conn) (int, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, errors.New("connection has no file descriptor")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	var dupErr error
	err = rc.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return 0, err
	}
	if dupErr != nil {
		return 0, os.NewSyscallError("fcntl", dupErr)
	}
	_ = nc.Close()
	return fd, nil
}
