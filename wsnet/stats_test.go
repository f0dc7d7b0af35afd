package wsnet

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"
)

// fails makes a TLS handshake come to nothing.
type fails func(t *testing.T, nc net.Conn)

func write(b string) fails {
	return func(t *testing.T, nc net.Conn) { mustWrite(t, nc, b) }
}

func shakes(cfg *tls.Config) fails {
	return func(t *testing.T, nc net.Conn) {
		c := tls.Client(nc, cfg)
		if err := c.Handshake(); err == nil { // in TLS 1.3 the client does not wait for the verdict on its own
			_, err = c.Read(make([]byte, 1))
			if err == nil {
				t.Error("the handshake succeeds")
			}
		}
	}
}

// TestTLSFailuresAreCounted makes handshakes fail in every way there is, and in none.
func TestTLSFailuresAreCounted(t *testing.T) {
	server, client := certificate(t)
	server.ClientAuth = tls.RequireAndVerifyClientCert
	server.ClientCAs = x509.NewCertPool()
	stranger := clientCertificate(server, client) // of no authority that the server knows
	distrust := client.Clone()
	distrust.InsecureSkipVerify, distrust.RootCAs, distrust.ServerName = false, x509.NewCertPool(), "localhost"
	old := client.Clone()
	server.MinVersion, old.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
	hello := func(t *testing.T, nc net.Conn) { // a ClientHello begins, and no more comes
		mustWrite(t, nc, "\x16\x03\x01")
		_ = nc.(*net.TCPConn).CloseWrite()
	}
	cfg := Config{HandshakeTimeout: 10 * time.Second}
	over(t, cfg, script{}, func(t *testing.T, r *rig) {
		lc := loopback()
		lc.TLS = server
		ln := open(t, r.Server, lc)
		for _, tt := range []struct {
			name string
			fail fails
			want TLSFailure
		}{
			{"no TLS", write("GET / HTTP/1.1\r\n\r\n"), TLSProtocol},
			{"no version in common", shakes(old), TLSProtocol},
			{"no client certificate", shakes(client), TLSClientCertificate},
			{"a stranger's client certificate", shakes(stranger), TLSClientCertificate},
			{"the server's certificate is not trusted", shakes(distrust), TLSServerCertificate},
			{"the client's end", hello, TLSClosed},
		} {
			before := ln.Stats()
			nc := dial(t, ln.Addr())
			tt.fail(t, nc)
			want := before.TLS
			want[tt.want]++
			r.until(t, tt.name, func() bool { return ln.Stats().TLS != before.TLS })
			if got := ln.Stats().TLS; got != want {
				t.Errorf("%s: %v, before %v", tt.name, got, before.TLS)
			}
			_ = nc.Close()
		}
		_ = dial(t, ln.Addr()).Close() // as who looks whether the port is open
		r.until(t, "the end of all", func() bool { st := ln.Stats(); return st.Open == 0 && st.Accepted == 7 })
		st := ln.Stats()
		if st.TLS != [TLSFailures]int64{TLSProtocol: 2, TLSClientCertificate: 2, TLSServerCertificate: 1, TLSClosed: 1} {
			t.Errorf("%v", st.TLS)
		}
		if st.Refused[CauseTLS] < 4 {
			t.Errorf("%+v", st)
		}
	})
}

// TestTLSTimeoutsAreCounted: silence before the first byte, and amidst the handshake.
func TestTLSTimeoutsAreCounted(t *testing.T) {
	server, _ := certificate(t)
	cfg := Config{HandshakeTimeout: 20 * time.Millisecond, FirstByteTimeout: 10 * time.Millisecond}
	over(t, cfg, script{}, func(t *testing.T, r *rig) {
		lc := loopback()
		lc.TLS = server
		ln := open(t, r.Server, lc)
		for n, first := range []string{"", "\x16\x03\x01"} {
			nc := dial(t, ln.Addr())
			mustWrite(t, nc, first)
			r.until(t, "the timeout", func() bool { return ln.Stats().TLS[TLSTimeout] == int64(n+1) })
			_, _ = io.ReadAll(nc)
		}
		if st := ln.Stats(); st.TLS != [TLSFailures]int64{TLSTimeout: 2} || r.Stats().HandshakesTimedOut != 2 {
			t.Errorf("%v, %d timed out", st.TLS, r.Stats().HandshakesTimedOut)
		}
	})
}

