package wsnet

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epoll is the poller of Linux. Its file descriptor is parked in Go's own network poller, so that a waiting
// loop costs no thread; epoll_wait itself is only called without waiting, by RawSyscall. Each socket is
// registered once, edge-triggered, for both directions.
type epoll struct {
	// Set by newPoller, then read-only:
	l      *Loop
	fd     int
	file   *os.File
	park   syscall.RawConn
	event  int // eventfd of wake
	filled func(uintptr) bool

	// Owned by the loop:
	events    [256]unix.EpollEvent
	n         int
	slots     []*Conn // by file descriptor
	listeners map[int32]*acceptor
}

// Registrations that are not connections have these in place of a connection's generation.
const (
	genEvent    = -1
	genListener = -2
)

func newPoller(l *Loop, portable bool) (poller, error) {
	if portable {
		return newChanPoller(l), nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &epoll{l: l, fd: fd, listeners: make(map[int32]*acceptor)}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(p.event), Pad: genEvent}
	if err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p.event, &ev); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		p.file = os.NewFile(uintptr(fd), "epoll")
		p.park, err = p.file.SyscallConn()
	}
	if err != nil {
		_ = unix.Close(p.event)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p.filled = func(uintptr) bool { return p.collect() > 0 }
	l.acks = newAckSweep(p.delayAcks)
	return p, nil
}

// native tells Listen that sockets can be accepted on the loops.
func (p *epoll) native() {}

// collect takes the next events, without waiting.
func (p *epoll) collect() int {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd),
			uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			p.n = 0
			return 0
		}
		p.n = int(n)
		return p.n
	}
}

// wait implements poller.
func (p *epoll) wait(park bool) {
	if p.collect() == 0 && park {
		if err := p.park.Read(p.filled); err != nil {
			p.n = 0 // closed
		}
	}
	p.l.begin()
	for round := 0; p.n > 0; round++ {
		for i := range p.n {
			p.handle(&p.events[i])
		}
		if p.n < len(p.events) || round == 8 {
			return
		}
		p.collect()
	}
}

// handle takes one event.
func (p *epoll) handle(ev *unix.EpollEvent) {
	switch ev.Pad {
	case genEvent:
		return // each write is an edge of its own, so the counter need not be read
	case genListener:
		p.l.serving = nil
		if a := p.listeners[ev.Fd]; a != nil {
			a.accept(p.l)
		}
		return
	}
	if int(ev.Fd) >= len(p.slots) {
		return
	}
	c := p.slots[ev.Fd]
	if c == nil || int32(c.id&0x7FFFFFFF) != ev.Pad {
		return // of a connection that had this descriptor before
	}
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hup = true
	}
	p.l.serving = c
	if c.blocked && ev.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.Flush()
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !c.gone {
		p.l.read(c)
	}
}

// wake implements poller.
func (p *epoll) wake() {
	one := uint64(1)
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.event), uintptr(unsafe.Pointer(&one)), 8)
}

// close implements poller. The eventfd stays open: a wake may be under way.
func (p *epoll) close() { _ = p.file.Close() }

// each implements registry.
func (p *epoll) each(f func(*Conn)) {
	for _, c := range p.slots {
		if c != nil {
			f(c)
		}
	}
}

func (s *fdSocket) register(l *Loop, c *Conn) error {
	p := l.poll.(*epoll)
	fd := int(*s)
	for fd >= len(p.slots) {
		p.slots = append(p.slots, make([]*Conn, max(1024, len(p.slots)))...)
	}
	p.slots[fd] = c
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(*s), Pad: int32(c.id & 0x7FFFFFFF),
	}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		p.slots[fd] = nil
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (s *fdSocket) unregister(l *Loop, _ *Conn) {
	p := l.poll.(*epoll)
	p.slots[*s] = nil
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, int(*s), nil)
}

func (s *fdSocket) read(b []byte) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(*s), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
	switch {
	case e == unix.EAGAIN || e == unix.EINTR:
		return 0, errWouldBlock
	case e != 0:
		return 0, e
	case n == 0:
		return 0, io.EOF
	}
	return int(n), nil
}

func (s *fdSocket) write(b []byte) (int, error) {
	n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(*s), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return written(n, e)
}

// maxPieces is how many pieces one writev takes.
const maxPieces = 64

func (s *fdSocket) writev(pieces [][]byte) (int, error) {
	var vec [maxPieces]unix.Iovec
	k := min(len(pieces), maxPieces)
	for i, p := range pieces[:k] {
		vec[i].Base = unsafe.SliceData(p)
		vec[i].SetLen(len(p))
	}
	msg := unix.Msghdr{Iov: &vec[0]}
	msg.SetIovlen(k)
	n, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(*s), uintptr(unsafe.Pointer(&msg)),
		unix.MSG_NOSIGNAL)
	return written(n, e)
}

func written(n uintptr, e syscall.Errno) (int, error) {
	switch {
	case e == unix.EAGAIN || e == unix.EINTR:
		return 0, nil
	case e != 0:
		return 0, e
	}
	return int(n), nil
}

func (s *fdSocket) shutdown() bool { return unix.Shutdown(int(*s), unix.SHUT_WR) == nil }

func (s *fdSocket) close(l *Loop) {
	l.poll.(*epoll).slots[*s] = nil
	_ = unix.Close(int(*s))
}

// prepareFiles raises the soft limit of open files to the hard one and grows the kernel's table of them
// once: growing it under load stops every thread for milliseconds at each doubling.
func prepareFiles() {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return
	}
	if lim.Cur < lim.Max {
		lim.Cur = lim.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: lim.Cur, Max: lim.Max})
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return
	}
	if high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, int(min(lim.Cur, 1<<20))-1); err == nil {
		_ = unix.Close(high)
	}
	_ = unix.Close(fd)
}

// filesMax is how many files the process may open, once prepareFiles has run.
func filesMax() uint64 {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 2 * defaultGuests
	}
	return max(2, lim.Max)
}

// resumeAccept puts a listener back after a pause.
func resumeAccept(l *Loop, a *acceptor) {
	time.AfterFunc(acceptPause, func() { // ends by itself
		l.MustPost(TaskFunc(func(l *Loop) { a.register(l) }))
	})
}
