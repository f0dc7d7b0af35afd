package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/internal/testcert"
)

// answers reports whether MQTT is spoken at an address.
func answers(network, addr string) bool {
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return false
	}
	defer c.Close()
	return connects(c)
}

// connects reports whether CONNECT is answered with CONNACK 0.
func connects(c net.Conn) bool {
	p := codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("probe")}
	if _, err := c.Write(p.Append(nil, codec.V311)); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4)
	n, _ := c.Read(b)
	return bytes.Equal(b[:n], []byte{0x20, 2, 0, 0})
}

// ourAddress is an IPv4 address of this machine that is not the loopback's.
func ourAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("only the loopback interface")
	return ""
}

func TestListenerAddresses(t *testing.T) {
	const v4, v6 = "127.0.0.1", "::1"
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	_ = probe.Close()
	out := ourAddress(t)
	tests := []struct {
		name, conf string // %d is the port
		v4, v6     bool
		out        bool
	}{
		{"listener", "listener %d", true, true, true},
		{"listener with address", "listener %d 127.0.0.1", true, false, false},
		{"listener with IPv6 address", "listener %d ::1", false, true, false},
		{"listener with all IPv6 addresses", "listener %d ::", false, true, false},
		{"listener with all addresses", "listener %d *", true, true, true},
		{"listener with name", "listener %d localhost\nsocket_domain ipv4", true, false, false},
		{"socket_domain ipv4", "listener %d\nsocket_domain ipv4", true, false, true},
		{"socket_domain ipv6", "listener %d\nsocket_domain ipv6", false, true, false},
		{"bind_interface", "listener %d\nbind_interface lo", true, true, false},
		{"bind_interface and address", "listener %d ::1\nbind_interface lo", false, true, false},
		{"port", "port %d", true, true, true},
		{"port and bind_address", "port %d\nbind_address 127.0.0.1", true, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port := freePort(t)
			p := startBroker(t, fmt.Sprintf("allow_anonymous true\n"+tt.conf, port))
			for host, want := range map[string]bool{v4: tt.v4, v6: tt.v6, out: tt.out} {
				if got := answers("tcp", net.JoinHostPort(host, fmt.Sprint(port))); got != want {
					t.Errorf("%s answers: %t\n%s", host, got, p.lines())
				}
			}
			for family, want := range map[string]bool{"ipv4": tt.v4, "ipv6": tt.v6} {
				line := fmt.Sprintf(": Opening %s listen socket on port %d.\n", family, port)
				if strings.Contains(p.lines(), line) != want {
					t.Errorf("%s in the log: %t\n%s", family, !want, p.lines())
				}
			}
		})
	}
}

func TestLocalOnly(t *testing.T) {
	out, port := ourAddress(t), freePort(t)
	p := newBroker(t, "user root\nsys_interval 0", "-p", fmt.Sprint(port))
	p.start(t)
	p.await(t, `^\d+: Starting in local only mode\. Connections will only be possible from clients running on this machine\.$`)
	for host, want := range map[string]bool{"127.0.0.1": true, out: false} {
		if got := answers("tcp", net.JoinHostPort(host, fmt.Sprint(port))); got != want {
			t.Errorf("%s answers: %t", host, got)
		}
	}
}

// TestLocalOnlyWithOneAddress takes one of the two loopback addresses away: the other is enough.
func TestLocalOnlyWithOneAddress(t *testing.T) {
	six, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	defer six.Close()
	port := six.Addr().(*net.TCPAddr).Port
	p := newBroker(t, "user root\nsys_interval 0", "-p", fmt.Sprint(port))
	p.start(t)
	p.await(t, fmt.Sprintf(`^\d+: Warning: port %d is not open on ::1: .*address already in use$`, port))
	if !answers("tcp", fmt.Sprintf("127.0.0.1:%d", port)) {
		t.Errorf("no answer\n%s", p.lines())
	}
	_ = p.stop(t, syscall.SIGTERM)
	four, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	code, out := outcome(t, "-c", confFile(t, "user root"), "-p", fmt.Sprint(port))
	if code != 1 || !strings.Contains(out, "Error: ") || strings.Contains(out, " running\n") {
		t.Errorf("neither address: exit %d\n%s", code, out)
	}
	_ = six.Close()
	p = newBroker(t, "user root\nsys_interval 0", "-p", fmt.Sprint(port))
	p.start(t)
	p.await(t, fmt.Sprintf(`^\d+: Warning: port %d is not open on 127\.0\.0\.1: .*address already in use$`, port))
	if !answers("tcp", fmt.Sprintf("[::1]:%d", port)) {
		t.Errorf("no answer\n%s", p.lines())
	}
	code, out = outcome(t, "-c", confFile(t, fmt.Sprintf("user root\nlistener %d ::1\nlistener %d 127.0.0.1", freePort(t), port)))
	if code != 1 {
		t.Errorf("a listener that is asked for: exit %d\n%s", code, out)
	}
}

func TestUnixListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	p := startBroker(t, "allow_anonymous true\nlistener 0 "+path)
	p.await(t, `^\d+: Opening unix listen socket on path `+path+`\.$`)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 || st.Mode()&os.ModeSocket == 0 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if !answers("unix", path) {
		t.Error("no answer")
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}

