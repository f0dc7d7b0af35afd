package wsnet

import (
	"net"
	"net/netip"

	"noctule/internal/proxyproto"
)

// PROXY headers, with which a proxy in front tells the address of its client. On a loop a header is collected
// like any input; before TLS it is read by the goroutine of the handshake.

// inputProxy takes raw bytes of a connection whose header is still to come.
func (l *Loop) inputProxy(c *Conn, b []byte) {
	x := c.extra
	if len(x.raw) > 0 {
		b = append(x.raw, b...)
		x.raw = nil
	}
	h, n, err := proxyproto.Parse(b, c.listener.cfg.ProxyProtocol)
	switch {
	case err != nil:
		c.refuse(CauseProxyHeader, err)
		return
	case n == 0:
		x.raw = append([]byte(nil), b...) // less than MaxSize
		return
	}
	x.proxying = false
	c.setProxied(&h)
	if cause, ok := c.listener.judge(&h); !ok {
		c.refuse(cause, nil)
		return
	}
	if c.ws == nil {
		c.greeted()
		l.opened(c)
	}
	if n < len(b) {
		l.inputClear(c, b[n:])
	}
}

// refuse ends a connection before it was opened.
func (c *Conn) refuse(cause RefusalCause, err error) {
	c.tell(Refusal{Cause: cause, Err: err})
	c.end(ErrRefused)
}

// tell tells of a connection that is not opened.
func (c *Conn) tell(r Refusal) {
	r.Addr = c.RemoteAddr()
	if h := c.Proxied(); h != nil {
		r.Path = h.Path
	}
	c.listener.refuse(r)
}

// refuse tells of a connection that comes to nothing.
func (ln *Listener) refuse(r Refusal) {
	if r.Cause < RefusalCauses {
		ln.counts.refused[r.Cause].Add(1)
	}
	if ln.cfg.OnRefuse != nil {
		r.Listener = ln
		ln.cfg.OnRefuse(r)
	}
}

// judge says whether a header tells what the listener requires, and if not, what is missing.
func (ln *Listener) judge(h *proxyproto.Header) (RefusalCause, bool) {
	live := ln.live.Load()
	switch {
	case live.proxyRequireTLS && h.TLS == nil:
		return CauseProxyNoTLS, false
	case live.proxyRequireCertificate && (h.TLS == nil || !h.TLS.Certificate):
		return CauseProxyNoCertificate, false
	}
	return 0, true
}

// setProxied takes over what a header tells.
func (c *Conn) setProxied(h *proxyproto.Header) {
	switch {
	case h.Source.IsValid():
		c.setAddr(h.Source)
		c.renamed(h.Source)
	case h.Unix:
		c.addr, c.port = [16]byte{}, 0
		c.renamed(netip.AddrPort{})
	}
	if h.Unix || h.TLS != nil || h.Source.IsValid() && c.port == 0 {
		c.more().proxied = h
	}
}

// renamed counts a guest by what its header claims.
func (c *Conn) renamed(a netip.AddrPort) {
	if c.extra != nil && c.extra.guest != nil {
		c.extra.guest.rename(a)
	}
}

// Proxied is what a PROXY header told beside an address and a port; nil if nothing.
func (c *Conn) Proxied() *proxyproto.Header {
	if c.extra == nil {
		return nil
	}
	return c.extra.proxied
}

// greeted says that a connection has got on before its deadline.
func (c *Conn) greeted() {
	c.extra.greeting.c, c.extra.greeting = nil, nil
	c.settle()
}

// readProxy reads a header from nc, of which early was read before, and returns what came behind it too.
func readProxy(nc net.Conn, early []byte, version int) (h *proxyproto.Header, rest []byte, err error) {
	b := append(make([]byte, 0, proxyproto.MaxSize), early...)
	for {
		n, err := nc.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if n > 0 {
			h, size, bad := proxyproto.Parse(b, version)
			if bad != nil {
				return nil, nil, bad
			}
			if size > 0 {
				return &h, b[size:], nil
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
}
