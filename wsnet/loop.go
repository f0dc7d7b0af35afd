package wsnet

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"noctule/internal/proxyproto"
	"noctule/internal/ring"
)

// poller is what waits for a loop and does its I/O: epoll, or goroutines per connection.
type poller interface {
	// wait collects what is ready and handles it; when park is set it may wait until something is, or a
	// wake comes.
	wait(park bool)
	// wake ends a wait. Any goroutine.
	wake()
	// close gives everything up; the loop's goroutine calls it last.
	close()
	registry
}

// registry is the connections of a poller.
type registry interface {
	// each visits all of them; f may close them. The loop's goroutine calls it.
	each(f func(c *Conn))
}

// Loop is one event loop. Methods are for the loop's own goroutine unless they say otherwise.
type Loop struct {
	owner owner

	// Set by newLoop, then read-only:
	server  *Server
	index   int
	handler Handler
	turn    TurnHandler  // nil if handler is none
	drain   DrainHandler // nil if handler is none
	poll    poller
	acks    *ackSweep // nil unless the poller has it
	mail    mailbox

	// Owned by the loop:
	now        int64
	serving    *Conn   // what a panic is put down to; nil while a task, or the time, is
	dirty      []*Conn // have output
	closing    []*Conn // end with this turn
	ready      []*Conn // may be readable without a further event
	spareReady []*Conn
	again      []Task
	spareAgain []Task
	greeting   ring.Ring[*handshake] // upgrades under way or done, oldest first
	silent     ring.Ring[*handshake] // those whose TLS is to begin, oldest first
	lingering  ring.Ring[handshake]  // closed by us, waiting for the peer
	extras     []*extra              // unused
	pipes      map[*Conn]struct{}    // connections that the poller does not have; nil before the first
	paused     bool
	stopping   bool
	bufs       buffers
	readBuf    []byte
	plainBuf   []byte // decrypted bytes

	// Atomic:
	stats loopStats
	probe probe
}

// handshake is a connection that must have got on by a deadline.
type handshake struct {
	c        *Conn // nil when it has
	deadline int64 // Unix ms
}

// Index is the loop's number, from 0. Any goroutine.
func (l *Loop) Index() int { return l.index }

// Handler is the loop's handler. Any goroutine.
func (l *Loop) Handler() Handler { return l.handler }

// Now is the time of this turn by Clock.Now, in milliseconds.
func (l *Loop) Now() int64 {
	l.MustBeHere()
	return l.now
}

// Again runs t in the next turn, after what is readable by then got its share: for slices of long work.
func (l *Loop) Again(t Task) {
	l.MustBeHere()
	l.again = append(l.again, t)
}

// PauseReads stops and resumes reading all connections of this loop; everything else goes on.
func (l *Loop) PauseReads(on bool) {
	l.MustBeHere()
	l.paused = on
}

// run is the loop's goroutine; Server.wg waits for it.
func (l *Loop) run() {
	defer l.server.wg.Done()
	defer l.server.crashing(l, netip.AddrPort{})
	l.owner.enter()
	defer l.owner.exit()
	l.now = l.server.cfg.Clock.Now()
	for {
		l.owner.turn()
		busy := len(l.again) > 0 || len(l.dirty) > 0 || len(l.closing) > 0 || len(l.ready) > 0 && !l.paused
		l.poll.wait(!busy)
		l.runReady()
		l.runMail()
		l.runAgain()
		l.endTurn()
		if l.stopping && l.server.running.Load() == 0 {
			break
		}
	}
	l.runMail() // the last of those that were on their way here
	l.endTurn()
	l.poll.close()
}

// begin is called by the poller when waiting has ended.
func (l *Loop) begin() {
	l.now = l.server.cfg.Clock.Now()
	l.stats.wakeups.Add(1)
}

// runReady reads the connections that had more than one buffer holds.
func (l *Loop) runReady() {
	if l.paused || len(l.ready) == 0 {
		return
	}
	list := l.ready
	l.ready = l.spareReady[:0]
	for _, c := range list {
		c.queued = false
		if c.loop == l && !c.gone {
			l.read(c)
		}
	}
	clear(list)
	l.spareReady = list[:0]
}

