// Package tlsconf makes the TLS settings of a listener from files and from words that OpenSSL understands.
// Its errors begin with the line that Mosquitto logs; what is wrong in detail follows on lines of their own.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Material is what the TLS of a listener is made of.
type Material struct {
	// CertFile has the server's certificate and then the chain to, but without, its root; what is missing of
	// it is taken from the authorities. KeyFile has its private key, which must not be encrypted.
	CertFile, KeyFile string
	// CAFile and CAPath have the authorities that client certificates are checked against: a file, and a
	// directory as `openssl rehash` makes it, which is looked into at each handshake.
	CAFile, CAPath string
	// CRLFile has lists of revoked client certificates: one of each authority that issues them.
	CRLFile string
	// Ciphers is a list of OpenSSL's for TLS 1.2 and 1.1; empty means Go's choice.
	Ciphers string
	// CiphersTLS13 is such a list for TLS 1.3; see tls13 for what is possible.
	CiphersTLS13 string
	// TLSVersion is the lowest version: tlsv1.1, tlsv1.2 (also if empty) or tlsv1.3.
	TLSVersion string
	// RequireCertificate asks each client for a certificate that an authority has signed.
	RequireCertificate bool
	// NoDateChecks accepts client certificates that are not valid yet or no more.
	NoDateChecks bool
	// ALPN are the protocols that are confirmed to clients that offer one of them. Others are served as well.
	ALPN []string
}

// DirectiveError is an error of Load with the directive that it is about.
type DirectiveError struct {
	Key string
	Err error
}

// Error is the error alone: its text names what it is about.
func (e *DirectiveError) Error() string { return e.Err.Error() }

// Unwrap is the error.
func (e *DirectiveError) Unwrap() error { return e.Err }

// about is a DirectiveError of a text.
func about(key, format string, args ...any) error {
	return &DirectiveError{key, fmt.Errorf(format, args...)}
}

// Load reads all files. Its errors are or wrap a *DirectiveError. The result may be used by many listeners; a
// KeyLogWriter may be set before that. What crlfile says is part of it, and comes apart as well, for
// connections that were there before.
func Load(m Material) (*tls.Config, Revocations, error) {
	cfg := &tls.Config{}
	err := errors.Join(m.setVersion(cfg), m.setCiphers(cfg))
	if err != nil {
		return nil, nil, err
	}
	pair, err := m.loadPair()
	if err != nil {
		return nil, nil, err
	}
	cas, err := m.loadAuthorities()
	if err != nil {
		return nil, nil, err
	}
	if pair.Certificate, err = cas.complete(pair.Certificate); err != nil {
		return nil, nil, err
	}
	cfg.Certificates = []tls.Certificate{pair}
	revoked, err := m.loadCRL(cas)
	if err != nil {
		return nil, nil, err
	}
	m.setALPN(cfg)
	if !m.RequireCertificate { // Mosquitto does not ask for one
		return cfg, nil, nil
	}
	if m.CAFile == "" && m.CAPath == "" {
		return nil, nil, about("require_certificate", "require_certificate needs cafile or capath")
	}
	m.setClients(cfg, cas, revoked)
	return cfg, revoked, nil
}

func (m *Material) setVersion(cfg *tls.Config) error {
	switch m.TLSVersion {
	case "", "tlsv1.2":
		cfg.MinVersion = tls.VersionTLS12
	case "tlsv1.1":
		cfg.MinVersion = tls.VersionTLS11
	case "tlsv1.3":
		cfg.MinVersion = tls.VersionTLS13
	default:
		return about("tls_version", "Unsupported tls_version \"%s\".", m.TLSVersion)
	}
	return nil
}

// setALPN confirms a protocol to those who offer it. NextProtos alone would refuse all who offer others only.
func (m *Material) setALPN(cfg *tls.Config) {
	if len(m.ALPN) == 0 {
		return
	}
	confirm := sync.OnceValue(func() *tls.Config { // later, for the KeyLogWriter
		c := cfg.Clone()
		c.NextProtos, c.GetConfigForClient = m.ALPN, nil
		return c
	})
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, p := range hello.SupportedProtos {
			if slices.Contains(m.ALPN, p) {
				return confirm(), nil
			}
		}
		return nil, nil // cfg itself
	}
}

// loadPair reads certificate and key.
func (m *Material) loadPair() (pair tls.Certificate, err error) {
	badCert := func(err error) error {
		return about("certfile",
			"Unable to load server certificate \"%s\". Check certfile.\n%w", m.CertFile, err)
	}
	badKey := func(err error) error {
		return about("keyfile", "Unable to load server key file \"%s\". Check keyfile.\n%w", m.KeyFile, err)
	}
	certs, err := os.ReadFile(m.CertFile)
	if err != nil {
		return pair, badCert(err)
	}
	if chain, err := certificates(certs); err != nil || len(chain) == 0 {
		return pair, badCert(cmpOr(err, "no certificate in %s", m.CertFile))
	}
	key, err := os.ReadFile(m.KeyFile)
	if err != nil {
		return pair, badKey(err)
	}
	if encrypted(key) {
		return pair, badKey(fmt.Errorf("%s is encrypted, which is not supported: write it without a"+
			" password, as with `openssl pkey`, and protect the file", m.KeyFile))
	}
	if pair, err = tls.X509KeyPair(certs, key); err != nil {
		return pair, badKey(fmt.Errorf("%s: %w", m.KeyFile, err))
	}
	return pair, nil
}

// cmpOr is err or, if that is nil, an error of a format.
func cmpOr(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format, args...)
}

// encrypted reports whether a PEM file has a private key with a password.
func encrypted(raw []byte) bool {
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			return false
		}
		old := strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
		if old || block.Type == "ENCRYPTED PRIVATE KEY" {
			return true
		}
		raw = rest
	}
}

// certificates are those in a PEM file.
func certificates(raw []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			return out, nil
		}
		raw = rest
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
}

// setClients asks for client certificates. None of the authorities are named to the clients, as Mosquitto
// does: who is named none sends what it has, even if an intermediate has issued it that the client does not
// know.
func (m *Material) setClients(cfg *tls.Config, cas *authorities, revoked Revocations) {
	cfg.ClientAuth = tls.RequireAnyClientCert
	check := &checker{
		cas: cas, revoked: revoked, hasCRL: m.CRLFile != "", noDates: m.NoDateChecks, now: time.Now,
	}
	cfg.VerifyConnection = check.verify
}
