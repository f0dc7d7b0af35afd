package wsnet

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"noctule/internal/proxyproto"
	"noctule/internal/tlsalert"
)

// handshakes are the TLS handshakes of one listener that are under way. Each has a goroutine from its
// client's first byte on; how many there are is the entrance's to say, and how many of those compute at once
// is bounded by the server's workers.
type handshakes struct {
	ln     *Listener
	cancel context.CancelFunc
	ctx    context.Context

	mu struct {
		sync.Mutex
		closed bool
		wg     sync.WaitGroup // goroutines of handshakes; none begins once closed is set
	}
}

func newHandshakes(ln *Listener) *handshakes {
	h := &handshakes{ln: ln}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// begin runs f for a client on a goroutine that close waits for; false if it is too late.
func (h *handshakes) begin(peer netip.AddrPort, f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.closed {
		return false
	}
	h.mu.wg.Go(func() { // close waits
		defer h.ln.server.crashing(nil, peer)
		f()
	})
	return true
}

// close ends all handshakes and waits for them.
func (h *handshakes) close() {
	h.mu.Lock()
	h.mu.closed = true
	h.mu.Unlock()
	h.cancel()
	h.mu.wg.Wait()
}

// knock waits for the first byte of a client and for a slot, where there is no loop to do it.
func (h *handshakes) knock(nc net.Conn, g *guest) {
	cfg := &h.ln.server.cfg
	ctx, cancel := context.WithTimeout(h.ctx, cfg.FirstByteTimeout+cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = nc.SetReadDeadline(monotonic().Add(cfg.FirstByteTimeout))
	early := make([]byte, 1)
	if !g.cutBy(cancel) {
		cancel()
	}
	_, err := nc.Read(early)
	if err == nil {
		granted := make(chan struct{})
		g.shake(func() { close(granted) })
		select {
		case <-granted:
			stop()
			h.shake(nc, early, g)
			return
		case <-ctx.Done():
			err = os.ErrDeadlineExceeded
		}
	}
	if errors.Is(err, io.EOF) {
		err = errSilent
	}
	h.fail(nc, g, Refusal{Addr: remoteAddr(nc), Err: errNothing}, err)
}

// shake does the handshake of one connection, of which early was read before, and gives it to a loop or
// closes it.
func (h *handshakes) shake(nc net.Conn, early []byte, g *guest) {
	ln, addr := h.ln, remoteAddr(nc)
	_ = nc.SetDeadline(monotonic().Add(ln.server.cfg.HandshakeTimeout))
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	if !g.cutBy(cancel) {
		cancel()
	}
	g.waits()
	missing := errNoProxy
	header, early, err := h.header(nc, early, &addr)
	if err == nil {
		missing = errNoTLS
		var t *tlsState
		if t, err = ln.handshake(nc, early, g); err == nil && stop() {
			g.shaken()
			ln.startTLS(nc, t, header, g)
			return
		}
	}
	stop()
	h.fail(nc, g, Refusal{Addr: addr, Err: missing}, err)
}

// fail closes a connection whose handshake came to nothing. Of r are the address and what was still to come.
func (h *handshakes) fail(nc net.Conn, g *guest, r Refusal, err error) {
	ln := h.ln
	var refused refusedError
	failure := TLSFailures
	switch {
	case h.ctx.Err() != nil:
		ln.abandon(nc, g)
		return
	case g.pushedOut():
		r.Cause, r.Err = CauseGaveWay, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		ln.server.loops[0].stats.timedOut.Add(1)
		r.Cause, failure = CauseTimeout, TLSTimeout
	case errors.As(err, &refused):
		r.Path, r.Cause, r.Err = refused.path, refused.cause, refused.error
	case errors.Is(err, errSilent):
		r.Cause = CauseClosed
	case errors.Is(err, io.EOF):
		r.Cause, failure = CauseClosed, TLSClosed
	default:
		if failure = tlsFailure(err); failure == TLSClosed {
			r.Cause = CauseClosed
		} else {
			r.Cause, r.Err = CauseTLS, foreign(err)
		}
	}
	if failure < TLSFailures {
		ln.counts.tls[failure].Add(1)
	}
	ln.refuse(r)
	if r.Cause == CauseTLS {
		g.waits()
		farewell(nc)
	}
	ln.abandon(nc, g)
}

// refusedError is a connection that its PROXY header condemns.
type refusedError struct {
	error
	cause RefusalCause
	path  string
}

// header reads the PROXY header where there must be one, and puts its address into addr.
func (h *handshakes) header(
	nc net.Conn, early []byte, addr *netip.AddrPort,
) (*proxyproto.Header, []byte, error) {
	version := h.ln.cfg.ProxyProtocol
	if version == 0 {
		return nil, early, nil
	}
	p, early, err := readProxy(nc, early, version)
	if err != nil {
		if errors.Is(err, proxyproto.ErrHeader) {
			err = refusedError{err, CauseProxyHeader, ""}
		}
		return nil, nil, err
	}
	if p.Unix {
		*addr = netip.AddrPort{}
	} else if p.Source.IsValid() {
		*addr = netip.AddrPortFrom(p.Source.Addr().Unmap(), p.Source.Port())
	}
	if cause, ok := h.ln.judge(p); !ok {
		return nil, nil, refusedError{ErrRefused, cause, p.Path}
	}
	return p, early, nil
}

// handshake does the TLS part; early is what was read before.
func (ln *Listener) handshake(nc net.Conn, early []byte, g *guest) (*tlsState, error) {
	p := &pipe{Conn: nc, in: early, shaking: &shaking{workers: ln.server.workers, guest: g}}
	conn := tls.Server(p, p.shaking.config(ln.live.Load().tls))
	g.computes()
	p.shaking.workers <- struct{}{}
	err := conn.Handshake()
	<-p.shaking.workers
	p.shaking.guest, p.shaking.secret, p.shaking = nil, nil, nil
	return &tlsState{conn: conn, pipe: p}, err
}

// farewell lets an alert arrive: closing with input unread resets the connection, and overtakes it.
func farewell(nc net.Conn) {
	if cw, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
	_ = nc.SetReadDeadline(monotonic().Add(lingerTime * time.Millisecond))
	_, _ = io.CopyN(io.Discard, nc, farewellBytes)
}

// farewellBytes is how much a client may have sent ahead of its alert.
const farewellBytes = 256 << 10

// shaking is what a connection has during its handshake only.
type shaking struct {
	workers chan struct{} // holds one place per handshake that computes
	guest   *guest

	// For the alert that a VerifyConnection asks for:
	alert    uint8
	version  uint16
	suite    uint16
	secret   []byte    // protects what the server sends first in TLS 1.3
	original io.Writer // KeyLogWriter of the listener
}

// alerter is an error of VerifyConnection that chooses the alert.
type alerter interface {
	error
	TLSAlert() uint8
}

// config is base, or what a connection needs of its own where a VerifyConnection may choose an alert. Tickets
// are sealed by base, whose keys outlive the connection; who resumes a session is verified again.
func (s *shaking) config(base *tls.Config) *tls.Config {
	if base.VerifyConnection == nil {
		return base
	}
	c := base.Clone()
	if !base.SessionTicketsDisabled {
		c.WrapSession, c.UnwrapSession = base.EncryptTicket, base.DecryptTicket
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		err := base.VerifyConnection(cs)
		if a := alerter(nil); errors.As(err, &a) {
			s.alert, s.version, s.suite = a.TLSAlert(), cs.Version, cs.CipherSuite
		}
		return err
	}
	s.original, c.KeyLogWriter = base.KeyLogWriter, s
	if choose := base.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			other, err := choose(hello)
			if other != nil {
				other = s.config(other)
			}
			return other, err
		}
	}
	return c
}

// Write implements io.Writer for a KeyLogWriter.
func (s *shaking) Write(line []byte) (int, error) {
	words := strings.Fields(string(line))
	if len(words) == 3 && words[0] == "SERVER_TRAFFIC_SECRET_0" {
		s.secret, _ = hex.DecodeString(words[2]) // crypto/tls wrote it
	}
	if s.original == nil {
		return len(line), nil
	}
	return s.original.Write(line)
}

// spoken are records of which the last has the alert that was asked for, if it is one that can be changed.
func (s *shaking) spoken(records []byte) []byte {
	if s.alert == 0 {
		return records
	}
	last := lastRecord(records)
	changed, ok := tlsalert.Plain(records[last:], s.alert)
	if s.version == tls.VersionTLS13 {
		changed, ok = tlsalert.Encrypted(records[last:], s.suite, s.secret, s.alert)
	}
	if !ok {
		return records
	}
	return append(records[:last:last], changed...)
}

// lastRecord is where the last TLS record of b begins.
func lastRecord(b []byte) int {
	const head = 5
	for at := 0; ; {
		if len(b)-at < head {
			return at
		}
		next := at + head + int(binary.BigEndian.Uint16(b[at+3:]))
		if next >= len(b) {
			return at
		}
		at = next
	}
}