// TestRefusalsAreCounted: each listener counts its own.
func TestRefusalsAreCounted(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		lc := loopback()
		lc.MaxConnections = 1
		full, free := open(t, r.Server, lc), open(t, r.Server, loopback())
		mustWrite(t, dial(t, free.Addr()), "a")
		mustWrite(t, dial(t, full.Addr()), "a")
		r.until(t, "both", func() bool { return r.openings.Load() == 2 })
		mustEnd(t, dial(t, full.Addr()), "")
		if st := full.Stats(); st.Open != 1 || st.Accepted != 1 || st.Refused[CauseTooMany] != 1 {
			t.Errorf("full: %+v", st)
		}
		if st := free.Stats(); st.Open != 1 || st.Accepted != 1 || st.Refused != [RefusalCauses]int64{} {
			t.Errorf("free: %+v", st)
		}
	})
}

// TestEveryKindHasAName: they are label values.
func TestEveryKindHasAName(t *testing.T) {
	seen := map[string]bool{}
	for c := range RefusalCauses {
		seen["refused "+c.String()] = true
	}
	for f := range TLSFailures {
		seen["TLS "+f.String()] = true
	}
	if len(seen) != int(RefusalCauses)+int(TLSFailures) || seen["refused "] || seen["TLS "] {
		t.Errorf("%v", seen)
	}
}

// TestLoopLag holds one loop up: its probe tells how long what was ready has waited, as do those that could
// not be sent meanwhile; and while it lasts Stalled names the loop.
func TestLoopLag(t *testing.T) {
	probes := make(chan time.Time)
	clock := &Clock{Now: func() int64 { return 1 }, Probes: probes}
	over(t, Config{Loops: 2, Clock: clock}, script{}, func(t *testing.T, r *rig) {
		r.epoch = time.Now().Add(-time.Hour) // so that a probe can be made older than the server is
		ask := func() { probes <- time.Time{} }
		ask()
		ask()
		r.until(t, "both loops to answer", func() bool { c := r.Stats().LoopLag; return c.Total() == 2 })
		if loop, d := r.Stalled(); d != 0 {
			t.Errorf("loop %d is stalled for %v", loop, d)
		}
		release := r.stall(t, r.loops[1])
		for range 5 { // the other loop answers its own, the stalled one is not asked twice
			ask()
		}
		const held = 450 * time.Millisecond
		since := &r.loops[1].probe.since
		since.Add(-int64(held))
		if loop, d := r.Stalled(); loop != 1 || d < held {
			t.Errorf("loop %d is stalled for %v", loop, d)
		}
		release()
		r.until(t, "three late answers", func() bool { // 450 ms, and 250 and 50 that would have been asked meanwhile
			c, late := r.Stats().LoopLag, int64(0)
			for i, limit := range c.Limits {
				if limit > .02 {
					late += c.Each[i]
				}
			}
			return late >= 3 && c.Sum >= .45+.25+.05
		})
		if loop, d := r.Stalled(); d > held/2 {
			t.Errorf("loop %d is stalled for %v", loop, d)
		}
	})
}

// TestProbesCostNothing: a probe allocates nothing, whatever the loop does.
func TestProbesCostNothing(t *testing.T) {
	r := start(t, Config{Loops: 1, Clock: &Clock{Now: func() int64 { return 1 }}}, script{}, false)
	defer r.stopped(t)
	p := &r.loops[0].probe
	n := testing.AllocsPerRun(1000, func() {
		p.since.Store(int64(r.age()))
		p.Run(nil)
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// open opens a listener.
func open(t *testing.T, s *Server, cfg ListenerConfig) *Listener {
	t.Helper()
	ln, err := s.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
