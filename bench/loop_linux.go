package bench

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"noctule/codec"
)

// counts are a loop's, since it began.
type counts struct {
	sent, received, acknowledged, refused int64
	duplicated, reordered, foreign        int64
	bytesSent, bytesReceived              int64 // of payload
	reads, writes, turns                  int64
	ready, failed, ended                  int64
	cut, returned, stayed, resumed        int64 // cut by us, back, not back, back to their session
	retried                               int64 // tries to come back that failed and were not the last
	aside, bytesAside                     int64 // received by groups that are counted apart
	pings                                 int64
	complete                              int64 // clients that have collected everything
	granted, atOnce, told                 int64 // have their list, with CONNACK; were told of none
	noEntry                               int64 // CONNECT was answered no
	proven, twice                         int64 // have got a message by their list, have got it again
}

// loop drives its share of the clients on one thread.
type loop struct {
	// Set by newLoop, then read-only:
	engine  *engine
	index   int
	clients []*client // of all groups, in order
	addr    unix.Sockaddr

	// Owned by the loop:
	epfd, wakefd int
	fds          []*client // by file descriptor
	now          int64     // Unix ns
	waiting      []*client // to be connected, in order
	started      int       // of them, begun
	rate         int       // connections per second of all loops; 0: as fast as they go
	concurrent   int       // most that are pending
	crowded      []*client // whose Unix socket's queue was full
	churners     []churner // at work
	retries      retries
	throttled    []*client // whose reads rest
	slice        int64     // number of the slice of time in which throttled were looked at
	silent       deadlines // when clients are to be looked at for Keep Alive
	pending      int       // clients begun and not ready
	dialRound    int64     // Unix ns when the first was begun
	dirty        []*client
	reread       []*client
	senders      []*publisher
	elsewhere    map[*publisher]struct{}
	pacers       []*pacer // at work
	rest         []*pacer // until publishing begins
	closing      bool
	free         [][]byte
	buf, plain   []byte
	count        counts
	latency      recorder
	lateness     recorder
	aside        recorder // latency of groups counted apart
	connects     recorder
	returns      recorder // as connects, of clients that were cut
	away         recorder // from the cut
	collects     recorder // from SUBSCRIBE to the last retained message
	grants       recorder // as connects, until the list was there
	lastGrant    int64    // Unix ns
	failures     map[string]int64

	mail struct {
		sync.Mutex
		tasks []func()
	}
}

func newLoop(e *engine, index int) *loop {
	return &loop{
		engine: e, index: index, buf: make([]byte, 256<<10), failures: map[string]int64{},
		elsewhere: map[*publisher]struct{}{},
		rate:      e.plan.ConnectRate, concurrent: max(e.plan.Concurrent/e.plan.Threads, 1),
		latency: newRecorder(), lateness: newRecorder(), connects: newRecorder(), aside: newRecorder(),
		returns: newRecorder(), away: newRecorder(), collects: newRecorder(),
		grants: newRecorder(),
	}
}

// longestWait bounds a wait, so that the wall clock and a loop with its own table of files are looked after.
const longestWait = 10 * time.Millisecond

// run is the loop's goroutine; engine.wg waits for it. It ends when the task of stop has run.
func (l *loop) run(started chan<- error) {
	defer l.engine.wg.Done()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its table of files too
	if err := l.open(); err != nil {
		started <- err
		return
	}
	started <- nil
	events := make([]unix.EpollEvent, 1024)
	for !l.closing {
		n := l.wait(events)
		l.count.turns++
		for i := range events[:n] {
			l.event(&events[i])
		}
		l.turn()
	}
	for _, c := range l.clients {
		if c.stage == ready {
			c.touch()
			c.out = codec.AppendHeader(c.out, codec.DISCONNECT, 0, 0)
			l.flush(c)
		}
		l.hangUp(c)
	}
	_ = unix.Close(l.epfd)
	_ = unix.Close(l.wakefd)
}

func (l *loop) open() error {
	var err error
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if l.engine.plan.OwnFiles {
		if err := unix.Unshare(unix.CLONE_FILES); err != nil {
			return err
		}
	}
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(l.wakefd)}
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, l.wakefd, &ev)
}

