package wsnet

import "noctule/internal/wsproto"

// Output of a connection. While the socket keeps up there is only out, a buffer borrowed from the loop for
// one turn, with room for a WebSocket frame header in front. A backlog appears when a piece is shared, when
// a buffer is full, or when a write blocks.

// backlog is output in pieces.
type backlog struct {
	frame [][]byte // of the open frame, before out; the first begins with headroom
	wire  [][]byte // framed and encrypted, to be written
	own   [][]byte // whole buffers of frame and wire, oldest first, that go back to the loop when written
	bytes int      // in wire
}

// headroom is what each buffer of a WebSocket connection keeps free in front.
const headroom = wsproto.HeaderMax

// maxBuffer is the size from which output goes on in a further buffer instead of a larger one.
const maxBuffer = 64 << 10

// Buffered is the number of bytes accepted from the handler and not yet by the kernel.
func (c *Conn) Buffered() int {
	c.loop.MustBeHere()
	if q := c.backlog(); q != nil {
		return c.size + q.bytes
	}
	return c.size
}

// Blocked reports whether the socket takes no more at the moment. Drained will follow.
func (c *Conn) Blocked() bool {
	c.loop.MustBeHere()
	return c.blocked
}

// Reserve returns n bytes at the end of the output, to be filled before the next call.
func (c *Conn) Reserve(n int) []byte {
	c.loop.MustBeHere()
	at := len(c.out)
	if at+n > cap(c.out) || c.out == nil {
		c.grow(n)
		at = len(c.out)
	}
	c.out = c.out[:at+n]
	c.size += n
	if !c.dirty {
		c.touch()
	}
	return c.out[at : at+n : at+n]
}