func (l *Loop) runAgain() {
	if len(l.again) == 0 {
		return
	}
	l.serving = nil
	list := l.again
	l.again = l.spareAgain[:0]
	for _, t := range list {
		t.Run(l)
	}
	clear(list)
	l.spareAgain = list[:0]
}

// endTurn tells the handler, writes what is to be written, and ends what is to be ended.
func (l *Loop) endTurn() {
	l.serving = nil
	if l.turn != nil {
		l.turn.EndTurn()
	}
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		l.dirty[i] = nil
		c.dirty = false
		if c.loop == l {
			l.serving = c
			c.Flush()
		}
	}
	l.dirty = l.dirty[:0]
	for len(l.closing) > 0 {
		list := l.closing
		l.closing = nil
		for _, c := range list {
			l.serving = c
			l.finish(c)
		}
	}
	l.serving = nil
	l.stats.turns.Add(1)
}

// woken writes and reads for a connection without a descriptor, whose transport has said that it may.
func (l *Loop) woken(c *Conn) {
	l.serving = c
	if c.blocked {
		c.Flush()
	}
	if !c.gone {
		l.read(c)
	}
}

// read takes what a connection has, once.
func (l *Loop) read(c *Conn) {
	l.MustBeHere()
	l.serving = c
	if l.paused {
		l.markReady(c)
		return
	}
	if x := c.extra; x != nil {
		if x.held {
			return // Release registers it anew, and what is there is an event again
		}
		if x.knocking {
			l.knock(c)
			return
		}
	}
	n, err := c.io.read(l.readBuf)
	l.stats.reads.Add(1)
	if n > 0 {
		l.stats.bytesIn.Add(int64(n))
		if c.linger {
			l.markReady(c)
			return
		}
		held := c.extra != nil
		l.input(c, l.readBuf[:n])
		if c.moving() {
			l.sendOff(c)
			return
		}
		if c.extra != nil {
			l.countInput(c)
		}
		if l.acks != nil && !c.dirty {
			l.acks.unanswered(int(c.fd), !held && c.extra == nil)
		}
	}
	switch {
	case err == nil && (n == len(l.readBuf) || c.hup):
		l.markReady(c)
	case err == nil, errors.Is(err, errWouldBlock):
	default:
		l.broken(c, err)
	}
}

func (l *Loop) markReady(c *Conn) {
	l.MustBeHere()
	if !c.queued && !c.gone {
		c.queued = true
		l.ready = append(l.ready, c)
	}
}

// broken ends a connection whose socket failed; io.EOF is the peer's end, who may still listen.
func (l *Loop) broken(c *Conn, err error) {
	l.MustBeHere()
	if errors.Is(err, io.EOF) {
		c.peerDone = true
	} else {
		c.peerGone = true
	}
	if c.linger {
		l.drop(c)
		return
	}
	c.end(err)
}

// input takes raw bytes through TLS and WebSocket to the handler.
func (l *Loop) input(c *Conn, raw []byte) {
	if c.ended {
		return
	}
	switch {
	case c.tls != nil:
		l.inputTLS(c, raw)
	case c.extra != nil && c.extra.proxying:
		l.inputProxy(c, raw)
	default:
		l.inputClear(c, raw)
	}
}

func (l *Loop) inputClear(c *Conn, b []byte) {
	if c.ws != nil {
		l.inputWebSocket(c, b)
		return
	}
	l.deliver(c, b)
}

// deliver calls the handler with b behind what was left unconsumed.
func (l *Loop) deliver(c *Conn, b []byte) {
	l.MustBeHere()
	x := c.extra
	if c.ended || len(b) == 0 && (x == nil || len(x.pending) == 0) {
		return
	}
	if x != nil && len(x.pending) > 0 {
		if len(x.pending)+len(b) > l.server.cfg.MaxPending {
			c.end(ErrPending)
			return
		}
		x.pending = append(x.pending, b...)
		if len(x.pending) < x.need {
			return
		}
		b = x.pending
	}
	held := x != nil && len(x.pending) > 0
	used, need := l.handler.Data(c, b)
	if used > 0 {
		c.progressed()
	}
	rest := b[used:]
	if c.ended {
		rest = nil
	}
	l.keep(c, rest, need, held)
	if !held {
		poison(b)
	}
}

