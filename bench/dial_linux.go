package bench

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// resolve makes the socket address of the target.
func (t *Target) resolve() (unix.Sockaddr, error) {
	if t.Unix {
		return &unix.SockaddrUnix{Name: t.Address}, nil
	}
	a, err := net.ResolveTCPAddr("tcp", t.Address)
	if err != nil {
		return nil, err
	}
	ip := a.AddrPort().Addr().Unmap()
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return sockaddr(netip.AddrPortFrom(ip, uint16(a.Port))), nil
}

// copyOf is a loop's own address: package unix writes into what it is given.
func copyOf(a unix.Sockaddr) unix.Sockaddr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return &unix.SockaddrInet4{Addr: a.Addr, Port: a.Port}
	case *unix.SockaddrInet6:
		return &unix.SockaddrInet6{Addr: a.Addr, Port: a.Port, ZoneId: a.ZoneId}
	case *unix.SockaddrUnix:
		return &unix.SockaddrUnix{Name: a.Name}
	}
	return a
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// nextDial is when the next connection may begin, Unix ns; far away while too many are under way.
func (l *loop) nextDial() int64 {
	if l.pending >= l.concurrent {
		return l.now + int64(longestWait)
	}
	if l.rate <= 0 || l.dialRound == 0 {
		return l.now
	}
	return l.dialDue()
}

// dialDue is when the next connection is due at the given rate, which is kept whatever the broker does.
func (l *loop) dialDue() int64 {
	return l.dialRound + int64(l.started)*1e9*int64(l.engine.plan.Threads)/int64(l.rate)
}

// dial begins connections that are due, a few a turn.
func (l *loop) dial() {
	for n := 0; n < 64 && l.started < len(l.waiting) && !l.closing && l.nextDial() <= l.now; n++ {
		c := l.waiting[l.started]
		if l.dialRound == 0 {
			l.dialRound = l.now
		}
		due := l.now
		if l.rate > 0 {
			due = l.dialDue()
		}
		l.started++
		l.begin(c, due)
	}
}

// squeeze tries again where the queue of a Unix socket was full. TCP would do that by itself, and the time
// counts for the latency as it does there.
func (l *loop) squeeze() {
	list := l.crowded
	l.crowded = nil
	for i, c := range list {
		if c.stage != dialing {
			continue // it was cut
		}
		switch err := unix.Connect(c.fd, l.addr); {
		case errors.Is(err, unix.EAGAIN):
			l.crowded = append(l.crowded, list[i:]...)
			return
		case err != nil:
			l.fail(c, err)
		default:
			l.dialed(c)
		}
	}
}

// begin begins a connection that was due at due.
func (l *loop) begin(c *client, due int64) {
	l.pending++
	c.stage, c.began = dialing, due
	l.watch(c)
	err := l.socket(c)
	if err == nil {
		err = unix.Connect(c.fd, l.addr)
		switch {
		case errors.Is(err, unix.EINPROGRESS):
			return
		case errors.Is(err, unix.EAGAIN) && l.engine.target.Unix:
			l.crowded = append(l.crowded, c)
			return
		}
	}
	if err != nil {
		l.fail(c, err)
		return
	}
	l.dialed(c)
}

// socket makes a non-blocking socket that epoll watches.
func (l *loop) socket(c *client) error {
	t := &l.engine.target
	family := unix.AF_INET
	switch l.addr.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.fd = -1
		return err
	}
	c.fd = fd
	for fd >= len(l.fds) {
		l.fds = append(l.fds, make([]*client, max(1024, len(l.fds)))...)
	}
	l.fds[fd] = c
	if !t.Unix {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if t.SendBuffer > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, t.SendBuffer)
	}
	if buffer := t.ReceiveBuffer; buffer > 0 || c.group.ReadMax > 0 {
		if c.group.ReadMax > 0 {
			// Otherwise the kernel reads megabytes ahead of a slow reader.
			buffer = min(max(c.group.ReadMax/2, 4096), 1<<20)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if len(t.Sources) > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		src := t.Sources[c.number/t.PerSource%len(t.Sources)]
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(src, 0))); err != nil {
			return err
		}
	}
	ev := unix.EpollEvent{
		Fd: int32(fd), Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
	}
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev)
}

// dialed goes on when the connection stands.
func (l *loop) dialed(c *client) {
	if e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
		l.fail(c, errors.Join(err, unix.Errno(e)))
		return
	}
	t := &l.engine.target
	if t.TLS == nil {
		l.secured(c)
		return
	}
	c.stage = securing
	var s *secure
	s = newSecure(t.TLS, func() { l.post(func() { l.handshake(c, s) }) })
	c.tls = s
	l.engine.wg.Go(s.handshake) // ends when hangUp closes it
}

// handshake looks how far the TLS handshake is.
func (l *loop) handshake(c *client, s *secure) {
	if c.stage == closed || c.tls != s { // it is of a connection that was cut
		return
	}
	c.tail = append(c.tail, c.tls.take()...)
	l.flush(c)
	done, err := c.tls.state()
	switch {
	case err != nil:
		l.fail(c, err)
	case done && c.stage == securing:
		l.secured(c)
		if err := l.input(c, nil); err != nil {
			l.fail(c, err)
		}
	}
}

// secured goes on when the transport is there.
func (l *loop) secured(c *client) {
	t := &l.engine.target
	if !t.WebSocket {
		c.hello()
		return
	}
	c.ws = &webSocket{}
	_, _ = rand.Read(c.ws.mask[:]) // never fails
	c.stage = upgrading
	c.touch()
	c.out = append(c.out, t.request()...)
}

// isReady counts a client that is where it should be.
func (l *loop) isReady(c *client) {
	c.stage = ready
	l.pending--
	now := l.engine.clock()
	if c.round == 0 {
		l.count.ready++
		l.connects.record(now-c.began, l.now)
	} else {
		l.count.returned++
		l.returns.record(now-c.began, l.now)
		l.away.record(now-c.gone, l.now)
	}
	l.engine.progress()
}

// fail ends a client for a reason.
func (l *loop) fail(c *client, err error) {
	if c.stage == closed {
		return
	}
	again := false
	switch {
	case c.stage == ready:
		l.count.ended++
	case c.round > 0 && int(c.tries) <= l.retries.storm.Retries:
		l.pending--
		l.count.retried++
		again = true
	case c.round > 0:
		l.pending--
		l.count.stayed++
	default:
		l.pending--
		l.count.failed++
	}
	text := err.Error()
	if before, _, ok := strings.Cut(text, "\n"); ok {
		text = before
	}
	l.failures[text]++
	l.hangUp(c)
	if again {
		l.again(c)
		return
	}
	l.engine.progress()
}

// hangUp closes the socket.
func (l *loop) hangUp(c *client) {
	if c.stage == closed || c.stage == idle {
		return
	}
	c.stage = closed
	if c.tls != nil {
		c.tls.close()
	}
	if c.fd >= 0 {
		l.fds[c.fd] = nil
		_ = unix.Close(c.fd)
	}
	c.in, c.out, c.tail = nil, nil, nil
}
