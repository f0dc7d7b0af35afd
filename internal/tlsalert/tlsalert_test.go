package tlsalert

import (
	"crypto/tls"
	"testing"
)

func TestPlain(t *testing.T) {
	record := "\x15\x03\x03\x00\x02\x02\x2A"
	got, ok := Plain([]byte(record), CertificateRevoked)
	if !ok || string(got) != "\x15\x03\x03\x00\x02\x02\x2C" {
		t.Errorf("%x %t", got, ok)
	}
	for _, other := range []string{
		"", "\x15", "\x15\x03\x03\x00\x02\x02\x28", "\x15\x03\x03\x00\x02\x01\x2A", "\x16\x03\x03\x00\x02\x02\x2A", record + record,
	} {
		if got, ok := Plain([]byte(other), CertificateRevoked); ok || got != nil {
			t.Errorf("%x: %x", other, got)
		}
	}
}

// sealed is a first record of a text.
func sealed(t *testing.T, suite uint16, secret []byte, text string) []byte {
	t.Helper()
	aead, iv, err := protection(suite, secret)
	if err != nil || aead == nil {
		t.Fatal(err)
	}
	head := []byte{typeData, 3, 3, 0, byte(len(text) + aead.Overhead())}
	return aead.Seal(head, iv, []byte(text), head)
}

func TestEncrypted(t *testing.T) {
	for suite, n := range map[uint16]int{
		tls.TLS_AES_128_GCM_SHA256: 32, tls.TLS_AES_256_GCM_SHA384: 48, tls.TLS_CHACHA20_POLY1305_SHA256: 32,
	} {
		secret := make([]byte, n)
		record := sealed(t, suite, secret, "\x02\x2A\x15")
		got, ok := Encrypted(record, suite, secret, CertificateRevoked)
		if want := sealed(t, suite, secret, "\x02\x2C\x15"); !ok || string(got) != string(want) {
			t.Errorf("suite %#x: %x, want %x", suite, got, want)
		}
		for _, text := range []string{"", "\x02", "\x02\x2A\x16", "\x02\x28\x15", "\x01\x2A\x15"} {
			if _, ok := Encrypted(sealed(t, suite, secret, text), suite, secret, CertificateRevoked); ok {
				t.Errorf("suite %#x: %q was changed", suite, text)
			}
		}
		for i := range record {
			if _, ok := Encrypted(record[:i], suite, secret, CertificateRevoked); ok {
				t.Errorf("suite %#x: %d bytes were changed", suite, i)
			}
		}
		if _, ok := Encrypted(record, suite, secret[1:], CertificateRevoked); ok {
			t.Errorf("suite %#x: a short secret did", suite)
		}
		secret[0] ^= 1
		if _, ok := Encrypted(record, suite, secret, CertificateRevoked); ok {
			t.Errorf("suite %#x: a wrong secret did", suite)
		}
	}
	if _, ok := Encrypted(make([]byte, 40), tls.TLS_RSA_WITH_AES_128_GCM_SHA256, make([]byte, 32), 44); ok {
		t.Error("a suite of TLS 1.2 did")
	}
}
