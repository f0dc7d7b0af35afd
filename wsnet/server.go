package wsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"noctule/internal/latency"
	"noctule/internal/wsproto"
)

// Server is a set of event loops and the listeners that feed them. Its methods may be called from any
// goroutine.
type Server struct {
	// Set by New, then read-only:
	cfg   Config
	loops []*Loop
	stop  chan struct{} // closed by Shutdown
	epoch time.Time     // of probes
	lag   *latency.Histogram

	workers  chan struct{} // holds a place for each TLS handshake that computes
	entrance *entrance
	inputs   *inputs

	wg sync.WaitGroup // loops, ticker, accepting goroutines

	// Atomic:
	lastID                  atomic.Uint64
	open, accepted, refused atomic.Int64
	running                 atomic.Int64  // loops that have not been told to stop
	turn                    atomic.Uint64 // of connections that are dealt to loops in turn

	mu struct {
		sync.Mutex
		listeners []*Listener
		closed    bool
	}
}

// Listener is one place where connections come in.
type Listener struct {
	// Set by Listen, then read-only:
	server *Server
	cfg    ListenerConfig
	addr   net.Addr
	closer func()      // ends accepting and waits for it
	shakes *handshakes // nil without TLS
	once   sync.Once

	// Atomic:
	live   atomic.Pointer[liveConfig]
	open   atomic.Int64
	closed atomic.Bool
	counts listenerCounts
}

// liveConfig is what Update replaces.
type liveConfig struct {
	rules                   wsproto.Rules
	maxConnections          int64
	noDelay                 bool
	tls                     *tls.Config
	proxyRequireTLS         bool
	proxyRequireCertificate bool
	proxyFrom               []netip.Prefix
}

// Update replaces those settings that can change while the listener is open: MaxConnections, Origins,
// NoDelay, MaxHeader, TLS (a TLS listener stays one, a plain one plain), ProxyRequireTLS,
// ProxyRequireCertificate and ProxyFrom, each for connections that come later. The others stay.
func (ln *Listener) Update(cfg ListenerConfig) {
	if cfg.MaxHeader <= 0 {
		cfg.MaxHeader = defaultMaxHeader
	}
	if old := ln.live.Load(); cfg.TLS == nil && old != nil {
		cfg.TLS = old.tls
	}
	ln.live.Store(&liveConfig{
		rules: wsproto.Rules{
			Subprotocols: ln.cfg.Subprotocols, Origins: cfg.Origins, MaxHeader: cfg.MaxHeader,
		},
		maxConnections: int64(cfg.MaxConnections),
		noDelay:        cfg.NoDelay,
		tls:            cfg.TLS,

		proxyRequireTLS:         cfg.ProxyRequireTLS,
		proxyRequireCertificate: cfg.ProxyRequireCertificate,
		proxyFrom:               cfg.ProxyFrom,
	})
}

// defaultMaxHeader is the size of an upgrade request in bytes, as Mosquitto's packet_buffer_size.
const defaultMaxHeader = 4096

// New starts the loops.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, stop: make(chan struct{}), workers: make(chan struct{}, cfg.TLSWorkers)}
	s.epoch, s.lag = monotonic(), newLag()
	s.entrance, s.inputs = newEntrance(&s.cfg), newInputs(cfg.MaxInput)
	prepareFiles()
	for i := range cfg.Loops {
		l := &Loop{server: s, index: i, probe: probe{server: s}}
		if l.poll, err = newPoller(l, cfg.Portable); err != nil {
			for _, started := range s.loops {
				started.poll.close()
			}
			return nil, fmt.Errorf("wsnet: %w", err)
		}
		l.readBuf = make([]byte, cfg.ReadBufferSize)
		s.loops = append(s.loops, l)
	}
	for _, l := range s.loops {
		l.handler = cfg.NewHandler(l)
		l.turn, _ = l.handler.(TurnHandler)
		l.drain, _ = l.handler.(DrainHandler)
	}
	s.running.Store(int64(len(s.loops)))
	s.wg.Add(len(s.loops) + 1)
	for _, l := range s.loops {
		go l.run() // s.wg
	}
	go s.ticker() // s.wg
	if cfg.Clock.Probes != nil {
		s.wg.Add(1)
		go s.prober() // s.wg
	}
	return s, nil
}

// Loops are the event loops, by index.
func (s *Server) Loops() []*Loop { return s.loops }

