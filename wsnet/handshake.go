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

// handshakes are the TLS handshakes of one listener that are under way. Each has a goroutine; how many of
// those compute at once is bounded by the server's workers.
type handshakes struct {
	ln     *Listener
	slots  chan struct{}
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup
}

func newHandshakes(ln *Listener) *handshakes {
	h := &handshakes{ln: ln, slots: make(chan struct{}, ln.server.cfg.TLSHandshakes)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// serve accepts connections from nl, shakes hands and gives them to the listener. It returns when nl is
// closed and every handshake has ended.
func (h *handshakes) serve(nl net.Listener) {
	defer h.wg.Wait()
	for {
		h.slots <- struct{}{}
		nc, err := nl.Accept()
		if err != nil {
			<-h.slots
			if !h.ln.restAfter(err) {
				return
			}
			continue
		}
		if !h.ln.admit(remoteAddr(nc)) {
			<-h.slots
			_ = nc.Close()
			continue
		}
		h.wg.Go(func() { // serve waits
			defer func() { <-h.slots }()
			h.shake(nc)
		})
	}
}

// shake does the handshake of one connection, and gives it to a loop or closes it.
func (h *handshakes) shake(nc net.Conn) {
	ln, addr := h.ln, remoteAddr(nc)
	_ = nc.SetDeadline(monotonic().Add(ln.server.cfg.HandshakeTimeout))
	stop := context.AfterFunc(h.ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	header, early, err := h.header(nc, &addr)
	if err == nil {
		var t *tlsState
		if t, err = ln.handshake(nc, early); err == nil && stop() {
			ln.startTLS(nc, t, header)
			return
		}
	}
	stop()
	ln.leave()
	var refused refusedError
	switch {
	case h.ctx.Err() != nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		ln.server.loops[0].stats.timedOut.Add(1)
	case errors.As(err, &refused):
		ln.refuse(Refusal{Addr: addr, Path: refused.path, Cause: refused.cause, Err: refused.error})
	case !errors.Is(err, io.EOF):
		ln.refuse(Refusal{Addr: addr, Cause: CauseTLS, Err: err})
		farewell(nc)
	}
	_ = nc.Close()
}

// refusedError is a connection that its PROXY header condemns.
type refusedError struct {
	error
	cause RefusalCause
	path  string
}

// header reads the PROXY header where there must be one, and puts its address into addr.
func (h *handshakes) header(nc net.Conn, addr *netip.AddrPort) (*proxyproto.Header, []byte, error) {
	version := h.ln.cfg.ProxyProtocol
	if version == 0 {
		return nil, nil, nil
	}
	p, early, err := readProxy(nc, version)
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
func (ln *Listener) handshake(nc net.Conn, early []byte) (*tlsState, error) {
	p := &pipe{Conn: nc, in: early, shaking: &shaking{workers: ln.server.workers}}
	conn := tls.Server(p, p.shaking.config(ln.live.Load().tls))
	p.shaking.workers <- struct{}{}
	err := conn.Handshake()
	<-p.shaking.workers
	p.shaking.secret, p.shaking = nil, nil
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