// keep holds on to what the handler left; held says that it is in c's memory already.
func (l *Loop) keep(c *Conn, rest []byte, need int, held bool) {
	l.MustBeHere()
	if len(rest) == 0 {
		if c.extra != nil {
			c.extra.pending, c.extra.need = nil, 0
			c.settle()
		}
		return
	}
	x := c.more()
	x.need = need
	if held && cap(x.pending) <= 4*len(rest)+maxBuffer {
		x.pending = x.pending[:copy(x.pending, rest)]
		return
	}
	x.pending = append(make([]byte, 0, max(len(rest), min(need, 4096))), rest...)
}

// adopt makes a connection one of this loop's.
func (l *Loop) adopt(c *Conn) {
	c.loop = l
}

// opened starts a connection: at once, or when its upgrade is done.
func (l *Loop) opened(c *Conn) {
	c.open = true
	l.handler.Opened(c)
}

// greet starts a new connection on this loop, of a guest. h is the PROXY header if that was read already.
func (l *Loop) greet(c *Conn, h *proxyproto.Header, g *guest) {
	l.MustBeHere()
	l.adopt(c)
	l.serving = c
	c.more().guest = g
	awaits := c.listener.cfg.ProxyProtocol != 0 && h == nil
	if h != nil {
		c.setProxied(h)
	}
	if err := c.io.register(l, c); err != nil {
		l.server.cfg.Log.Warn("wsnet: connection is given up: " + err.Error())
		c.ended = true
		l.drop(c)
		return
	}
	if !g.seat(l, c) {
		c.refuse(CauseGaveWay, nil)
		return
	}
	if _, native := l.poll.(interface{ native() }); native && c.tls == nil && c.listener.shakes != nil {
		c.extra.knocking = true
		l.await(c, &l.silent, l.server.cfg.FirstByteTimeout)
		return
	}
	if c.ws != nil || awaits {
		c.more().proxying = awaits
		l.await(c, &l.greeting, l.server.cfg.HandshakeTimeout)
	} else {
		l.opened(c)
	}
	if c.tls != nil {
		l.inputTLS(c, nil) // what came with the handshake
		if c.moving() {
			l.sendOff(c)
		}
	}
}

// await gives a connection some time to get on.
func (l *Loop) await(c *Conn, list *ring.Ring[*handshake], d time.Duration) {
	l.MustBeHere()
	c.more().greeting = &handshake{c, l.now + d.Milliseconds()}
	list.Push(c.extra.greeting)
}

// giveUp ends those who have not got on in time.
func (l *Loop) giveUp(list *ring.Ring[*handshake]) {
	for list.Len() > 0 {
		h := *list.At(0)
		under := h.c != nil && !h.c.gone // otherwise it may be another loop's
		if under && h.deadline > l.now {
			break
		}
		list.Pop()
		if under {
			if h.c.extra != nil && h.c.extra.knocking {
				h.c.listener.counts.tls[TLSTimeout].Add(1)
			}
			l.stats.timedOut.Add(1)
			h.c.end(errHandshake)
		}
	}
}

// tick is posted once a second.
func (l *Loop) tick() {
	l.MustBeHere()
	l.giveUp(&l.greeting)
	l.giveUp(&l.silent)
	if l.index == 0 {
		l.server.entrance.relieve()
	}
	for l.lingering.Len() > 0 && (l.lingering.At(0).deadline <= l.now || l.lingering.At(0).c.gone) {
		l.drop(l.lingering.Pop().c)
	}
	if l.acks != nil {
		l.acks.sweep()
	}
	if l.turn != nil {
		l.turn.Tick(l.now)
	}
}

var errHandshake = errors.New("wsnet: handshake took too long")

// lingerTime is how long a connection that we closed may take to notice, in milliseconds.
const lingerTime = 1000

