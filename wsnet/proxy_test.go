package wsnet

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"noctule/internal/proxyproto"
)

// proxy2 is a PROXY header of version 2 from 192.0.2.5:6275, or a unix socket, with further fields.
func proxy2(command byte, unix bool, fields string) string {
	family, body := byte(0x11), "\xC0\x00\x02\x05\xC0\x00\x02\x06\x18\x83\x07\x5B"
	if unix {
		family, body = 0x31, "/client"+strings.Repeat("\x00", 101)+strings.Repeat("\x00", 108)
	}
	body += fields
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(body)))) + body
}

// sslField tells of TLS, and with a name of a verified certificate.
func sslField(name string) string {
	body, bits := "\x21\x00\x07TLSv1.3\x23\x00\x01X", "\x01"
	if name != "" {
		body, bits = body+"\x22\x00"+string(rune(len(name)))+name, "\x03"
	}
	body = bits + "\x00\x00\x00\x00" + body
	return "\x20\x00" + string(rune(len(body))) + body
}

const proxy1 = "PROXY TCP4 192.0.2.5 192.0.2.6 6275 1883\r\n"

// proxied is a listener that wants PROXY headers.
func proxied(version int) ListenerConfig {
	cfg := loopback()
	cfg.ProxyProtocol = version
	return cfg
}

// TestProxyHeader sends headers whole and byte by byte, before a stream and before WebSocket.
func TestProxyHeader(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.5:6275")
	certified := &proxyproto.TLS{Version: "TLSv1.3", Cipher: "X", Certificate: true, CommonName: "me"}
	tests := []struct {
		name    string
		version int
		header  string
		addr    netip.AddrPort // the client's own if it is not valid
		unix    bool
		tls     *proxyproto.TLS
	}{
		{"version 1", 1, proxy1, far, false, nil},
		{"port 0", 2, strings.Replace(proxy2(0x21, false, ""), "\x18\x83", "\x00\x00", 1), netip.AddrPortFrom(far.Addr(), 0), false, nil},
		{"IPv4 as IPv6", 1, "PROXY TCP6 ::ffff:192.0.2.5 ::1 6275 1883\r\n", far, false, nil},
		{"unknown", 1, "PROXY UNKNOWN\r\n", netip.AddrPort{}, false, nil},
		{"version 2", 2, proxy2(0x21, false, ""), far, false, nil},
		{"local", 2, proxy2(0x20, false, ""), netip.AddrPort{}, false, nil},
		{"unix", 2, proxy2(0x21, true, ""), netip.AddrPort{}, true, nil},
		{"TLS", 2, proxy2(0x21, false, sslField("me")), far, false, certified},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			for _, webSocket := range []bool{false, true} {
				cfg := proxied(tt.version)
				request, answer := "a", "a"
				if cfg.WebSocket = webSocket; webSocket {
					request, answer = upgradeRequest+frame(ws.OpBinary, "a"), "\x82\x01a"
				}
				a := listen(t, r.Server, cfg)
				for _, step := range []int{1000, 1} {
					nc := dial(t, a)
					all := tt.header + request
					for len(all) > 0 {
						n := min(step, len(all))
						mustWrite(t, nc, all[:n])
						all = all[n:]
					}
					if got := readUntil(t, nc, answer); !strings.HasSuffix(got, answer) {
						t.Errorf("%s: answer %q", tt.name, got)
					}
					c := get(t, r.opened)
					want := tt.addr
					if !want.IsValid() && !tt.unix {
						want = nc.LocalAddr().(*net.TCPAddr).AddrPort()
					}
					got, h := r.proxied(t, c)
					if got != want {
						t.Errorf("%s: remote address %v, want %v", tt.name, got, want)
					}
					if (h != nil) != (tt.unix || tt.tls != nil || tt.addr.IsValid() && tt.addr.Port() == 0) {
						t.Errorf("%s: keeps %+v", tt.name, h)
					}
					if tt.unix && h.Path != "/client" || tt.tls != nil && *h.TLS != *tt.tls {
						t.Errorf("%s: keeps %+v", tt.name, h)
					}
				}
			}
		}
	})
}

// proxied is what a connection knows of its peer, asked on its loop.
func (r *rig) proxied(t *testing.T, c *Conn) (addr netip.AddrPort, h *proxyproto.Header) {
	t.Helper()
	r.on(t, c.Loop(), func(*Loop) { addr, h = c.RemoteAddr(), c.Proxied() })
	return addr, h
}

