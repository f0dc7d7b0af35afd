package wsnet

import (
	"crypto/tls"
	"errors"
	"net/netip"

	"noctule/internal/wsproto"
)

// socket is a connection's way to the operating system.
type socket interface {
	// read fills b; errWouldBlock when there is nothing, io.EOF at the peer's end.
	read(b []byte) (int, error)
	// write and writev take as much as goes without blocking; 0 when nothing does.
	write(b []byte) (int, error)
	writev(pieces [][]byte) (int, error)
	// register and unregister attach it to a loop's poller.
	register(l *Loop, c *Conn) error
	unregister(l *Loop, c *Conn)
	// shutdown ends the sending direction; false if that is not possible.
	shutdown() bool
	close()
}

var errWouldBlock = errors.New("wsnet: would block")

// Conn is one connection. Its methods are for its loop's goroutine.
type Conn struct {
	// Attachment is the handler's.
	Attachment any

	// Set when it is accepted, then read-only:
	listener *Listener
	id       uint64
	addr     netip.AddrPort // zero for unix sockets
	io       socket
	ws       *wsState  // nil unless WebSocket
	tls      *tlsState // nil unless TLS

	// Owned by the loop:
	loop    *Loop
	out     []byte   // open output buffer; nil when there is none
	queue   *backlog // nil unless a write blocked or a piece is shared
	pending []byte   // input the handler did not consume

	size     int   // bytes given by the handler in out and queue.frame
	need     int   // bytes the handler waits for
	moving   *Loop // Move was called
	task     Task
	reason   error // of the end
	dirty    bool  // in the loop's dirty list
	queued   bool  // in the loop's ready list
	open     bool  // Opened was called and Closed was not
	ended    bool  // no more input goes to the handler
	linger   bool  // shut down, waiting for the peer
	gone     bool  // the socket is closed
	hup      bool  // the peer has ended its direction, or the socket has failed
	peerGone bool  // read or write failed
	peerDone bool  // the peer has ended its direction, and all of it was read
	blocked  bool  // the socket takes no more
}

// Loop is the loop it belongs to.
func (c *Conn) Loop() *Loop { return c.loop }

// Listener is where it came from.
func (c *Conn) Listener() *Listener { return c.listener }

// ID is unique among the server's connections.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the peer's address, zero for unix sockets.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.addr }

// WebSocket reports whether it speaks WebSocket.
func (c *Conn) WebSocket() bool { return c.ws != nil }

// Subprotocol is the WebSocket sub-protocol.
func (c *Conn) Subprotocol() string {
	if c.ws == nil {
		return ""
	}
	return c.ws.subprotocol
}

// TLS describes the TLS connection; nil if it is plain.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return stateOf(c.io)
	}
	st := c.tls.conn.ConnectionState()
	return &st
}

// Move hands the connection to another loop: t runs there first, then Data with what is not consumed. It
// may be called inside Data, which must return at once.
func (c *Conn) Move(to *Loop, t Task) { c.moving, c.task = to, t }

// Close ends the connection with this turn, after writing what the socket takes; reason goes to Closed.
func (c *Conn) Close(reason error) { c.end(reason) }

// end is Close, for any reason; the first one counts.
func (c *Conn) end(reason error) {
	if c.ended {
		return
	}
	c.ended, c.reason = true, reason
	c.loop.closing = append(c.loop.closing, c)
}

// lastWords appends what the layers say at the end.
func (c *Conn) lastWords() {
	if c.ws != nil && c.ws.upgraded && !c.ws.closed {
		c.ws.closed = true
		code := uint16(wsproto.CloseNormal)
		var e *wsproto.Error
		if errors.As(c.reason, &e) {
			code = e.Code
		}
		c.control(wsproto.AppendClose(nil, code))
	}
	if c.tls != nil {
		c.Flush()
		c.tls.closeWrite()
		c.touch()
	}
}