// upgrade sends a WebSocket request and returns the status of the answer.
func upgrade(t *testing.T, addr, header string) int {
	t.Helper()
	return exchange(t, addr, "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n"+
		header+"\r\n\r\n")
}

// exchange sends bytes and returns the status of the HTTP answer.
func exchange(t *testing.T, addr, request string) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestWebSocketListeners(t *testing.T) {
	plain, picky := freePort(t), freePort(t)
	startBroker(t, fmt.Sprintf("allow_anonymous true\nwebsockets_headers_size 1000\n"+
		"listener %d 127.0.0.1\nprotocol websockets\nlistener %d 127.0.0.1\nprotocol websockets\n"+
		"websockets_origin https://a.example\nwebsockets_origin https://b.example:8443", plain, picky))
	a, b := fmt.Sprintf("127.0.0.1:%d", plain), fmt.Sprintf("127.0.0.1:%d", picky)
	for _, tt := range []struct {
		addr, header string
		status       int
	}{
		{a, "X-Test: 1", 101},
		{a, "Origin: https://anything.example", 101},
		{b, "X-Test: 1", 403},
		{b, "Origin: https://anything.example", 403},
		{b, "Origin: https://a.example:8443", 403},
		{b, "Origin: https://a.example", 101},
		{b, "Origin: https://b.example:8443", 101},
		{a, "X-Test: " + strings.Repeat("x", 700), 101},
		{a, "X-Test: " + strings.Repeat("x", 1000), 431},
	} {
		if got := upgrade(t, tt.addr, tt.header); got != tt.status {
			t.Errorf("%.60s: status %d, want %d", tt.header, got, tt.status)
		}
	}
	connect := codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("probe")}
	c, err := net.Dial("tcp", a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write(connect.Append(nil, codec.V311))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("MQTT without WebSocket: %d bytes, %v", n, err)
	}
	_, addr := withConf(t, "protocol websockets")
	if got := upgrade(t, addr, "X-Test: "+strings.Repeat("x", 3500)); got != 101 {
		t.Errorf("default header size: status %d", got)
	}
}

