package wsnet

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// alertError asks for an alert.
type alertError uint8

func (e alertError) Error() string   { return "not today" }
func (e alertError) TLSAlert() uint8 { return uint8(e) }

// clientCertificate is a client that shows the certificate of certificate().
func clientCertificate(server, client *tls.Config) *tls.Config {
	c := client.Clone()
	c.Certificates = server.Certificates
	return c
}

// TestChosenAlert: the alert that VerifyConnection asks for goes out, whatever protects it, with and without a
// GetConfigForClient and another KeyLogWriter; and if it asks for none, that of crypto/tls does.
func TestChosenAlert(t *testing.T) {
	server, plain := certificate(t)
	client := clientCertificate(server, plain)
	verdict := error(nil)
	var mu sync.Mutex
	server.ClientAuth = tls.RequireAnyClientCert
	server.VerifyConnection = func(tls.ConnectionState) error {
		mu.Lock()
		defer mu.Unlock()
		return verdict
	}
	var keys bytes.Buffer
	chooser := server.Clone()
	chooser.KeyLogWriter = &keys
	chooser.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := chooser.Clone()
		c.GetConfigForClient = nil
		return c, nil
	}
	old := client.Clone()
	old.MaxVersion = tls.VersionTLS12
	short := Config{HandshakeTimeout: 10 * time.Second}
	over(t, short, script{}, func(t *testing.T, r *rig) {
		for i, cfg := range []*tls.Config{server, chooser} {
			refused := make(chan Refusal, 1)
			lc := loopback()
			lc.TLS, lc.OnRefuse = cfg, func(f Refusal) { refused <- f }
			a := listen(t, r.Server, lc)
			for _, as := range []*tls.Config{client, old} {
				for verdictOf, want := range map[error]string{
					alertError(44): "revoked certificate", alertError(48): "unknown certificate authority",
					errors.New("plain"): "bad certificate", nil: "",
				} {
					mu.Lock()
					verdict = verdictOf
					mu.Unlock()
					nc := tls.Client(dial(t, a), as)
					err := ask(nc)
					if want == "" {
						if err != nil {
							t.Errorf("listener %d: %v", i, err)
						}
						continue
					}
					if err == nil || !strings.Contains(err.Error(), "remote error: tls: "+want) {
						t.Errorf("listener %d: %v, want %s", i, err, want)
					}
					if f := get(t, refused); f.Cause != CauseTLS || !errors.Is(f.Err, verdictOf) || f.Addr.Port() == 0 {
						t.Errorf("refused with %+v", f)
					}
					_ = nc.Close()
				}
			}
		}
	})
	if !strings.Contains(keys.String(), "SERVER_TRAFFIC_SECRET_0") {
		t.Error("the KeyLogWriter was not told")
	}
}

// TestTLSIsUpdated replaces the certificate while connections are open.
func TestTLSIsUpdated(t *testing.T) {
	one, trustsOne := certificate(t)
	two, trustsTwo := certificate(t)
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.TLS = one
		ln, err := r.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		before := tls.Client(dial(t, ln.Addr()), trustsOne)
		mustWrite(t, before, "a")
		mustRead(t, before, "a")
		cfg.TLS = two
		ln.Update(cfg)
		after := tls.Client(dial(t, ln.Addr()), trustsTwo)
		for range 2 {
			for _, nc := range []*tls.Conn{before, after} {
				mustWrite(t, nc, "b")
				mustRead(t, nc, "b")
			}
			cfg.TLS = nil // what is not given stays
			ln.Update(cfg)
		}
		if err := ask(tls.Client(dial(t, ln.Addr()), trustsOne)); err == nil {
			t.Error("the old certificate is still shown")
		}
	})
}

// TestHandshakesWaitForWorkers: handshakes that wait for their clients do not keep those that compute out.
func TestHandshakesWaitForWorkers(t *testing.T) {
	server, client := certificate(t)
	over(t, Config{TLSWorkers: 1}, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.TLS = server
		ln, err := r.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			mute := dial(t, ln.Addr())
			if i%2 == 0 {
				mustWrite(t, mute, "\x16\x03\x01\x00\xF0\x01\x00")
			}
		}
		r.until(t, "all", func() bool { return ln.Open() == 50 })
		var all sync.WaitGroup
		for range 20 {
			nc := dial(t, ln.Addr())
			all.Go(func() {
				if err := ask(tls.Client(nc, client)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// TestGarbageInsteadOfTLS: what is no TLS is refused, and said.
func TestGarbageInsteadOfTLS(t *testing.T) {
	server, _ := certificate(t)
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		refused := make(chan Refusal, 1)
		cfg := loopback()
		cfg.TLS, cfg.OnRefuse = server, func(f Refusal) { refused <- f }
		ln, err := r.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nc := dial(t, ln.Addr())
		mustWrite(t, nc, "\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
		f := get(t, refused)
		if f.Cause != CauseTLS || f.Err == nil || f.Addr != nc.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("%+v", f)
		}
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Error(err)
		}
	})
}
