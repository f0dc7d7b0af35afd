package wsnet

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"time"
)

// Config are the settings of a Server. Zero values mean the defaults named.
type Config struct {
	// Loops is the number of event loops: GOMAXPROCS by default, at most 64.
	Loops int
	// NewHandler makes the handler of one loop; it is called before any event. Required.
	NewHandler func(*Loop) Handler
	// ReadBufferSize is the size of each loop's read buffer in bytes, 64 KiB by default.
	ReadBufferSize int
	// MailboxLimit is how many tasks may wait at one loop before Post refuses, 65536 by default.
	MailboxLimit int
	// MaxPending is how many bytes of unconsumed input one connection may hold, 256 MiB + 5 by default.
	MaxPending int
	// MaxInput is how many bytes of unconsumed input all connections together may hold, 512 MiB by default;
	// less than 4 KiB of one does not count. See InputHandler.
	MaxInput int64
	// HandshakeTimeout bounds what comes before the first byte for the handler: TLS handshake, and PROXY
	// header with WebSocket upgrade; 10 s by default. The latter are looked at once a second.
	HandshakeTimeout time.Duration
	// FirstByteTimeout bounds the silence before a TLS handshake; 5 s by default, looked at once a second.
	FirstByteTimeout time.Duration
	// HandshakeStall is how long a TLS handshake may wait for its client when others want its place; 2 s by
	// default.
	HandshakeStall time.Duration
	// MaxGuests is how many connections may be before Conn.Arrived, 16384 by default or half of the files
	// that the process may open. An address may have a quarter of them, if it is not of this machine. The
	// oldest of the address with most gives way to new ones.
	MaxGuests int
	// TLSHandshakes is how many TLS handshakes may be under way at once, 1024 by default, a quarter of them
	// of one address; more wait for their turn, addresses by turns.
	TLSHandshakes int
	// TLSWorkers is how many of those may compute at once, one for two loops by default: the others wait for
	// their client or for their turn, so that a storm of handshakes leaves processors to the loops.
	TLSWorkers int
	// MaxConnections closes connections over this number, of all listeners, at accept; 0 or less means no
	// limit.
	MaxConnections int
	// Portable selects goroutines per connection where epoll exists too.
	Portable bool
	// Clock is the system's by default.
	Clock *Clock
	// OnCrash, if not nil, hears of a panic of a goroutine that handles what clients send, on that goroutine.
	// When it returns the panic goes on and ends the process; meanwhile the other loops still run.
	OnCrash func(Crash)
	// Log receives what the operator should know. Required.
	Log *slog.Logger
}

const maxLoops = 64

func (c Config) withDefaults() (Config, error) {
	if c.NewHandler == nil || c.Log == nil {
		return c, errors.New("wsnet: NewHandler and Log are required")
	}
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	if c.Clock == nil {
		c.Clock = SystemClock()
	}
	set(&c.Loops, runtime.GOMAXPROCS(0))
	c.Loops = min(c.Loops, maxLoops)
	set(&c.ReadBufferSize, 64<<10)
	set(&c.MailboxLimit, 65536)
	set(&c.MaxPending, 256<<20+5)
	if c.MaxInput <= 0 {
		c.MaxInput = 512 << 20
	}
	set(&c.TLSHandshakes, 1024)
	set(&c.MaxGuests, int(min(defaultGuests, filesMax()/2)))
	set(&c.TLSWorkers, max(c.Loops/2, 1))
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = 10 * time.Second
	}
	if c.HandshakeStall <= 0 {
		c.HandshakeStall = 2 * time.Second
	}
	if c.FirstByteTimeout <= 0 {
		c.FirstByteTimeout = min(5*time.Second, c.HandshakeTimeout)
	}
	return c, nil
}

// ListenerConfig are the settings of one listener.
type ListenerConfig struct {
	// Network is "tcp" (both families where the address allows), "tcp4", "tcp6" (IPv6 only), "unix", or
	// PipeNetwork, which has connections by Listener.Pipe only, as all may have.
	Network string
	// Address is host:port, or the path of a unix socket. Port 0 picks a free one. Pipes have none.
	Address string
	// UnixMode is the mode of a unix socket's file; 0 leaves it to the umask.
	UnixMode os.FileMode
	// WebSocket speaks WebSocket on this listener.
	WebSocket bool
	// Subprotocols are those accepted, "mqtt" and "mqttv3.1" by default.
	Subprotocols []string
	// Origins are the exact Origin headers accepted; empty means any.
	Origins []string
	// MaxHeader is the size of an upgrade request in bytes, 4096 by default.
	MaxHeader int
	// TLS makes it a TLS listener. A VerifyConnection that fails with an error that has a method
	// TLSAlert() uint8 chooses the alert that the client gets.
	TLS *tls.Config
	// ProxyProtocol is the version, 1 or 2, of the PROXY header that each connection must begin with; 0 means
	// none. The address in it takes the place of the peer's. TLS, if any, begins behind it.
	ProxyProtocol int
	// ProxyFrom are the peers that may send a PROXY header, which others are refused for; empty means
	// anybody. Unix sockets always may.
	ProxyFrom []netip.Prefix
	// ProxyRequireTLS refuses connections whose PROXY header does not tell of TLS.
	ProxyRequireTLS bool
	// ProxyRequireCertificate refuses connections whose PROXY header does not tell of a client certificate
	// that the proxy has verified.
	ProxyRequireCertificate bool
	// NoDelay sets TCP_NODELAY.
	NoDelay bool
	// MaxConnections closes connections over this number at accept; 0 or less means no limit.
	MaxConnections int
	// OnRefuse hears of connections that end before Opened, from any goroutine; it may be nil.
	OnRefuse func(Refusal)
	// Tag is the caller's.
	Tag any
}

