package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"noctule/codec"
)

// front is one way in through HAProxy.
type front struct {
	bind   string // how clients come
	server string // how the broker is spoken to
	port   int    // of the broker
}

// startProxy runs HAProxy with its fronts, and returns their addresses.
func startHAProxy(t *testing.T, fronts []front) []string {
	t.Helper()
	path := program(t, "haproxy")
	var conf strings.Builder
	conf.WriteString("defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n")
	var addrs []string
	for i, f := range fronts {
		addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		addrs = append(addrs, addr)
		fmt.Fprintf(&conf, "listen l%d\n bind %s %s\n server s 127.0.0.1:%d %s\n", i, addr, f.bind, f.port, f.server)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(path, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for _, addr := range addrs {
		eventually(t, "HAProxy", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	return addrs
}

// secured dials with TLS, trusting an authority and showing a certificate.
func secured(ca *authority, certs ...tls.Certificate) func(addr string) (net.Conn, error) {
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	cfg := &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: certs}
	return func(addr string) (net.Conn, error) { return tls.Dial("tcp", addr, cfg) }
}

func plainly(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }

// TestHAProxy has Debian's HAProxy in front of the broker, with every kind of PROXY header it can send.
func TestHAProxy(t *testing.T) {
	program(t, "haproxy")
	ca := newAuthority(t, "ours")
	_, cert, key := ca.issue(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	both := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(both, []byte(readFile(t, cert)+readFile(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, _, _ := ca.issue(t, "device-7", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	one, two, picky, certified, web := freePort(t), freePort(t), freePort(t), freePort(t), freePort(t)
	p := startBroker(t, fmt.Sprintf(`allow_anonymous true
listener %d 127.0.0.1
enable_proxy_protocol 1
listener %d 127.0.0.1
enable_proxy_protocol 2
listener %d 127.0.0.1
enable_proxy_protocol 2
proxy_protocol_v2_require_tls true
listener %d 127.0.0.1
enable_proxy_protocol 2
require_certificate true
listener %d 127.0.0.1
enable_proxy_protocol 2
protocol websockets
`, one, two, picky, certified, web))
	ssl := "ssl crt " + both
	verify := ssl + " ca-file " + ca.file + " verify optional"
	addrs := startHAProxy(t, []front{
		{"", "send-proxy", one},
		{"", "send-proxy-v2", two},
		{ssl, "send-proxy-v2 proxy-v2-options ssl,ssl-cipher,crc32c", picky},
		{"", "send-proxy-v2", picky},
		{verify, "send-proxy-v2-ssl-cn", certified},
		{"", "send-proxy-v2", web},
		{"", "send-proxy", two},
	})
	const negotiated, nameless, noTLS, noCert = `^\d+: Connection from %s negotiated TLSv1\.3 cipher TLS_\w+$`,
		`^\d+: Connection from %s negotiated TLSv1\.3 cipher $`,
		`^\d+: Connection from %s rejected, client did not connect using TLS\.$`,
		`^\d+: Connection from %s rejected, client did not provide a certificate\.$`
	for i, tt := range []struct {
		name string
		addr string
		dial func(string) (net.Conn, error)
		line string // a pattern; %s is the client's address
	}{
		{"version 1", addrs[0], plainly, ""},
		{"version 2", addrs[1], plainly, ""},
		{"TLS", addrs[2], secured(ca), negotiated},
		{"no TLS", addrs[3], plainly, noTLS},
		{"certificate", addrs[4], secured(ca, pair), nameless},
		{"no certificate", addrs[4], secured(ca), noCert},
		{"version 1 for 2", addrs[6], plainly, `^\d+: Connection rejected, corrupt PROXY header\.$%.0s`},
	} {
		nc, err := tt.dial(tt.addr)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		at := regexp.QuoteMeta(nc.LocalAddr().String())
		accepted := tt.line == "" || tt.line == negotiated || tt.line == nameless
		c := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: fmt.Append(nil, "c", i)}
		_, _ = nc.Write(c.Append(nil, codec.V5)) // it may be closed already
		if tt.line != "" {
			p.await(t, fmt.Sprintf(tt.line, at))
		}
		if accepted {
			p.await(t, fmt.Sprintf(`^\d+: New client connected from %s as c%d \(p5, c1, k0\)\.$`, at, i))
		}
		b := make([]byte, 100)
		if n, err := nc.Read(b); (err == nil) != accepted {
			t.Errorf("%s: %x, %v", tt.name, b[:n], err)
		}
		_ = nc.Close()
	}
	client3(t, "ws://"+addrs[5]+"/mqtt", "web", nil)
	p.await(t, `^\d+: New client connected from 127\.0\.0\.1:\d+ as web \(p4, `)
	if strings.Contains(p.lines(), "New connection from") || strings.Contains(p.lines(), fmt.Sprintf("from 127.0.0.1:%d ", web)) {
		t.Errorf("the log tells of the proxy:\n%s", p.lines())
	}
}
