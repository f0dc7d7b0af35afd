package wsnet

import (
	"crypto/tls"
	"errors"
	"net/netip"

	"noctule/internal/proxyproto"
	"noctule/internal/wsproto"
)

// fdSocket is the file descriptor of a non-blocking socket on an epoll loop.
type fdSocket int32

// octets is a socket's bytes.
type octets interface {
	// read fills b; errWouldBlock when there is nothing, io.EOF at the peer's end.
	read(b []byte) (int, error)
	// write and writev take as much as goes without blocking; 0 when nothing does.
	write(b []byte) (int, error)
	writev(pieces [][]byte) (int, error)
}

// registration is a socket's place in the poller of a loop.
type registration interface {
	register(l *Loop, c *Conn) error
	unregister(l *Loop, c *Conn)
	// close gives the socket up, and its place.
	close(l *Loop)
}

// socket is a connection's way to the operating system.
type socket interface {
	octets
	registration
	// shutdown ends the sending direction; false if that is not possible.
	shutdown() bool
}

var errWouldBlock = errors.New("wsnet: would block")

// Conn is one connection. Its methods are for its loop's goroutine. An idle one is what it is here, 144
// bytes, and nothing else of the heap's: what is seldom there is in extra.
type Conn struct {
	// Attachment is the handler's.
	Attachment any

	// Set when it is accepted, then read-only:
	listener *Listener
	id       uint64
	io       socket    // for epoll it points to fd below
	ws       *wsState  // nil unless WebSocket
	tls      *tlsState // nil unless TLS

	// Owned by the loop:
	loop  *Loop
	extra *extra // nil while nothing of it is there
	out   []byte // open output buffer; nil when there is none
	size  int    // bytes given by the handler in out and the backlog's frame

	// Set when it is accepted, then read-only:
	fd   fdSocket // pipeFd of pipes
	addr [16]byte // of the peer; IPv4 as IPv6
	port uint16   // of the peer; 0 for unix sockets

	// Owned by the loop:
	dirty    bool // in the loop's dirty list
	queued   bool // in the loop's ready list
	open     bool // Opened was called and Closed was not
	ended    bool // no more input goes to the handler
	linger   bool // shut down, waiting for the peer
	gone     bool // the socket is closed
	hup      bool // the peer has ended its direction, or the socket has failed
	peerGone bool // read or write failed
	peerDone bool // the peer has ended its direction, and all of it was read
	blocked  bool // the socket takes no more
}

// extra is what a connection has only for a time. It is borrowed from the loop.
type extra struct {
	queue    *backlog   // a write has blocked, or a piece is shared
	pending  []byte     // input the handler did not consume
	need     int        // bytes the handler waits for
	input    *input     // of pending and raw, once there was much
	units    int        // of input that are counted
	told     int        // bytes that Progress has told of
	raw      []byte     // PROXY header or upgrade request so far, or an incomplete frame or control frame
	greeting *handshake // of a connection before PROXY header and upgrade, or before its turn to shake hands
	guest    *guest     // until Arrived
	knocking bool       // TLS is to begin; nothing is read
	asked    bool       // knocking, and it wants a slot for its handshake
	moving   *Loop      // Move was called
	task     Task
	held     bool               // Hold was called
	reason   error              // of the end
	proxying bool               // the PROXY header is still to come
	proxied  *proxyproto.Header // what it told beside an address; it stays
}

// more returns the extra part, to put something into.
func (c *Conn) more() *extra {
	c.loop.MustBeHere()
	if c.extra == nil {
		l := c.loop
		if n := len(l.extras); n > 0 {
			c.extra = l.extras[n-1]
			l.extras = l.extras[:n-1]
		} else {
			c.extra = &extra{}
		}
	}
	return c.extra
}

// maxExtras is how many unused extra parts a loop keeps.
const maxExtras = 1024

// settle gives the extra part back once nothing is in it.
func (c *Conn) settle() {
	c.loop.MustBeHere()
	x := c.extra
	if x == nil || x.queue != nil || x.pending != nil || x.raw != nil || x.greeting != nil ||
		x.guest != nil || x.moving != nil || x.held || x.reason != nil || x.proxied != nil {
		return
	}
	c.loop.forgetInput(c)
	c.extra = nil
	x.need, x.told = 0, 0
	if l := c.loop; len(l.extras) < maxExtras {
		l.extras = append(l.extras, x)
	}
}

// Progress is how many bytes have arrived, since the last call, of what the handler cannot take before
// more of it is there. On TLS connections all bytes count that have come since the handler took something.
func (c *Conn) Progress() int {
	c.loop.MustBeHere()
	if t := c.tls; t != nil {
		by := t.received - t.told
		t.told = t.received
		return int(by)
	}
	x := c.extra
	if x == nil {
		return 0
	}
	n := len(x.pending) + len(x.raw)
	by := n - x.told
	x.told = n
	return by
}