func TestIncludeDir(t *testing.T) {
	dir, one, two := t.TempDir(), freePort(t), freePort(t)
	for name, text := range map[string]string{
		"a.conf": "max_packet_size 1000\n",
		"b.conf": fmt.Sprintf("max_packet_size 2000\nlistener %d 127.0.0.1\nmax_qos 1\n", two),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startBroker(t, fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\ninclude_dir %s\nmax_qos 0", one, dir))
	p.await(t, "^\\d+: Loading config file '"+dir+"/b.conf'$")
	for port, qos := range map[int]int{one: 0, two: 1} {
		_, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", port), "c", codec.V5, nil)
		if q, size := property(ack, codec.MaximumQoS), property(ack, codec.MaximumPacketSize); q != qos || size != 2000 {
			t.Errorf("Maximum QoS %d, Maximum Packet Size %d", q, size)
		}
	}
}

// authority issues certificates, and is a file too.
type authority struct {
	*testcert.Authority

	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{Authority: testcert.NewAuthority(t, name)}
	a.file, _ = testcert.Write(t, tls.Certificate{Certificate: [][]byte{a.Cert.Raw}, PrivateKey: a.Key})
	return a
}

// issue makes a key pair, and two files of it.
func (a *authority) issue(t *testing.T, name string, tmpl *x509.Certificate) (pair tls.Certificate, cert, key string) {
	t.Helper()
	tmpl.Subject.CommonName = name
	pair = a.Issue(t, tmpl)
	cert, key = testcert.Write(t, pair)
	return pair, cert, key
}

// certificate is that of a server on localhost, which signs itself.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	return testcert.Write(t, testcert.Localhost(t))
}

// TestUnhashedCAPath is told of at the start and at a reload, and keeps nobody from starting.
func TestUnhashedCAPath(t *testing.T) {
	ca := newAuthority(t, "ours")
	_, cert, key := ca.issue(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	cas := t.TempDir()
	conf := fmt.Sprintf("listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\ncapath %s\nrequire_certificate true", freePort(t), cert, key, cas)
	p := startBroker(t, conf)
	if strings.Contains(p.lines(), "rehash") {
		t.Errorf("an empty directory is told of\n%s", p.lines())
	}
	if err := os.WriteFile(filepath.Join(cas, "ca.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const line = `^\d+: Warning: capath "[^"]+" has no file that is named by the hash of its certificate: run .openssl rehash. on it\.$`
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.await(t, line)
	_ = p.stop(t, syscall.SIGTERM)
	startBroker(t, conf).await(t, line)
}

func TestTLSListeners(t *testing.T) {
	ca, stranger := newAuthority(t, "ours"), newAuthority(t, "a stranger's")
	_, cert, key := ca.issue(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	client := func(a *authority) *tls.Config { // presents its certificate whatever the server asks for
		usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		pair, _, _ := a.issue(t, "client", &x509.Certificate{ExtKeyUsage: usage})
		return &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}}
	}
	cas := t.TempDir()
	if err := os.Symlink(ca.file, filepath.Join(cas, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program(t, "openssl"), "rehash", cas).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	none := &tls.Config{}
	ours, theirs := client(ca), client(stranger)
	old := &tls.Config{MaxVersion: tls.VersionTLS12}
	older := &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}
	for _, tt := range []struct {
		conf   string
		good   []*tls.Config
		refuse []*tls.Config
	}{
		{"", []*tls.Config{none, ours, theirs, old}, []*tls.Config{older}},
		{"cafile " + ca.file, []*tls.Config{none, ours, theirs}, nil}, // it asks nobody
		{"cafile " + ca.file + "\nrequire_certificate true", []*tls.Config{ours}, []*tls.Config{none, theirs}},
		{"capath " + cas + "\nrequire_certificate true", []*tls.Config{ours}, []*tls.Config{none, theirs}},
		{"tls_version tlsv1.3", []*tls.Config{none}, []*tls.Config{old, older}},
		{"tls_version tlsv1.2", []*tls.Config{none, old}, []*tls.Config{older}},
		{"tls_version tlsv1.1", []*tls.Config{none, old, older}, nil},
	} {
		_, addr := withConf(t, fmt.Sprintf("certfile %s\nkeyfile %s\n%s", cert, key, tt.conf))
		for i, cfg := range append(tt.good, tt.refuse...) {
			c := cfg.Clone()
			c.RootCAs, c.ServerName = roots, "localhost"
			conn, err := tls.Dial("tcp", addr, c)
			got := err == nil && connects(conn)
			if want := i < len(tt.good); got != want {
				t.Errorf("%q: client %d gets in: %t (%v)", tt.conf, i, got, err)
			}
			if err == nil {
				_ = conn.Close()
			}
		}
		if answers("tcp", addr) {
			t.Errorf("%q: MQTT without TLS is answered", tt.conf)
		}
	}
}

var asRootLine = regexp.MustCompile(`(?m)^\d+: Warning: Mosquitto should not be run as root/administrator\.\n`)

func TestLogDirectives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.log")
	session := func(t *testing.T, conf string) (console, written string) {
		t.Helper()
		_ = os.Remove(file)
		port := freePort(t)
		p := newBroker(t, fmt.Sprintf("user root\nlistener %d 127.0.0.1\nallow_anonymous true\n%s", port, conf))
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		eventually(t, "the listener", func() bool { return answers("tcp", addr) })
		c := brokertest.Connect(t, addr, "client", codec.V5, nil)
		c.Subscribe("x", 1)
		c.Publish("x", "", 0, 0)
		c.Want(codec.PUBLISH, nil)
		c.Disconnect()
		if code := p.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit %d", code)
		}
		raw, _ := os.ReadFile(file)
		return p.lines(), string(raw)
	}
	const connected, stamp = `New client connected from 127\.0\.0\.1:\d+ as client \(p5, c1, k0\)\.`, `^\d{10}: `
	for _, tt := range []struct {
		name, conf string
		console    []string // patterns that must be, or with ! must not be in what is printed
		file       []string
	}{
		{
			"default", "", []string{
				stamp + connected, stamp + "mosquitto version 2.1.2 running",
				stamp + `Client client \[.*\] disconnected\.`, "!PUBLISH",
			}, nil,
		},
		{"stdout", "log_dest stdout", []string{connected}, nil},
		{"file", "log_dest file " + file, []string{"!."}, []string{stamp + connected, "terminating$"}},
		{"file and stderr", "log_dest stderr\nlog_dest file " + file, []string{connected}, []string{connected}},
		{"none", "log_dest none", []string{"!."}, nil},
		{"error", "log_type error", []string{"!."}, nil},
		{"notice", "log_type notice", []string{connected, "!running"}, nil},
		{"information", "log_type information", []string{"!" + connected, "running"}, nil},
		{"subscribe", "log_type subscribe", []string{stamp + "client 1 x$", "!running", "!" + connected}, nil},
		{
			"debug", "log_type debug",
			[]string{`Received PUBLISH from client \(d0, q0, r0, m0, 'x', \.\.\. \(0 bytes\)\)$`, "!running"},
			nil,
		},
		{"all", "log_type all", []string{connected, "running", "client 1 x$", "Sending SUBACK to client"}, nil},
		{"no timestamp", "log_timestamp false", []string{"^" + connected, "!" + stamp}, nil},
		{"format", "log_timestamp_format %Y-%m-%dT%H:%M:%S", []string{`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: ` + connected}, nil},
		{"no connection messages", "connection_messages false", []string{"running", "!client", "!New connection"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			console, written := session(t, tt.conf)
			console = asRootLine.ReplaceAllString(console, "") // comes before the log is opened
			for text, patterns := range map[string][]string{console: tt.console, written: tt.file} {
				for _, pattern := range patterns {
					pattern, not := strings.CutPrefix(pattern, "!")
					if regexp.MustCompile("(?m)"+pattern).MatchString(text) == not {
						t.Errorf("%s is there: %t\n%s", pattern, not, text)
					}
				}
			}
		})
	}
}
