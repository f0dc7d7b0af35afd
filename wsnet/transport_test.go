package wsnet

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// transports are the listeners a stream can come through, with how to dial them.
func transports(t *testing.T) map[string]func(t *testing.T, r *rig) net.Conn {
	server, client := certificate(t)
	plain := func(cfg ListenerConfig) func(*testing.T, *rig) net.Conn {
		return func(t *testing.T, r *rig) net.Conn { return dial(t, listen(t, r.Server, cfg)) }
	}
	secure := loopback()
	secure.TLS = server
	return map[string]func(t *testing.T, r *rig) net.Conn{
		"tcp":  plain(loopback()),
		"unix": plain(ListenerConfig{Network: "unix", Address: filepath.Join(t.TempDir(), "s")}),
		"tls": func(t *testing.T, r *rig) net.Conn {
			return tls.Client(dial(t, listen(t, r.Server, secure)), client)
		},
	}
}

func TestUpgradeThatNeverEnds(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.WebSocket = true
		nc := dial(t, listen(t, r.Server, cfg))
		mustWrite(t, nc, "GET /mqtt HTTP/1.1\r\nHost")
		r.until(t, "a read", func() bool { return r.Stats().BytesIn > 0 })
		if n := r.Stats().HandshakesTimedOut; n != 0 {
			t.Errorf("%d handshakes timed out at once", n)
		}
		r.later(t)
		mustEnd(t, nc, "")
		if n := r.Stats().HandshakesTimedOut; n != 1 {
			t.Errorf("%d handshakes timed out, want 1", n)
		}
		if r.openings.Load() != 0 {
			t.Error("a connection without upgrade was opened")
		}
	})
}

// TestTLSHandshakeThatNeverEnds has room for one handshake only: the next client is served when the mute
// one has been given up.
func TestTLSHandshakeThatNeverEnds(t *testing.T) {
	server, client := certificate(t)
	short := Config{HandshakeTimeout: 300 * time.Millisecond, TLSHandshakes: 1}
	over(t, short, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.TLS = server
		a := listen(t, r.Server, cfg)
		for _, hello := range []string{"", "\x16\x03\x01\x00\xF0\x01\x00"} {
			mute := dial(t, a)
			mustWrite(t, mute, hello)
			mustEnd(t, mute, "")
			nc := tls.Client(dial(t, a), client)
			for ask(nc) != nil { // too slow on a machine that is busy
				nc = tls.Client(dial(t, a), client)
			}
			st := r.conn(t, nc).TLS()
			if st == nil || !st.HandshakeComplete {
				t.Errorf("state of a TLS connection is %+v", st)
			}
		}
		if st := r.Stats(); st.HandshakesTimedOut < 2 || st.Accepted-st.HandshakesTimedOut != 2 {
			t.Errorf("%d accepted, %d timed out", st.Accepted, st.HandshakesTimedOut)
		}
	})
}

// TestHalfClose: who ends its direction behind a request still gets the answer.
func TestHalfClose(t *testing.T) {
	dials := transports(t)
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		for name, dialer := range dials {
			t.Run(name, func(t *testing.T) {
				nc := dialer(t, r)
				mustWrite(t, nc, "a")
				mustRead(t, nc, "a")
				release := r.stall(t, r.loops[0]) // so that request and end are seen in one turn
				mustWrite(t, nc, "question")
				if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				release()
				mustEnd(t, nc, "question")
				if e := r.ending(t, nc); !errors.Is(e.reason, io.EOF) {
					t.Errorf("closed with %v", e.reason)
				}
			})
		}
	})
}

func TestReset(t *testing.T) {
	var drained int
	big := make([]byte, 8<<20)
	sc := script{
		data: func(c *Conn, b []byte) (int, int) {
			if b[0] == 'b' {
				c.WriteShared(big)
			}
			c.Write(b)
			return len(b), 0
		},
		drained: func(*Conn) { drained++ },
	}
	over(t, Config{Loops: 1}, sc, func(t *testing.T, r *rig) {
		for _, request := range []string{"a", "b"} { // idle; with output that waits
			nc := dial(t, listen(t, r.Server, loopback()))
			mustWrite(t, nc, request)
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(nc.(*net.TCPConn).SetLinger(0), nc.Close()); err != nil {
				t.Fatal(err)
			}
			e := r.ending(t, nc)
			if !errors.Is(e.reason, syscall.ECONNRESET) && !errors.Is(e.reason, syscall.EPIPE) {
				t.Errorf("closed with %v", e.reason)
			}
			r.on(t, r.loops[0], func(*Loop) {
				if e.c.Buffered() != 0 || drained != 0 {
					t.Errorf("%d bytes buffered, drained %d times", e.c.Buffered(), drained)
				}
			})
		}
	})
}