// finish ends a connection at the end of a turn: what can be written is, the handler hears of it, and the
// socket is shut down. Unless the peer has ended too it lingers a second, so that a reset does not overtake
// our last words.
func (l *Loop) finish(c *Conn) {
	l.MustBeHere()
	if c.gone || c.loop != l {
		return
	}
	if !c.peerGone {
		c.lastWords()
		c.Flush()
	}
	if c.open {
		c.open = false
		l.handler.Closed(c, c.reason())
	} else {
		c.unopened()
	}
	if c.extra != nil {
		c.extra.pending, c.extra.reason, c.extra.raw, c.extra.held = nil, nil, nil, false
		l.forgetInput(c)
		c.settle()
	}
	if c.peerGone || c.peerDone || c.Buffered() > 0 || l.stopping || !c.io.shutdown() {
		l.drop(c)
		return
	}
	c.linger = true
	l.lingering.Push(handshake{c, l.now + lingerTime})
	l.markReady(c)
}

// drop closes the socket.
func (l *Loop) drop(c *Conn) {
	l.MustBeHere()
	if c.gone {
		return
	}
	c.gone = true
	c.Arrived()
	c.releaseOutput()
	c.io.close(l)
	c.listener.leave()
}

// sendOff moves a connection to another loop, with what it has not consumed and not written, and with its
// end if that has come. Nothing of this loop refers to it afterwards.
func (l *Loop) sendOff(c *Conn) {
	l.MustBeHere()
	c.Arrived()
	to, t := c.extra.moving, c.extra.task
	c.extra.moving, c.extra.task = nil, nil
	if l.stopping { // the other loop may be gone
		c.end(ErrServerClosed)
		return
	}
	c.Flush()
	l.forgetInput(c)
	c.settle()
	c.io.unregister(l, c)
	if c.dirty {
		l.dirty = without(l.dirty, c)
	}
	if c.queued {
		l.ready = without(l.ready, c)
	}
	if c.ended {
		l.closing = without(l.closing, c)
	}
	c.dirty, c.queued = false, false
	c.loop = to
	to.MustPost(TaskFunc(func(to *Loop) { to.receive(c, t) }))
}

// without takes c out of a list. It looks from the end, where c was put this turn.
func without(list []*Conn, c *Conn) []*Conn {
	last := len(list) - 1
	for i := last; i >= 0; i-- {
		if list[i] == c {
			list[i], list[last] = list[last], nil
			return list[:last]
		}
	}
	return list
}

// receive is the other end of sendOff.
func (l *Loop) receive(c *Conn, t Task) {
	l.MustBeHere()
	l.adopt(c)
	l.serving = c
	if c.ended {
		l.closing = append(l.closing, c)
	}
	err := c.io.register(l, c)
	t.Run(l)
	switch {
	case err != nil:
		l.broken(c, err)
	case l.stopping:
		c.end(ErrServerClosed)
	default:
		if c.Buffered() > 0 {
			c.touch()
		}
		l.resume(c)
		if c.moving() {
			l.sendOff(c)
		} else if c.extra != nil {
			l.countInput(c)
		}
	}
}

// resume handles what each layer had not consumed when the connection left its last loop.
func (l *Loop) resume(c *Conn) {
	l.deliver(c, nil)
	if c.ws != nil && !c.stopped() {
		l.inputWebSocket(c, nil)
	}
	if c.tls != nil && !c.stopped() {
		l.inputTLS(c, nil)
	}
}

// stop ends every connection. The loop goes on until every loop has come here, as connections may be on
// their way to it till then.
func (l *Loop) stop() {
	l.MustBeHere()
	l.stopping = true
	if l.server.running.Add(-1) == 0 {
		for _, other := range l.server.loops {
			other.MustPost(TaskFunc(func(*Loop) {}))
		}
	}
	l.each(func(c *Conn) {
		if c.linger {
			l.drop(c)
			return
		}
		c.end(ErrServerClosed)
	})
}

// Server is the loop's server. Any goroutine.
func (l *Loop) Server() *Server { return l.server }