// wait blocks the thread outside Go's scheduler, which nothing else needs: it costs less than a hand-over.
func (l *loop) wait(events []unix.EpollEvent) int {
	ts := unix.NsecToTimespec(l.timeout())
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.epfd), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	l.now = l.engine.clock()
	if e != 0 {
		return 0
	}
	return int(n)
}

// timeout is how long there is nothing to do, in ns.
func (l *loop) timeout() int64 {
	if len(l.reread) > 0 || len(l.senders) > 0 {
		return 0
	}
	now := l.engine.clock()
	wait := int64(longestWait)
	if len(l.crowded) > 0 {
		wait = int64(time.Millisecond)
	}
	for _, p := range l.pacers {
		wait = min(wait, p.at()-now)
	}
	for i := range l.churners {
		wait = min(wait, l.churners[i].due-now)
	}
	if l.started < len(l.waiting) {
		wait = min(wait, l.nextDial()-now)
	}
	wait = min(wait, l.retries.next()-now)
	return max(wait, 0)
}

func (l *loop) event(ev *unix.EpollEvent) {
	fd := int(ev.Fd)
	if fd == l.wakefd {
		var b [8]byte
		_, _ = unix.Read(fd, b[:])
		return
	}
	c := l.fds[fd]
	if c == nil {
		return
	}
	if c.stage == dialing {
		if l.engine.target.Unix && len(l.crowded) > 0 && slices.Contains(l.crowded, c) {
			return // an unconnected Unix socket reports a hang-up
		}
		if ev.Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		l.dialed(c)
	}
	if ev.Events&unix.EPOLLOUT != 0 && len(c.tail) > 0 {
		l.flush(c)
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) != 0 && c.stage != closed {
		l.read(c)
	}
}

// turn does what is to be done besides events.
func (l *loop) turn() {
	l.runTasks()
	l.squeeze()
	l.dial()
	l.retry()
	l.churn()
	l.unthrottle()
	l.lookAfterSilent()
	if list := l.reread; len(list) > 0 {
		l.reread = nil
		for _, c := range list {
			c.again = false
			if c.stage > dialing && c.stage != closed {
				l.read(c)
			}
		}
	}
	for _, p := range l.pacers {
		p.run(l)
	}
	for i := 0; i < len(l.senders); i++ {
		p := l.senders[i]
		p.queued = false
		p.send(l.now)
	}
	l.senders = l.senders[:0]
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		c.dirty = false
		if c.stage != closed {
			l.flush(c)
		}
	}
	l.dirty = l.dirty[:0]
	for p := range l.elsewhere {
		delete(l.elsewhere, p)
		p.client.loop.post(func() { p.wake(p.client.loop) })
	}
}