func TestListenIPv6(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: ", err)
	} else if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	tests := []struct {
		network, address string
		from             []netip.Addr
		refused          []netip.Addr
	}{
		{"tcp6", "[::1]:0", []netip.Addr{v6}, []netip.Addr{v4}},
		{"tcp", "[::1]:0", []netip.Addr{v6}, []netip.Addr{v4}},
		{"tcp6", ":0", []netip.Addr{v6}, []netip.Addr{v4}},
		{"tcp", ":0", []netip.Addr{v4, v6}, nil},
		{"tcp4", ":0", []netip.Addr{v4}, []netip.Addr{v6}},
		{"tcp", "127.0.0.1:0", []netip.Addr{v4}, []netip.Addr{v6}},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			a := listen(t, r.Server, ListenerConfig{Network: tt.network, Address: tt.address})
			port := a.(*net.TCPAddr).Port
			for _, from := range tt.from {
				nc := dial(t, net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, uint16(port))))
				mustWrite(t, nc, "x")
				mustRead(t, nc, "x")
				if got := r.conn(t, nc).RemoteAddr().Addr(); got != from {
					t.Errorf("%s %s: remote address %s, want %s", tt.network, tt.address, got, from)
				}
			}
			for _, from := range tt.refused {
				nc, err := net.Dial("tcp", netip.AddrPortFrom(from, uint16(port)).String())
				if err == nil {
					_ = nc.Close()
					t.Errorf("%s %s: a connection from %s", tt.network, tt.address, from)
				}
			}
		}
	})
}

func TestListenUnix(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		path := filepath.Join(t.TempDir(), "s")
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		if err := stale.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := ListenerConfig{Network: "unix", Address: path, UnixMode: 0o640, NoDelay: true, Tag: "t"}
		ln, err := r.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 || ln.Tag() != "t" {
			t.Errorf("%v %v, tag %v", st, err, ln.Tag())
		}
		seen := map[*Loop]bool{}
		for range 6 {
			nc := dial(t, ln.Addr())
			mustWrite(t, nc, "x")
			mustRead(t, nc, "x")
			c := r.conn(t, nc)
			seen[c.Loop()] = true
			if c.RemoteAddr().IsValid() || c.Listener() != ln {
				t.Errorf("remote address %v of %v", c.RemoteAddr(), c.Listener().Addr())
			}
		}
		if len(seen) != len(r.loops) || ln.Open() != 6 {
			t.Errorf("%d loops have %d connections", len(seen), ln.Open())
		}
		if err := errors.Join(ln.Close(), ln.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket's file is left: %v", err)
		}
	})
}

func TestListenErrors(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		taken, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		for _, cfg := range []ListenerConfig{
			{Network: "tcp4", Address: "127.0.0.1"},
			{Network: "tcp", Address: ":mqtt-of-nobody"},
			{Network: "tcp4", Address: taken.Addr().String()},
			{Network: "unix", Address: filepath.Join(t.TempDir(), "no", "s")},
		} {
			if ln, err := r.Listen(cfg); err == nil {
				t.Errorf("listens on %s, asked for %s", ln.Addr(), cfg.Address)
			}
			if err := Vacant(cfg.Network, cfg.Address); err == nil {
				t.Errorf("%s is said to be free", cfg.Address)
			}
		}
		r.stopped(t)
		if _, err := r.Listen(loopback()); !errors.Is(err, ErrServerClosed) {
			t.Errorf("after Shutdown: %v", err)
		}
	})
}

func TestRefusalPastMaxConnections(t *testing.T) {
	server, _ := certificate(t)
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tlsConfig := range []*tls.Config{nil, server} {
			refused := make(chan Refusal, 1)
			cfg := loopback()
			cfg.MaxConnections, cfg.TLS = 1, tlsConfig
			cfg.OnRefuse = func(f Refusal) { refused <- f }
			ln, err := r.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			before := r.Stats()
			first := dial(t, ln.Addr())
			r.until(t, "the first connection", func() bool { return ln.Open() == 1 })
			second := dial(t, ln.Addr())
			if n, err := second.Read(make([]byte, 1)); err == nil {
				t.Errorf("the second connection is served %d bytes", n)
			}
			if got := get(t, refused); got.Cause != CauseTooMany || got.Addr.Port() != second.LocalAddr().(*net.TCPAddr).AddrPort().Port() {
				t.Errorf("refused %v, not %v", got, second.LocalAddr())
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			r.until(t, "the end of the first", func() bool { return ln.Open() == 0 })
			third := dial(t, ln.Addr())
			if tlsConfig == nil {
				mustWrite(t, third, "x")
				mustRead(t, third, "x")
			}
			// Open is counted before Accepted is.
			r.until(t, "the third connection", func() bool { return r.Stats().Accepted-before.Accepted == 2 })
			if st := r.Stats(); st.Refused-before.Refused != 1 || ln.Open() != 1 {
				t.Errorf("counted %+v after %+v, %d open", st, before, ln.Open())
			}
		}
	})
}

// TestPortIsNotShared: of two servers that want a port at the same time one gets it, and all its loops do.
func TestPortIsNotShared(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for range 20 {
			probe, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			cfg := loopback()
			cfg.Address = probe.Addr().String()
			if err := probe.Close(); err != nil {
				t.Fatal(err)
			}
			other := start(t, Config{}, script{}, r.cfg.Portable)
			var lns [2]*Listener
			var both sync.WaitGroup
			for i, s := range []*Server{r.Server, other.Server} {
				both.Go(func() { lns[i], _ = s.Listen(cfg) })
			}
			both.Wait()
			if lns[0] != nil && lns[1] != nil {
				t.Error("two servers listen on one port")
			}
			other.stopped(t)
		}
		a := listen(t, r.Server, loopback())
		seen := map[*Loop]bool{}
		for range 200 {
			nc := dial(t, a)
			mustWrite(t, nc, "x")
			mustRead(t, nc, "x")
			seen[r.conn(t, nc).Loop()] = true
			_ = nc.Close()
		}
		if len(seen) != len(r.loops) {
			t.Errorf("%d loops get connections", len(seen))
		}
	})
}
