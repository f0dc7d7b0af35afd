package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"

	"noctule/codec"
	"noctule/internal/testcert"
)

// TestTLSStartErrors: what is wrong with a listener's TLS ends the start with 1, in Mosquitto's words.
func TestTLSStartErrors(t *testing.T) {
	_, cert, key := (&authority{Authority: &testcert.Authority{}}).issue(t, "server", &x509.Certificate{})
	_, _, other := (&authority{Authority: &testcert.Authority{}}).issue(t, "other", &x509.Certificate{})
	for conf, want := range map[string]string{
		"certfile /nope\nkeyfile " + key:          "Error: Unable to load server certificate \"/nope\". Check certfile.\n",
		"certfile " + cert + "\nkeyfile /nope":    "Error: Unable to load server key file \"/nope\". Check keyfile.\n",
		"certfile " + cert + "\nkeyfile " + other: "Error: Unable to load server key file \"" + other + "\". Check keyfile.\n",
		"crlfile /nope":                           "Error: Unable to load certificate revocation file \"/nope\". Check crlfile.\n",
		"ciphers nonsense":                        "Error: Unable to set TLS ciphers. Check cipher list \"nonsense\".\n",
		"ciphers_tls1.3 nonsense":                 "Error: Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list \"nonsense\".\n",
		"ciphers_tls1.3 TLS_AES_256_GCM_SHA384":   "Error: the ciphersuites of TLS 1.3 cannot be chosen: leave ciphers_tls1.3 out",
		"tls_version tlsv9":                       "Error: Unsupported tls_version \"tlsv9\".\n",
		"cafile " + key:                           "Error: Unable to load CA certificates. Check cafile \"" + key + "\".\n",
		"require_certificate true":                "Error: require_certificate needs cafile or capath\n",
	} {
		if !strings.HasPrefix(conf, "certfile") {
			conf = "certfile " + cert + "\nkeyfile " + key + "\n" + conf
		}
		conf = fmt.Sprintf("listener %d 127.0.0.1\nuser root\n%s\n", freePort(t), conf)
		if code, out := outcome(t, "-c", confFile(t, conf)); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d\n%s", conf, code, out)
		}
	}
}

// TestRefusalLines: each connection that is turned away leaves Mosquitto's line.
func TestRefusalLines(t *testing.T) {
	_, cert, key := (&authority{Authority: &testcert.Authority{}}).issue(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	secure, web, plain := freePort(t), freePort(t), freePort(t)
	p := startBroker(t, fmt.Sprintf(`allow_anonymous true
global_max_connections 2
listener %d 127.0.0.1
certfile %s
keyfile %s
listener %d 127.0.0.1
protocol websockets
websockets_origin https://a.example
listener %d 127.0.0.1
`, secure, cert, key, web, plain))
	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	if got := upgrade(t, at(web), "Origin: https://b.example"); got != 403 {
		t.Errorf("wrong origin: status %d", got)
	}
	p.await(t, `^\d+: Client 127\.0\.0\.1 \[127\.0\.0\.1:\d+\] disconnected: non-matching http origin\. It is "https://b\.example", on port `+fmt.Sprint(web)+`\.$`)
	if got := exchange(t, at(web), "POST /mqtt HTTP/1.1\r\nHost: x\r\n\r\n"); got != 405 {
		t.Errorf("no WebSocket: status %d", got)
	}
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 failed: handshake error: bad HTTP request method \(127\.0\.0\.1:\d+ on port `+fmt.Sprint(web)+`\)\.$`)
	if answers("tcp", at(secure)) {
		t.Error("MQTT without TLS is answered")
	}
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 failed: MQTT without TLS on a TLS listener \(127\.0\.0\.1:\d+ on port `+fmt.Sprint(secure)+`\)\.$`)
	if _, err := tls.Dial("tcp", at(secure), &tls.Config{ServerName: "localhost"}); err == nil {
		t.Error("the client trusts an unknown authority")
	}
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 failed: remote error: tls: bad certificate \(127\.0\.0\.1:\d+ on port `+fmt.Sprint(secure)+`\)\.$`)
	if answers("tcp", at(web)) {
		t.Error("MQTT without WebSocket is answered")
	}
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 failed: MQTT on a WebSocket listener: use the mqtt port or protocol mqtt \(127\.0\.0\.1:\d+ on port `+fmt.Sprint(web)+`\)\.$`)
	connect := codec.Connect{Version: codec.V311, CleanStart: true}
	var held []net.Conn
	for range 2 { // the last ones may take a moment to go
		eventually(t, "a connection", func() bool {
			c, err := net.Dial("tcp", at(plain))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			_, _ = c.Write(connect.Append(nil, codec.V311))
			n, _ := c.Read(make([]byte, 4))
			return n == 4
		})
	}
	if answers("tcp", at(plain)) {
		t.Error("a third connection is answered")
	}
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 denied: max_connections exceeded\.$`)
	for _, c := range held {
		_ = c.Close()
	}
}