// post runs f on the loop. Any goroutine.
func (l *loop) post(f func()) {
	l.mail.Lock()
	l.mail.tasks = append(l.mail.tasks, f)
	l.mail.Unlock()
	if !l.engine.plan.OwnFiles { // otherwise the number may mean another file here
		_, _ = unix.Write(l.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (l *loop) runTasks() {
	l.mail.Lock()
	tasks := l.mail.tasks
	l.mail.tasks = nil
	l.mail.Unlock()
	for _, f := range tasks {
		f()
	}
}

// read takes what the socket has, once.
func (l *loop) read(c *client) {
	b := l.buf
	if c.group.ReadMax > 0 && c.stage == ready {
		n := l.allowance(c)
		if n == 0 {
			return
		}
		b = b[:min(len(b), n)]
	}
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	l.count.reads++
	switch {
	case e == unix.EAGAIN:
		return
	case e == unix.EINTR:
		l.readAgain(c)
		return
	case e != 0:
		l.fail(c, e)
		return
	case n == 0:
		l.fail(c, errEnded)
		return
	}
	c.read += int(n)
	l.now = l.engine.clock()
	if err := l.input(c, b[:n]); err != nil {
		l.fail(c, err)
		return
	}
	if int(n) == len(b) {
		l.readAgain(c)
	}
}

func (l *loop) readAgain(c *client) {
	if !c.again {
		c.again = true
		l.reread = append(l.reread, c)
	}
}

// input takes bytes through TLS and WebSocket to the packets.
func (l *loop) input(c *client, b []byte) error {
	if c.tls == nil {
		return l.clear(c, b)
	}
	c.tls.give(b)
	if c.stage == securing {
		return nil // the handshake's goroutine takes it
	}
	if l.plain == nil {
		l.plain = make([]byte, 32<<10)
	}
	for c.stage != closed {
		n, err := c.tls.read(l.plain)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := l.clear(c, l.plain[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) clear(c *client, b []byte) error {
	if c.ws == nil {
		return l.packets(c, b)
	}
	if c.stage == upgrading {
		b = append(c.in, b...)
		c.in = nil
		used, err := upgraded(b)
		if err != nil {
			return err
		}
		if used == 0 {
			c.in = append([]byte(nil), b...)
			return nil
		}
		c.hello()
		b = b[used:]
	}
	return l.frames(c, b)
}

// frames takes WebSocket frames apart. What is left of a packet waits in c.in, what is left of a frame
// header in c.ws.head.
func (l *loop) frames(c *client, b []byte) error {
	if len(c.ws.head) > 0 {
		b = append(c.ws.head, b...)
		c.ws.head = nil
	}
	for len(b) > 0 {
		used, piece, pong, err := c.ws.next(b)
		if err != nil {
			return err
		}
		if used == 0 {
			c.ws.head = append([]byte(nil), b...)
			return nil
		}
		b = b[used:]
		if len(pong) > 0 {
			c.tail = append(c.tail, pong...)
			c.touch()
		}
		if len(piece) > 0 {
			if err := l.packets(c, piece); err != nil {
				return err
			}
		}
	}
	return nil
}

// packets takes whole packets; the rest waits.
func (l *loop) packets(c *client, b []byte) error {
	if len(c.in) > 0 {
		b = append(c.in, b...)
		c.in = b[:0]
	}
	for len(b) > 0 {
		h, err := codec.ParseHeader(b)
		if errors.Is(err, codec.ErrShort) || err == nil && len(b) < h.Size+h.Len {
			break
		}
		if err != nil {
			return err
		}
		if err := c.packet(h, b[h.Size:h.Size+h.Len]); err != nil {
			return err
		}
		b = b[h.Size+h.Len:]
	}
	if len(b) == 0 {
		c.in = nil
		return nil
	}
	c.in = append(c.in[:0:0], b...)
	return nil
}

// flush writes what the client has to say.
func (l *loop) flush(c *client) {
	if out := c.out; out != nil {
		c.out = nil
		raw := c.framed(out)
		switch {
		case c.tls != nil && len(raw) > 0:
			_, _ = c.tls.conn.Write(raw) // into memory
		case c.tls == nil && len(c.tail) == 0:
			c.tail = append(c.tail, raw[l.write(c, raw):]...)
		case c.tls == nil:
			c.tail = append(c.tail, raw...)
		}
		l.release(out)
	}
	if c.tls != nil {
		c.tail = append(c.tail, c.tls.take()...)
	}
	if len(c.tail) > 0 && c.stage != closed {
		n := l.write(c, c.tail)
		if c.tail = c.tail[n:]; len(c.tail) == 0 {
			c.tail = nil
		}
		if c.pub != nil && len(c.tail) < maxTail {
			c.pub.wake(l)
		}
	}
}

// framed is output as the transport wants it.
func (c *client) framed(out []byte) []byte {
	switch {
	case c.ws == nil:
		return out
	case c.stage == upgrading:
		return out[headroom:]
	case len(out) == headroom:
		return nil
	}
	return c.ws.frame(out)
}

// write writes what goes.
func (l *loop) write(c *client, b []byte) int {
	if len(b) == 0 || c.stage == closed {
		return 0
	}
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	l.count.writes++
	switch e {
	case 0:
		return int(n)
	case unix.EAGAIN, unix.EINTR:
	default:
		l.fail(c, e)
	}
	return 0
}

// buffer and release keep a few output buffers.
func (l *loop) buffer() []byte {
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return make([]byte, 0, 4096)
}

func (l *loop) release(b []byte) {
	if len(l.free) < 1024 && cap(b) <= 64<<10 {
		l.free = append(l.free, b[:0])
	}
}
