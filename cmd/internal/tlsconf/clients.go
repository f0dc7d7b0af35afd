package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// refusal is why a client certificate is refused, with the alert that OpenSSL sends (RFC 8446, 6.2).
type refusal struct {
	text  string
	alert uint8
}

// Alerts.
const (
	badCertificate     = 42
	certificateRevoked = 44
	certificateExpired = 45
	unknownCA          = 48
)

// Error implements error.
func (r *refusal) Error() string { return r.text }

// TLSAlert is the alert for the client.
func (r *refusal) TLSAlert() uint8 { return r.alert }

// checker checks client certificates. Read-only while in use.
type checker struct {
	cas     *authorities
	revoked Revocations
	hasCRL  bool
	noDates bool // of the clients' own certificates
	now     func() time.Time
}

// verify is a VerifyConnection. It is asked when a session is resumed, too.
func (k *checker) verify(cs tls.ConnectionState) error {
	chains, err := k.chains(cs.PeerCertificates)
	if err != nil || !k.hasCRL {
		return err
	}
	err = &refusal{"no chain of client certificates", badCertificate}
	for _, chain := range chains {
		if err = k.revoked.check(chain, k.now()); err == nil {
			return nil
		}
	}
	return err
}

// chains verifies a client's certificates.
func (k *checker) chains(certs []*x509.Certificate) ([][]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, &refusal{"client did not provide a certificate", badCertificate}
	}
	leaf, now := *certs[0], k.now()
	if k.noDates {
		leaf.NotBefore, leaf.NotAfter = now, now // the signature is over other bytes
	}
	o := x509.VerifyOptions{CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	o.Roots, o.Intermediates = k.cas.pools(certs)
	chains, err := leaf.Verify(o)
	if err == nil {
		return chains, nil
	}
	alert := uint8(badCertificate)
	invalid := new(x509.CertificateInvalidError)
	switch unknown := new(x509.UnknownAuthorityError); {
	case errors.As(err, unknown):
		alert = unknownCA
	case errors.As(err, invalid) && invalid.Reason == x509.Expired:
		alert = certificateExpired
	}
	return nil, &refusal{err.Error(), alert}
}

// Revocations are lists of revoked client certificates. They are read-only.
type Revocations []revocationList

// revocationList is one list, as its issuer has signed it.
type revocationList struct {
	list    *x509.RevocationList
	signer  *x509.Certificate   // of the authorities at hand; nil if none of them is
	serials map[string]struct{} // of revoked certificates, big-endian
}

// Extensions that change what a list means (RFC 5280, 5.2).
func readable(list *x509.RevocationList) error {
	for _, e := range list.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}) {
			return errors.New("a delta list is not supported")
		}
		if e.Critical {
			return fmt.Errorf("critical extension %s is not supported", e.Id)
		}
	}
	return nil
}

// loadCRL reads the lists of revoked certificates.
func (m *Material) loadCRL(cas *authorities) (Revocations, error) {
	if m.CRLFile == "" {
		return nil, nil
	}
	bad := func(err error) error {
		return about("crlfile", "Unable to load certificate revocation file \"%s\". Check crlfile.\n%w",
			m.CRLFile, err)
	}
	raw, err := os.ReadFile(m.CRLFile)
	if err != nil {
		return nil, bad(err)
	}
	var out Revocations
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			break
		}
		if raw = rest; block.Type != "X509 CRL" {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err == nil {
			err = readable(list)
		}
		if err != nil {
			return nil, bad(fmt.Errorf("%s: %w", m.CRLFile, err))
		}
		out = append(out, newRevocationList(list, cas.named(list.RawIssuer)))
	}
	if len(out) == 0 {
		return nil, bad(fmt.Errorf("no list of revoked certificates in %s", m.CRLFile))
	}
	return out, nil
}

func newRevocationList(list *x509.RevocationList, cas []*x509.Certificate) revocationList {
	r := revocationList{list: list, serials: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
	for _, e := range list.RevokedCertificateEntries {
		if e.ReasonCode != 8 { // removeFromCRL
			r.serials[string(e.SerialNumber.Bytes())] = struct{}{}
		}
	}
	for _, ca := range cas {
		if r.signedBy(ca) {
			r.signer = ca
		}
	}
	return r
}

func (r *revocationList) signedBy(ca *x509.Certificate) bool {
	return string(ca.RawSubject) == string(r.list.RawIssuer) && r.list.CheckSignatureFrom(ca) == nil
}

// check looks a client's certificate up in the list of its issuer, which must be there and up to date: who
// cannot be looked up is refused.
func (rs Revocations) check(chain []*x509.Certificate, now time.Time) error {
	leaf, issuer := chain[0], chain[min(1, len(chain)-1)]
	stale := false
	for i := range rs {
		r := &rs[i]
		if r.signer == nil || !r.signer.Equal(issuer) {
			if string(r.list.RawIssuer) != string(issuer.RawSubject) || !r.signedBy(issuer) {
				continue
			}
		}
		if _, ok := r.serials[string(leaf.SerialNumber.Bytes())]; ok {
			text := fmt.Sprintf("client certificate %x is revoked", leaf.SerialNumber)
			return &refusal{text, certificateRevoked}
		}
		if now.Before(r.list.ThisUpdate) || !r.list.NextUpdate.IsZero() && now.After(r.list.NextUpdate) {
			stale = true
			continue
		}
		return nil
	}
	if stale {
		text := fmt.Sprintf("the revocation list of %q is out of date", issuer.Subject)
		return &refusal{text, certificateExpired}
	}
	return &refusal{fmt.Sprintf("there is no revocation list of %q", issuer.Subject), unknownCA}
}

// Include reports whether the certificate with which a client has connected is on a list of its issuer. It
// looks at serial numbers first, so only for those on a list it takes long. Any goroutine may call it.
func (rs Revocations) Include(st *tls.ConnectionState) bool {
	if len(st.PeerCertificates) == 0 {
		return false
	}
	leaf := st.PeerCertificates[0]
	serial := string(leaf.SerialNumber.Bytes())
	for i := range rs {
		r := &rs[i]
		if _, ok := r.serials[serial]; !ok || string(r.list.RawIssuer) != string(leaf.RawIssuer) {
			continue
		}
		if r.signer != nil && leaf.CheckSignatureFrom(r.signer) == nil {
			return true
		}
		for _, ca := range st.PeerCertificates[1:] { // an authority that the client has brought along
			if r.signedBy(ca) && leaf.CheckSignatureFrom(ca) == nil {
				return true
			}
		}
	}
	return false
}