// readUntil reads up to the end of an answer.
func readUntil(t *testing.T, nc net.Conn, end string) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 1000); !strings.HasSuffix(string(got), end); {
		n, err := nc.Read(b)
		if got = append(got, b[:n]...); err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	return string(got)
}

// TestProxyRefusals: who does not say what is required is turned away before the handler hears of it.
func TestProxyRefusals(t *testing.T) {
	server, _ := certificate(t)
	far := netip.MustParseAddrPort("192.0.2.5:6275")
	tests := []struct {
		name    string
		version int
		text    string
		cause   RefusalCause
		addr    netip.AddrPort // the client's own if it is not valid
	}{
		{"MQTT", 1, "\x10\x0C\x00\x04MQTT", CauseProxyHeader, netip.AddrPort{}},
		{"MQTT for version 2", 2, "\x10\x0C\x00\x04MQTT", CauseProxyHeader, netip.AddrPort{}},
		{"version 2 for 1", 1, proxy2(0x21, false, ""), CauseProxyHeader, netip.AddrPort{}},
		{"no TLS", 2, proxy2(0x21, false, ""), CauseProxyNoTLS, far},
		{"local", 2, proxy2(0x20, false, ""), CauseProxyNoTLS, netip.AddrPort{}},
		{"version 1 has no TLS", 1, proxy1, CauseProxyNoTLS, far},
		{"no certificate", 2, proxy2(0x21, false, sslField("")), CauseProxyNoCertificate, far},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			for _, tlsConfig := range []*tls.Config{nil, server} {
				cfg := proxied(tt.version)
				cfg.TLS, cfg.ProxyRequireTLS, cfg.ProxyRequireCertificate = tlsConfig, true, true
				refused := make(chan Refusal, 1)
				cfg.OnRefuse = func(f Refusal) { refused <- f }
				ln, err := r.Listen(cfg)
				if err != nil {
					t.Fatal(err)
				}
				nc := dial(t, ln.Addr())
				mustWrite(t, nc, tt.text)
				if tt.addr == (netip.AddrPort{}) {
					tt.addr = nc.LocalAddr().(*net.TCPAddr).AddrPort()
				}
				f := get(t, refused)
				if f.Cause != tt.cause || f.Addr != tt.addr && tt.addr == far || f.Listener != ln {
					t.Errorf("%s: %+v, want cause %d of %v", tt.name, f, tt.cause, tt.addr)
				}
				if (f.Cause == CauseProxyHeader) != errors.Is(f.Err, proxyproto.ErrHeader) {
					t.Errorf("%s: %v", tt.name, f.Err)
				}
				if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("%s: %d bytes", tt.name, n)
				}
				_ = nc.Close()
				r.until(t, "the end", func() bool { return ln.Open() == 0 })
			}
		}
		if r.openings.Load() != 0 {
			t.Error("a refused connection was opened")
		}
	})
}

func TestProxyRequirementsAreUpdated(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		cfg := proxied(2)
		refused := make(chan Refusal, 1)
		cfg.OnRefuse = func(f Refusal) { refused <- f }
		ln, err := r.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nc := dial(t, ln.Addr())
		mustWrite(t, nc, proxy2(0x21, false, "")+"x")
		mustRead(t, nc, "x")
		cfg.ProxyRequireTLS = true
		ln.Update(cfg)
		mustWrite(t, dial(t, ln.Addr()), proxy2(0x21, false, ""))
		if f := get(t, refused); f.Cause != CauseProxyNoTLS {
			t.Errorf("%+v", f)
		}
		mustWrite(t, nc, "y")
		mustRead(t, nc, "y")
	})
}

// TestProxyHeaderThatNeverEnds: the header has the time of a handshake.
func TestProxyHeaderThatNeverEnds(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		ln, err := r.Listen(proxied(1))
		if err != nil {
			t.Fatal(err)
		}
		nc, quitter := dial(t, ln.Addr()), dial(t, ln.Addr())
		mustWrite(t, nc, proxy1[:20])
		mustWrite(t, quitter, proxy1[:20])
		r.until(t, "two reads", func() bool { return r.Stats().BytesIn == 40 })
		if err := quitter.Close(); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the end of one", func() bool { return ln.Open() == 1 })
		r.later(t)
		mustEnd(t, nc, "")
		if n := r.Stats().HandshakesTimedOut; n != 1 || r.openings.Load() != 0 {
			t.Errorf("%d handshakes timed out, %d connections opened", n, r.openings.Load())
		}
	})
}