// touch puts the connection on the list of those to be written.
func (c *Conn) touch() {
	c.loop.MustBeHere()
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// Write copies b to the output.
func (c *Conn) Write(b []byte) { copy(c.Reserve(len(b)), b) }

// WriteShared adds b to the output by reference: it must never change. For pieces of 1 KB and more.
func (c *Conn) WriteShared(b []byte) {
	c.loop.MustBeHere()
	q := c.addBacklog()
	if c.out == nil {
		c.Reserve(0)
	}
	c.closeBuffer()
	q.frame = append(q.frame, b)
	c.size += len(b)
	c.touch()
}

// closeBuffer makes the open buffer a piece of the frame, unless it is empty.
func (c *Conn) closeBuffer() {
	q := c.addBacklog()
	if len(c.out) > 0 {
		q.frame = append(q.frame, c.out)
		q.own = append(q.own, c.out)
	} else {
		c.loop.bufs.put(c.out)
	}
	c.out = nil
}

// grow makes room for n bytes more.
func (c *Conn) grow(n int) {
	bufs := &c.loop.bufs
	switch {
	case c.out == nil:
		room := 0
		if q := c.backlog(); c.ws != nil && (q == nil || len(q.frame) == 0) {
			room = headroom
		}
		c.out = bufs.get(room + n)[:room]
	case len(c.out)+n <= maxBuffer:
		old := c.out
		c.out = append(bufs.get(max(len(old)+n, min(2*cap(old), maxBuffer))), old...)
		bufs.put(old)
	default:
		c.closeBuffer()
		c.out = bufs.get(max(n, maxBuffer))[:0]
	}
}

// Flush writes now instead of at the end of the turn.
func (c *Conn) Flush() {
	c.loop.MustBeHere()
	if c.gone || c.peerGone {
		c.releaseOutput()
		return
	}
	if c.backlog() == nil && c.tls == nil {
		c.flushBuffer()
		return
	}
	c.seal()
	c.push()
}

// flushBuffer is the usual case: one buffer, one write.
func (c *Conn) flushBuffer() {
	if c.size == 0 {
		return
	}
	b := c.out
	if c.ws != nil && c.ws.upgraded {
		b = b[headroom-wsproto.PutHeader(b[:headroom], c.size):]
	} else if c.ws != nil {
		b = b[headroom:]
	}
	n, err := c.io.write(b)
	c.counted(n)
	if err != nil {
		c.size = 0
		c.loop.broken(c, err)
		c.releaseOutput()
		return
	}
	c.size = 0
	if n == len(b) {
		c.loop.bufs.put(c.out)
		c.out = nil
		return
	}
	c.more().queue = &backlog{wire: [][]byte{b[n:]}, own: [][]byte{c.out}, bytes: len(b) - n}
	c.out = nil
	c.blocked = true
}

// seal turns the open frame into wire bytes.
func (c *Conn) seal() {
	if c.size == 0 {
		return
	}
	q := c.addBacklog()
	if c.out != nil {
		c.closeBuffer()
	}
	if c.ws != nil {
		first := q.frame[0]
		k := 0
		if c.ws.upgraded {
			k = wsproto.PutHeader(first[:headroom], c.size)
		}
		q.frame[0] = first[headroom-k:]
	}
	c.size = 0
	if c.tls != nil {
		for i, p := range q.frame {
			c.tls.write(p)
			q.frame[i] = nil
		}
		q.frame = q.frame[:0]
		for _, b := range q.own {
			c.loop.bufs.put(b)
		}
		q.own = nil
		return
	}
	for i, p := range q.frame {
		if len(p) > 0 {
			q.wire = append(q.wire, p)
			q.bytes += len(p)
		}
		q.frame[i] = nil
	}
	q.frame = q.frame[:0]
}

// control adds a WebSocket control frame, or any bytes that are not the handler's, behind what is there.
func (c *Conn) control(b []byte) {
	c.seal()
	if c.tls != nil {
		c.tls.write(b)
	} else {
		q := c.addBacklog()
		q.wire = append(q.wire, b)
		q.bytes += len(b)
	}
	c.touch()
}

// push writes wire bytes until the socket blocks.
func (c *Conn) push() {
	q := c.backlog()
	if c.tls != nil {
		if raw := c.tls.take(); len(raw) > 0 {
			q = c.addBacklog()
			q.wire = append(q.wire, raw)
			q.bytes += len(raw)
		}
	}
	if q == nil {
		return
	}
	for q.bytes > 0 {
		n, err := c.writeWire(q.wire)
		c.counted(n)
		if err != nil {
			c.loop.broken(c, err)
			c.releaseOutput()
			return
		}
		if n == 0 {
			c.blocked = true
			return
		}
		q.consume(n, &c.loop.bufs)
	}
	for _, b := range q.own {
		c.loop.bufs.put(b)
	}
	c.extra.queue = nil
	c.settle()
	if c.blocked {
		c.blocked = false
		if c.loop.drain != nil && c.open {
			c.loop.drain.Drained(c)
		}
	}
}

// writeWire writes one piece, or several with one call.
func (c *Conn) writeWire(pieces [][]byte) (int, error) {
	if len(pieces) == 1 {
		return c.io.write(pieces[0])
	}
	return c.io.writev(pieces)
}

func (c *Conn) counted(n int) {
	c.loop.stats.writes.Add(1)
	c.loop.stats.bytesOut.Add(int64(n))
}

// consume takes n written bytes off. A buffer goes back with its last byte: a connection that never catches
// up would hold all it ever wrote.
func (q *backlog) consume(n int, bufs *buffers) {
	q.bytes -= n
	i := 0
	for n > 0 {
		if n < len(q.wire[i]) {
			q.wire[i] = q.wire[i][n:]
			break
		}
		n -= len(q.wire[i])
		if len(q.own) > 0 && sameEnd(q.wire[i], q.own[0]) {
			bufs.put(q.own[0])
			q.own[0] = nil
			q.own = q.own[1:]
		}
		q.wire[i] = nil
		i++
	}
	q.wire = q.wire[i:]
}

// sameEnd reports whether b is the end of buffer own, which is not empty.
func sameEnd(b, own []byte) bool {
	return cap(b) > 0 && &b[:cap(b)][cap(b)-1] == &own[:cap(own)][cap(own)-1]
}

// releaseOutput forgets all output.
func (c *Conn) releaseOutput() {
	if c.out != nil {
		c.loop.bufs.put(c.out)
	}
	c.out, c.size = nil, 0
	if c.extra != nil {
		c.extra.queue = nil
		c.settle()
	}
}

// buffers is a loop's free lists of output buffers, by size.
type buffers struct {
	free [len(classes)][][]byte
}

// classes are the sizes kept; what is larger is the garbage collector's.
var classes = [...]int{256, 1 << 10, 4 << 10, 16 << 10, maxBuffer}

// keepBytes bounds each free list.
const keepBytes = 1 << 20

func (p *buffers) get(n int) []byte {
	for i, size := range classes {
		if n > size {
			continue
		}
		f := p.free[i]
		if len(f) == 0 {
			return make([]byte, 0, size)
		}
		b := f[len(f)-1]
		f[len(f)-1] = nil
		p.free[i] = f[:len(f)-1]
		return b
	}
	return make([]byte, 0, n)
}

func (p *buffers) put(b []byte) {
	for i, size := range classes {
		if cap(b) == size {
			if len(p.free[i])*size < keepBytes {
				p.free[i] = append(p.free[i], b[:0])
			}
			return
		}
	}
}
