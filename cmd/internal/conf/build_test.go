package conf

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"noctule/internal/testcert"
)

// sockets are the networks and addresses of the last listener of a text, or the error.
func sockets(t *testing.T, text string) string {
	t.Helper()
	c := parse(t, text)
	list, err := c.Listeners[len(c.Listeners)-1].Sockets()
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, o := range list {
		out = append(out, o.Net.Network+" "+o.Net.Address)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestSockets(t *testing.T) {
	for text, want := range map[string]string{
		"listener 1":                               "tcp4 0.0.0.0:1, tcp6 [::]:1",
		"listener 1\nsocket_domain ipv4":           "tcp4 0.0.0.0:1",
		"listener 1\nsocket_domain ipv6":           "tcp6 [::]:1",
		"listener 1 127.0.0.1":                     "tcp4 127.0.0.1:1",
		"listener 1 ::1":                           "tcp6 [::1]:1",
		"listener 1 *":                             "tcp4 0.0.0.0:1, tcp6 [::]:1",
		"listener 1 0.0.0.0":                       "tcp4 0.0.0.0:1",
		"listener 1 ::":                            "tcp6 [::]:1", // and no IPv4
		"listener 1 ::ffff:127.0.0.1":              "tcp4 127.0.0.1:1",
		"listener 1 127.0.0.1\nsocket_domain ipv6": "no address for port 1",
		"listener 0 /run/x.sock":                   "unix /run/x.sock",
		"port 1":                                   "tcp4 0.0.0.0:1, tcp6 [::]:1",
		"listener 1\nbind_interface none0":         "bind_interface none0: route ip+net: no such network interface",
		"listener 1 192.0.2.1\nbind_interface " + loopback: "Interface address for " + loopback +
			" does not match specified listener address (192.0.2.1).",
		"listener 1 127.0.0.1\nbind_interface " + loopback: "tcp4 127.0.0.1:1",
	} {
		if got := sockets(t, text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := sockets(t, "listener 1 localhost\nsocket_domain ipv4"); got != "tcp4 127.0.0.1:1" {
		t.Errorf("localhost: %s", got)
	}
	if got := sockets(t, "listener 1 does-not-exist.invalid"); !strings.HasPrefix(got, "listener 1 does-not-exist.invalid: lookup") {
		t.Errorf("unknown host: %s", got)
	}
}

const loopback = "lo"

func TestBindInterface(t *testing.T) {
	i, err := net.InterfaceByName(loopback)
	if err != nil {
		t.Skipf("no interface %s: %v", loopback, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	got := sockets(t, "listener 1\nbind_interface "+loopback)
	if n := strings.Count(got, ",") + 1; n != len(addrs) || !strings.Contains(got, "tcp4 127.0.0.1:1") {
		t.Errorf("%s, the interface has %v", got, addrs)
	}
}

func TestUnixSocketMode(t *testing.T) {
	l, err := parse(t, "listener 0 /x").Listeners[0].Sockets()
	if err != nil || len(l) != 1 || l[0].Net.UnixMode != 0o660 {
		t.Errorf("%+v %v", l, err)
	}
}

func TestTLSOptions(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Write(t, testcert.Localhost(t))
	cas := filepath.Dir(write(t, dir, "cas/0a1b2c3d.0", ""))
	write(t, dir, "cas/1a2b3c4d.0", readFile(t, cert))
	base := "listener 1 127.0.0.1\ncertfile " + cert + "\nkeyfile " + key + "\n"
	tests := []struct {
		text   string
		lowest uint16
		auth   tls.ClientAuthType
	}{
		{"", tls.VersionTLS12, tls.NoClientCert},
		{"tls_version tlsv1.1", tls.VersionTLS11, tls.NoClientCert},
		{"tls_version tlsv1.2", tls.VersionTLS12, tls.NoClientCert},
		{"tls_version tlsv1.3", tls.VersionTLS13, tls.NoClientCert},
		{"cafile " + cert, tls.VersionTLS12, tls.NoClientCert},
		{"cafile " + cert + "\nrequire_certificate true", tls.VersionTLS12, tls.RequireAnyClientCert},
		{"capath " + cas + "\nrequire_certificate true", tls.VersionTLS12, tls.RequireAnyClientCert},
		{"cafile " + cert + "\nrequire_certificate true\nrequire_certificate false", tls.VersionTLS12, tls.NoClientCert},
	}
	for _, tt := range tests {
		l, err := parse(t, base+tt.text).Listeners[0].Sockets()
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		c := l[0].Net.TLS
		if c.MinVersion != tt.lowest || c.ClientAuth != tt.auth || (c.VerifyConnection != nil) != (tt.auth != tls.NoClientCert) {
			t.Errorf("%s: version %x, auth %s", tt.text, c.MinVersion, c.ClientAuth)
		}
	}
	l, err := parse(t, "listener 1 127.0.0.1\nrequire_certificate true").Listeners[0].Sockets()
	if err != nil || l[0].Net.TLS != nil {
		t.Errorf("require_certificate alone: %+v %v", l, err)
	}
}

func TestTLSErrors(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Write(t, testcert.Localhost(t))
	_, other := testcert.Write(t, testcert.Localhost(t))
	empty := write(t, dir, "empty.pem", "nothing\n")
	base := "listener 1 127.0.0.1\nkeyfile " + key + "\n"
	for text, want := range map[string]string{
		"certfile /nope":             "Unable to load server certificate \"/nope\". Check certfile.",
		"certfile " + empty:          "Unable to load server certificate",
		"keyfile " + other:           "private key does not match",
		"tls_version tlsv1":          "Unsupported tls_version \"tlsv1\".",
		"tls_version TLSv1.2":        "Unsupported tls_version \"TLSv1.2\".",
		"cafile /nope":               "Unable to load CA certificates. Check cafile \"/nope\".",
		"cafile " + empty:            "no certificate in " + empty,
		"capath /nope":               "Unable to load CA certificates. Check capath \"/nope\".",
		"require_certificate true":   "require_certificate needs cafile or capath",
		"certfile " + empty + "\n\n": "Unable to load server certificate \"" + empty + "\". Check certfile.",
	} {
		l := parse(t, base+"certfile "+cert+"\n"+text).Listeners[0]
		if _, err := l.Sockets(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