// TestProxyBeforeTLS: TLS begins behind the header, maybe in the same segment.
func TestProxyBeforeTLS(t *testing.T) {
	server, client := certificate(t)
	over(t, Config{HandshakeTimeout: 10 * time.Second}, script{}, func(t *testing.T, r *rig) {
		cfg := proxied(2)
		cfg.TLS = server
		a := listen(t, r.Server, cfg)
		for _, whole := range []bool{true, false} {
			header := proxy2(0x21, false, sslField("me"))
			p := &prefixed{Conn: dial(t, a), first: header}
			if !whole {
				for len(p.first) > 0 {
					mustWrite(t, p.Conn, p.first[:1])
					p.first = p.first[1:]
				}
			}
			nc := tls.Client(p, client)
			mustWrite(t, nc, "x")
			mustRead(t, nc, "x")
			c := get(t, r.opened)
			addr, h := r.proxied(t, c)
			if addr != netip.MustParseAddrPort("192.0.2.5:6275") || h == nil || h.TLS.CommonName != "me" || c.TLS() == nil {
				t.Errorf("from %v, %+v", addr, h)
			}
		}
	})
}

// prefixed sends something together with the first bytes.
type prefixed struct {
	net.Conn
	first string
}

func (p *prefixed) Write(b []byte) (int, error) {
	_, err := io.WriteString(p.Conn, p.first+string(b))
	if p.first = ""; err != nil {
		return 0, err
	}
	return len(b), nil
}

func TestServerMaxConnections(t *testing.T) {
	server, _ := certificate(t)
	over(t, Config{MaxConnections: 2}, script{}, func(t *testing.T, r *rig) {
		refused := make(chan Refusal, 1)
		var lns []*Listener
		for _, tlsConfig := range []*tls.Config{nil, server} {
			cfg := loopback()
			cfg.TLS = tlsConfig
			cfg.OnRefuse = func(f Refusal) { refused <- f }
			ln, err := r.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			lns = append(lns, ln)
		}
		first := dial(t, lns[0].Addr())
		dial(t, lns[1].Addr())
		r.until(t, "two connections", func() bool { return r.Stats().Open == 2 })
		for _, ln := range lns {
			nc := dial(t, ln.Addr())
			if f := get(t, refused); f.Cause != CauseTooMany || f.Listener != ln {
				t.Errorf("%+v", f)
			}
			if _, err := nc.Read(make([]byte, 1)); err == nil {
				t.Error("a third connection is served")
			}
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the end of one", func() bool { return r.Stats().Open == 1 })
		nc := dial(t, lns[0].Addr())
		mustWrite(t, nc, "x")
		mustRead(t, nc, "x")
	})
}

func TestOriginIsRefused(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		cfg := webSocketListener()
		cfg.Origins = []string{"https://a.example"}
		refused := make(chan Refusal, 1)
		cfg.OnRefuse = func(f Refusal) { refused <- f }
		nc := dial(t, listen(t, r.Server, cfg))
		mustWrite(t, nc, upgradeRequest)
		if got := readUntil(t, nc, "\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
			t.Errorf("answer %q", got)
		}
		if f := get(t, refused); f.Cause != CauseOrigin || f.Addr != nc.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("%+v", f)
		}
	})
}

// TestProxyFrom: a PROXY header is heard from those only who may send one.
func TestProxyFrom(t *testing.T) {
	server, client := certificate(t)
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		refused := make(chan Refusal, 1)
		for _, secure := range []bool{false, true} {
			cfg := proxied(1)
			cfg.OnRefuse = func(f Refusal) { refused <- f }
			cfg.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::1/128")}
			if secure {
				cfg.TLS = server
			}
			ln, err := r.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			nc := dial(t, ln.Addr())
			_, _ = io.Copy(io.Discard, nc) // until it is closed
			f := get(t, refused)
			if f.Cause != CauseProxyPeer || f.Addr.Addr().String() != "127.0.0.1" {
				t.Errorf("refused with %+v", f)
			}
			cfg.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			ln.Update(cfg)
			nc = dial(t, ln.Addr())
			mustWrite(t, nc, proxy1)
			if secure {
				nc = tls.Client(nc, client)
			}
			if err := ask(nc); err != nil {
				t.Error(err)
			}
		}
		cfg := proxied(1)
		cfg.Network, cfg.Address = "unix", filepath.Join(t.TempDir(), "s")
		cfg.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		nc := dial(t, listen(t, r.Server, cfg))
		mustWrite(t, nc, proxy1+"a")
		mustRead(t, nc, "a")
	})
}
