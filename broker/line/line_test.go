package line

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"testing"
)

// TestCipherText has OpenSSL's names of Go's suites.
func TestCipherText(t *testing.T) {
	for id, want := range map[uint16]string{
		tls.TLS_AES_128_GCM_SHA256:                        "TLS_AES_128_GCM_SHA256",
		tls.TLS_CHACHA20_POLY1305_SHA256:                  "TLS_CHACHA20_POLY1305_SHA256",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA:                  "AES128-SHA",
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256:               "AES128-GCM-SHA256",
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:                 "DES-CBC3-SHA",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:         "ECDHE-RSA-AES128-SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          "ECDHE-ECDSA-AES256-SHA",
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         "ECDHE-RSA-AES256-GCM-SHA384",
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
	} {
		if got := Cipher(id); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Addresses are as Mosquitto prints them: IPv6 without brackets, unix sockets by their path.
func TestAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:1883": "192.0.2.1:1883", "[::ffff:192.0.2.1]:1": "192.0.2.1:1", "[fe80::1%eth0]:2": "fe80::1:2",
	} {
		if got := Addr(netip.MustParseAddrPort(addr), "/path"); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	if got := Addr(netip.AddrPort{}, "/run/mqtt"); got != "/run/mqtt:0" {
		t.Errorf("a unix socket: %s", got)
	}
}

// counted counts how often it is formatted.
type counted int

func (c *counted) String() string { *c++; return "x" }

// Nothing is formatted when a level is off.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	var c counted
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: Notice}))
	Write(log, Debug, "%s", &c)
	Write(log, Info, "%s", &c)
	if c != 0 || b.Len() != 0 {
		t.Errorf("formatted %d times: %q", c, b.String())
	}
	Write(log, Notice, "%s %d %d", &c, Flag(true), Flag(false))
	if c != 1 || !bytes.Contains(b.Bytes(), []byte(`msg="x 1 0"`)) {
		t.Errorf("%d: %q", c, b.String())
	}
}