// Refusal is a connection that ends before Opened.
type Refusal struct {
	// Listener is where it came in.
	Listener *Listener
	// Addr is the peer's address, zero for unix sockets and pipes. Path is that of the peer's unix socket
	// where a PROXY header tells it, PipeNetwork for pipes.
	Addr  netip.AddrPort
	Path  string
	Cause RefusalCause
	// Err says more where there is more to say: of CauseTLS, CauseUpgrade and CauseProxyHeader what is wrong,
	// of CauseTimeout and CauseClosed what had not come. There may be parts of what the client sent in it.
	Err error
	// Origin is the header of CauseOrigin, as the client has sent it.
	Origin string
}

// RefusalCause is why a connection is turned away.
type RefusalCause uint8

// Causes of refusals.
const (
	CauseTooMany            RefusalCause = iota // MaxConnections of the listener or the server
	CauseProxyHeader                            // no or a wrong PROXY header
	CauseProxyNoTLS                             // ProxyRequireTLS
	CauseProxyNoCertificate                     // ProxyRequireCertificate
	CauseTLS                                    // the handshake failed
	CauseOrigin                                 // the Origin of a WebSocket is not among Origins
	CauseUpgrade                                // the request for a WebSocket is wrong otherwise
	CauseProxyPeer                              // it is not in ProxyFrom
	CauseGaveWay                                // too many have not arrived, and it is the turn of others
	CauseExhausted                              // files or memory have run out; OnRefuse does not hear of it
	CauseTimeout                                // what comes before Opened was not there in time
	RefusalCauses                               // number of causes that are counted
	CauseClosed                                 // the client has gone before Opened, by itself
)

// String is the cause in one word, for metrics.
func (c RefusalCause) String() string {
	return [...]string{
		"limit", "proxy_header", "proxy_without_tls", "proxy_without_certificate", "tls", "origin", "upgrade",
		"proxy_peer", "gave_way", "no_files", "timeout", "", "closed",
	}[c]
}

// Handler receives the events of one loop, on the loop's goroutine.
type Handler interface {
	// Opened says that bytes may flow: TLS handshake and WebSocket upgrade are done.
	Opened(c *Conn)
	// Data hands over all unconsumed input, a loan until return. It returns how many bytes it consumed and,
	// when some are left, how many there must be in all, from the first unconsumed one, before a further
	// call makes sense (0: any more). Inside, the connection may be written, closed and moved; after Move,
	// Data must return at once.
	Data(c *Conn, b []byte) (used, need int)
	// Closed is called exactly once for each connection that was Opened, and is the last call for it.
	Closed(c *Conn, reason error)
}

// TurnHandler is implemented by handlers that want to know about turns and time.
type TurnHandler interface {
	// EndTurn is called at the end of each turn, before connections are written.
	EndTurn()
	// Tick is called about once a second with the time in Unix milliseconds.
	Tick(now int64)
}

// DrainHandler is implemented by handlers that want to know when a slow connection has caught up.
type DrainHandler interface {
	// Drained says that everything buffered was written after a write had blocked.
	Drained(c *Conn)
}

// InputHandler is implemented by handlers that have something to say to a connection that has to go because
// all together hold more than MaxInput: of the address that holds most it is the one that holds most.
type InputHandler interface {
	// InputGaveWay says so. The connection ends with ErrInputGaveWay if the handler does not end it.
	InputGaveWay(c *Conn)
}

// Task is work for a loop.
type Task interface {
	// Run is called on the loop's goroutine.
	Run(l *Loop)
}

// TaskFunc is a function as a Task.
type TaskFunc func(l *Loop)

// Run implements Task.
func (f TaskFunc) Run(l *Loop) { f(l) }

// Errors that Closed may report.
var (
	// ErrServerClosed says that Shutdown closed the connection.
	ErrServerClosed = errors.New("wsnet: server closed")
	// ErrProtocol wraps breaches of the WebSocket protocol by the client.
	ErrProtocol = errors.New("wsnet: protocol error")
	// ErrGaveWay says that too many connections have not arrived, and that it is the turn of others.
	ErrGaveWay = errors.New("wsnet: gave way to others")
	// ErrInputGaveWay says that all connections together hold too much unconsumed input, and this one most.
	ErrInputGaveWay = errors.New("wsnet: too much unconsumed input of all connections")
	// ErrRefused says that OnRefuse has heard of it.
	ErrRefused = errors.New("wsnet: refused")
	// ErrPending says that a connection sent more than MaxPending bytes that the handler did not consume.
	ErrPending = errors.New("wsnet: too much unconsumed input")
)

// errPeerClosed is the reason of a WebSocket connection that the peer closed.
var errPeerClosed = io.EOF
