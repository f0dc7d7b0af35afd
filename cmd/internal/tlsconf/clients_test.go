package tlsconf

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"noctule/wsnet"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// echo is a handler that sends back what comes.
type echo struct{}

func (echo) Opened(*wsnet.Conn)        {}
func (echo) Closed(*wsnet.Conn, error) {}

func (echo) Data(c *wsnet.Conn, b []byte) (used, need int) {
	c.Write(b)
	return len(b), 0
}

// serve opens a listener with a material.
func serve(t *testing.T, m Material) *wsnet.Listener {
	t.Helper()
	cfg, _, err := Load(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := wsnet.New(wsnet.Config{
		Loops: 1, Log: slog.New(slog.DiscardHandler),
		NewHandler: func(*wsnet.Loop) wsnet.Handler { return echo{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	ln, err := s.Listen(wsnet.ListenerConfig{Network: "tcp4", Address: "127.0.0.1:0", TLS: cfg})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// alert matches what OpenSSL's client says of one.
var alert = regexp.MustCompile(`SSL alert number (\d+)`)

// client is OpenSSL's: it sends a line and returns "ok" when that comes back, or the number of the alert.
func (s *shop) client(a net.Addr, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	args = append([]string{"s_client", "-connect", a.String(), "-CAfile", "ca.pem", "-ign_eof", "-quiet"}, args...)
	cmd := exec.CommandContext(ctx, "openssl", args...)
	cmd.Dir = s.dir
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe() // stays open: its end would end the client
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	_, _ = io.WriteString(in, "hello, anybody?\n") // it may be gone
	b := make([]byte, 100)
	n, _ := stdout.Read(b)
	if strings.HasPrefix(string(b[:n]), "hello") {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return "ok"
	}
	_ = in.Close()
	_ = cmd.Wait()
	if m := alert.FindStringSubmatch(said.String()); m != nil {
		return m[1]
	}
	return said.String()
}

// TestClientCertificates has OpenSSL's client show certificates; the alerts are those that Mosquitto sends.
func TestClientCertificates(t *testing.T) {
	s := newShop(t)
	s.key("stranger")
	s.run("req", "-x509", "-new", "-key", "stranger.key", "-subj", "/CN=ca", "-days", "30", "-out", "stranger.pem")
	s.write("sub-good-chain.pem", s.read("sub-good.pem")+s.read("sub.pem"))
	s.write("sub-revoked-chain.pem", s.read("sub-revoked.pem")+s.read("sub.pem"))
	s.write("both.pem", s.read("ca.pem")+s.read("sub.pem"))
	base := s.material()
	base.CAFile, base.RequireCertificate = s.path("ca.pem"), true
	crl := base
	crl.CRLFile = s.path("crl.pem")
	half := base
	half.CRLFile = s.path("ca.crl")
	stale := base
	stale.CRLFile = s.path("old.crl")
	foreign := base
	foreign.CRLFile = s.path("sub.crl")
	dates := base
	dates.NoDateChecks = true
	datesCRL := crl
	datesCRL.NoDateChecks, datesCRL.CAFile = true, s.path("both.pem")
	for _, tt := range []struct {
		name string
		m    Material
		want map[string]string // by certificate; ok, or the number of the alert
	}{
		{"authority", base, map[string]string{
			"good": "ok", "revoked": "ok", "sub-good-chain": "ok", "sub-good": "48", "expired": "45", "future": "45", "stranger": "48",
		}},
		{"list", crl, map[string]string{
			"good": "ok", "revoked": "44", "sub-good-chain": "ok", "sub-revoked-chain": "44", "stranger": "48",
		}},
		{"list of one authority", half, map[string]string{"good": "ok", "revoked": "44", "sub-good-chain": "48"}},
		{"list out of date", stale, map[string]string{"good": "45"}},
		{"list of another authority", foreign, map[string]string{"good": "48"}},
		{"no dates", dates, map[string]string{
			"good": "ok", "expired": "ok", "future": "ok", "stranger": "48", "sub-good": "48", "sub-good-chain": "ok",
		}},
		{"list and no dates", datesCRL, map[string]string{
			"good": "ok", "expired": "ok", "revoked": "44", "sub-good": "ok", "sub-revoked": "44", "stranger": "48",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := serve(t, tt.m)
			for name, want := range tt.want {
				key := strings.TrimSuffix(name, "-chain") + ".key"
				args := []string{"-cert", name + ".pem", "-key", key, "-cert_chain", name + ".pem"}
				for _, version := range []string{"-tls1_2", "-tls1_3"} {
					if got := s.client(ln.Addr(), append(args, version)...); got != want {
						t.Errorf("%s %s: %s, want %s", name, version, got, want)
					}
				}
			}
			for version, want := range map[string]string{"-tls1_2": "40", "-tls1_3": "116"} {
				if got := s.client(ln.Addr(), version); got != want {
					t.Errorf("no certificate, %s: %s, want %s", version, got, want)
				}
			}
		})
	}
}

// TestAlertInEachSuite: the alert arrives whatever encrypts it.
func TestAlertInEachSuite(t *testing.T) {
	s := newShop(t)
	m := s.material()
	m.CAFile, m.CRLFile, m.RequireCertificate = s.path("ca.pem"), s.path("crl.pem"), true
	ln := serve(t, m)
	for _, suite := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"} {
		args := []string{"-cert", "revoked.pem", "-key", "revoked.key", "-tls1_3", "-ciphersuites", suite}
		if got := s.client(ln.Addr(), args...); got != "44" {
			t.Errorf("%s: %s", suite, got)
		}
	}
}

// TestChosenCiphers: what is not on the list is not spoken.
func TestChosenCiphers(t *testing.T) {
	s := newShop(t)
	m := s.material()
	m.Ciphers = "ECDHE+AESGCM:!AES128"
	ln := serve(t, m)
	for suite, want := range map[string]string{
		"ECDHE-ECDSA-AES256-GCM-SHA384": "ok", "ECDHE-ECDSA-AES128-GCM-SHA256": "40", "ECDHE-ECDSA-CHACHA20-POLY1305": "40",
	} {
		if got := s.client(ln.Addr(), "-tls1_2", "-cipher", suite); got != want {
			t.Errorf("%s: %s, want %s", suite, got, want)
		}
	}
	if got := s.client(ln.Addr(), "-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"); got != "ok" {
		t.Errorf("TLS 1.3: %s", got)
	}
}

// TestALPN: a protocol is confirmed to who offers it, and everybody is served.
func TestALPN(t *testing.T) {
	s := newShop(t)
	m := s.material()
	m.ALPN = []string{"mqtt"}
	ln := serve(t, m)
	for _, tt := range []struct {
		offer []string
		want  string
	}{{nil, ""}, {[]string{"mqtt"}, "mqtt"}, {[]string{"http/1.1", "mqtt"}, "mqtt"}, {[]string{"x-other"}, ""}} {
		cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: tt.offer}
		for range 2 {
			nc, err := tls.Dial("tcp", ln.Addr().String(), cfg)
			if err != nil {
				t.Fatalf("%s: %v", tt.offer, err)
			}
			if got := nc.ConnectionState().NegotiatedProtocol; got != tt.want {
				t.Errorf("%s: %q", tt.offer, got)
			}
			_ = nc.Close()
		}
	}
}

// TestRevocationsInclude looks certificates up that were good for the handshake.
func TestRevocationsInclude(t *testing.T) {
	s := newShop(t)
	s.key("stranger") // the same name, another key
	s.run("req", "-x509", "-new", "-key", "stranger.key", "-subj", "/CN=ca", "-days", "30", "-out", "stranger.pem")
	m := s.material()
	m.RequireCertificate, m.CAFile = true, s.path("ca.pem")
	load := func(m Material) Revocations {
		_, revoked, err := Load(m)
		if err != nil {
			t.Fatal(err)
		}
		return revoked
	}
	state := func(names ...string) *tls.ConnectionState {
		st := &tls.ConnectionState{}
		for _, n := range names {
			list, err := certificates([]byte(s.read(n + ".pem")))
			if err != nil {
				t.Fatal(err)
			}
			st.PeerCertificates = append(st.PeerCertificates, list...)
		}
		return st
	}
	if r := load(m); r.Include(state("revoked")) {
		t.Error("revoked without a list")
	}
	m.CRLFile = s.path("crl.pem")
	r := load(m)
	for _, tt := range []struct {
		certs []string
		want  bool
	}{
		{nil, false},
		{[]string{"good"}, false},
		{[]string{"revoked"}, true},
		{[]string{"sub-good", "sub"}, false},
		{[]string{"sub-revoked", "sub"}, true},
		{[]string{"stranger"}, false},
	} {
		if got := r.Include(state(tt.certs...)); got != tt.want {
			t.Errorf("%v: %t", tt.certs, got)
		}
	}
	m.CAFile = s.path("stranger.pem")
	if load(m).Include(state("revoked")) {
		t.Error("the list is not that of the authority")
	}
	m.RequireCertificate = false
	if load(m) != nil {
		t.Error("a list where no certificate is asked for")
	}
}
