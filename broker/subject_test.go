package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// subjectOf makes a certificate with a subject.
func subjectOf(t *testing.T, rdns pkix.RDNSequence) *x509.Certificate {
	t.Helper()
	raw, err := asn1.Marshal(rdns)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: raw, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func attribute(value any, oid ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// TestSubjectAsOpenSSL compares names with those of OpenSSL, which Mosquitto uses.
func TestSubjectAsOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	cn := []int{2, 5, 4, 3}
	set := func(list ...pkix.AttributeTypeAndValue) pkix.RelativeDistinguishedNameSET { return list }
	for _, rdns := range []pkix.RDNSequence{
		{set(attribute("DE", 2, 5, 4, 6)), set(attribute("Bats, Inc.", 2, 5, 4, 10)), set(attribute("bat 1", cn...))},
		{set(attribute(` #a"b+c,d\e<f>g;h=i `, cn...))},
		{set(attribute("#x", cn...)), set(attribute("two", cn...))},
		{set(attribute("Flügel 🦇", cn...)), set(attribute("tab\there\x7f", 2, 5, 4, 11))},
		{set(attribute("a", cn...), attribute("b", 2, 5, 4, 11))},
		{set(attribute("x@example.org", 1, 2, 840, 113549, 1, 9, 1)), set(attribute("dc", 0, 9, 2342, 19200300, 100, 1, 25))},
		{
			set(attribute("uid", 0, 9, 2342, 19200300, 100, 1, 1)), set(attribute("sn", 2, 5, 4, 4)),
			set(attribute("12", 2, 5, 4, 5)), set(attribute("L", 2, 5, 4, 7)), set(attribute("ST", 2, 5, 4, 8)),
			set(attribute("street", 2, 5, 4, 9)), set(attribute("t", 2, 5, 4, 12)), set(attribute("d", 2, 5, 4, 13)),
			set(attribute("12345", 2, 5, 4, 17)), set(attribute("n", 2, 5, 4, 41)), set(attribute("g", 2, 5, 4, 42)),
			set(attribute("i", 2, 5, 4, 43)), set(attribute("q", 2, 5, 4, 44)), set(attribute("dn", 2, 5, 4, 46)),
			set(attribute("p", 2, 5, 4, 65)),
		},
		{set(attribute("unknown", 1, 2, 3, 4, 5)), set(attribute("x", cn...))},
		{set(attribute("", cn...))},
		{},
	} {
		cert := subjectOf(t, rdns)
		file := filepath.Join(t.TempDir(), "cert.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(openssl, "x509", "-in", file, "-noout", "-subject", "-nameopt", "RFC2253").Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSuffix(strings.TrimPrefix(string(out), "subject="), "\n")
		if got := subjectName(cert.RawSubject); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	first := subjectOf(t, pkix.RDNSequence{set(attribute("first", cn...)), set(attribute("second", cn...))})
	if got := commonName(first); got != "first" {
		t.Errorf("common name %q", got)
	}
	if subjectName([]byte{0x30, 0x80}) != "" {
		t.Error("a name out of nothing")
	}
}