// progressed begins Progress anew: the handler has taken something.
func (c *Conn) progressed() {
	if c.tls != nil {
		c.tls.told = c.tls.received
	} else if c.extra != nil {
		c.extra.told = 0
	}
}

// backlog is the output that waits; nil when there is none.
func (c *Conn) backlog() *backlog {
	if c.extra == nil {
		return nil
	}
	return c.extra.queue
}

// addBacklog is backlog, made if there is none.
func (c *Conn) addBacklog() *backlog {
	x := c.more()
	if x.queue == nil {
		x.queue = &backlog{}
	}
	return x.queue
}

// moving reports whether it is to move to another loop.
func (c *Conn) moving() bool { return c.extra != nil && c.extra.moving != nil }

// stopped reports whether the handler takes no input now: the connection is to move, or is held.
func (c *Conn) stopped() bool { return c.extra != nil && (c.extra.moving != nil || c.extra.held) }

// reason is why it has ended.
func (c *Conn) reason() error {
	if c.extra == nil {
		return nil
	}
	return c.extra.reason
}

// Loop is the loop it belongs to.
func (c *Conn) Loop() *Loop { return c.loop }

// Listener is where it came from.
func (c *Conn) Listener() *Listener { return c.listener }

// ID is unique among the server's connections.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the peer's address, or what a PROXY header said; zero for unix sockets and pipes.
func (c *Conn) RemoteAddr() netip.AddrPort {
	if c.port == 0 {
		if c.listener.cfg.ProxyProtocol != 0 {
			if h := c.Proxied(); h != nil { // of port 0
				return h.Source
			}
		}
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(c.addr).Unmap(), c.port)
}

// Local says that the peer's own socket is of this machine, or that it has none. Behind a PROXY header it
// never is: what the header claims is the client's word as often as the proxy's.
func (c *Conn) Local() bool {
	if c.Piped() {
		return true
	}
	return c.listener.cfg.ProxyProtocol == 0 && (c.port == 0 || netip.AddrFrom16(c.addr).Unmap().IsLoopback())
}

func (c *Conn) setAddr(a netip.AddrPort) {
	if a.IsValid() {
		c.addr, c.port = a.Addr().As16(), a.Port()
	}
}

// WebSocket reports whether it speaks WebSocket.
func (c *Conn) WebSocket() bool { return c.ws != nil }

// Subprotocol is the WebSocket sub-protocol.
func (c *Conn) Subprotocol() string {
	if c.ws == nil {
		return ""
	}
	return c.listener.cfg.Subprotocols[c.ws.subprotocol]
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
func (c *Conn) Move(to *Loop, t Task) {
	c.loop.MustBeHere()
	x := c.more()
	x.moving, x.task = to, t
}

// Hold stops the connection's input until Release, while something that must not block the loop is decided
// elsewhere. It may be called inside Data, which must return at once. Output and Close go on as ever; the
// peer's end is noticed after Release only.
func (c *Conn) Hold() {
	c.loop.MustBeHere()
	c.more().held = true
}

// Held reports whether it is held.
func (c *Conn) Held() bool {
	c.loop.MustBeHere()
	return c.extra != nil && c.extra.held
}

// Release ends a Hold, outside Data: the connection moves to a loop, its own or another one, where t runs
// first and then Data with what is not consumed. It returns false, and t does not run, when the connection
// has ended meanwhile.
func (c *Conn) Release(to *Loop, t Task) bool {
	c.loop.MustBeHere()
	if c.ended || c.gone || c.extra == nil {
		return false
	}
	c.extra.held = false
	c.Move(to, t)
	c.loop.sendOff(c)
	return true
}

// Arrived says that the peer has shown what it wants, with a login for example: it is one of the guests no
// more, whose number is bounded and who give way to each other. A connection that moves has arrived.
func (c *Conn) Arrived() {
	c.loop.MustBeHere()
	if x := c.extra; x != nil && x.guest != nil {
		x.guest.leave()
		x.guest, x.knocking, x.asked = nil, false, false
		c.settle()
	}
}

// Close ends the connection with this turn, after writing what the socket takes; reason goes to Closed.
func (c *Conn) Close(reason error) { c.end(reason) }

// end is Close, for any reason; the first one counts.
func (c *Conn) end(reason error) {
	c.loop.MustBeHere()
	if c.ended {
		return
	}
	c.ended = true
	c.more().reason = reason
	c.loop.closing = append(c.loop.closing, c)
}

// lastWords appends what the layers say at the end.
func (c *Conn) lastWords() {
	if c.ws != nil && c.ws.upgraded {
		c.control(wsproto.AppendClose(nil, c.ws.closeCode(c.reason())))
	}
	if c.tls != nil {
		c.Flush()
		c.tls.closeWrite()
		c.touch()
	}
}