// ticker posts the time to each loop, once a second and never twice to one that has not taken the last.
func (s *Server) ticker() {
	defer s.wg.Done()
	waiting := make([]atomic.Bool, len(s.loops))
	for {
		select {
		case <-s.stop:
			return
		case <-s.cfg.Clock.Ticks:
		}
		for i, l := range s.loops {
			if !waiting[i].Swap(true) {
				l.MustPost(TaskFunc(func(l *Loop) {
					waiting[i].Store(false)
					l.tick()
				}))
			}
		}
	}
}

// Listen opens a listener.
func (s *Server) Listen(cfg ListenerConfig) (*Listener, error) {
	if len(cfg.Subprotocols) == 0 {
		cfg.Subprotocols = []string{"mqtt", "mqttv3.1"}
	}
	ln := &Listener{server: s, cfg: cfg}
	ln.Update(cfg)
	if cfg.TLS != nil {
		ln.shakes = newHandshakes(ln)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, ErrServerClosed
	}
	if err := ln.listen(); err != nil {
		return nil, fmt.Errorf("wsnet: listen on %s: %w", cfg.Address, err)
	}
	s.mu.listeners = append(s.mu.listeners, ln)
	return ln, nil
}

// listen begins to accept.
func (ln *Listener) listen() error {
	if ln.cfg.Network == PipeNetwork {
		ln.addr, ln.closer = pipeAddr{}, func() {}
		return nil
	}
	if _, epoll := ln.server.loops[0].poll.(interface{ native() }); epoll {
		return ln.listenNative()
	}
	return ln.listenNet()
}

// Addr is the address it listens on.
func (ln *Listener) Addr() net.Addr { return ln.addr }

// Tag is ListenerConfig's.
func (ln *Listener) Tag() any { return ln.cfg.Tag }

// Config is what Listen was given, with defaults filled in.
func (ln *Listener) Config() ListenerConfig { return ln.cfg }

// Open is the number of connections now.
func (ln *Listener) Open() int64 { return ln.open.Load() }

// Close stops listening; connections stay.
func (ln *Listener) Close() error {
	ln.closed.Store(true)
	ln.once.Do(func() {
		ln.closer()
		if ln.shakes != nil {
			ln.shakes.close()
		}
	})
	return nil
}

// next deals loops in turn.
func (s *Server) next() *Loop { return s.loops[s.turn.Add(1)%uint64(len(s.loops))] }

// newConn makes the connection for an accepted socket.
func (ln *Listener) newConn(io socket) *Conn {
	c := &Conn{listener: ln, id: ln.server.lastID.Add(1), io: io}
	if ln.cfg.WebSocket {
		c.ws = &wsState{}
	}
	return c
}

// admit counts a new connection, or refuses it.
func (ln *Listener) admit(addr netip.AddrPort) bool {
	s := ln.server
	n, all := ln.open.Add(1), s.open.Add(1)
	live := ln.live.Load()
	limit, limitAll := live.maxConnections, int64(s.cfg.MaxConnections)
	var cause RefusalCause
	switch {
	case limit > 0 && n > limit || limitAll > 0 && all > limitAll:
		cause = CauseTooMany
	case ln.cfg.ProxyProtocol != 0 && !live.mayProxy(addr.Addr()):
		cause = CauseProxyPeer
	default:
		s.accepted.Add(1)
		ln.counts.accepted.Add(1)
		return true
	}
	ln.leave()
	s.refused.Add(1)
	ln.refuse(Refusal{Addr: addr, Cause: cause})
	return false
}

// mayProxy says that a peer may send a PROXY header.
func (live *liveConfig) mayProxy(a netip.Addr) bool {
	if len(live.proxyFrom) == 0 || !a.IsValid() {
		return true
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(live.proxyFrom, func(p netip.Prefix) bool { return p.Contains(a) })
}

// leave counts the end of a connection.
func (ln *Listener) leave() {
	ln.open.Add(-1)
	ln.server.open.Add(-1)
}

// Shutdown stops listening, ends every connection with ErrServerClosed after writing what goes at once, and
// stops the loops. It returns when every goroutine has ended, or ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	listeners := s.mu.listeners
	s.mu.Unlock()
	for _, ln := range listeners {
		_ = ln.Close()
	}
	close(s.stop)
	for _, l := range s.loops {
		l.MustPost(TaskFunc((*Loop).stop))
	}
	done := make(chan struct{})
	go func() { // ends with the loops
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("wsnet: shutdown is not complete"), ctx.Err())
	}
}

// acceptPause is how long accepting rests when files have run out.
const acceptPause = 100 * time.Millisecond

func pauseAccept() {
	t := time.NewTimer(acceptPause)
	<-t.C
}
