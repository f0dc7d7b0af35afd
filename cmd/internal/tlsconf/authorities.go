package tlsconf

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// authorities are the certificates of cafile and capath, as OpenSSL keeps them in a store: a chain must end
// in one that has signed itself, the others help to get there. The file is read once, the directory is looked
// into whenever a name is needed, so what is put there counts at once. Any goroutine may use it.
type authorities struct {
	file []*x509.Certificate
	dir  string // "" none
}

// Bounds of one look-up in the directory.
const (
	namesMax  = 32 // issuers that one chain may make it look for
	filesMax  = 64 // certificates with one hash
	chainMax  = 16 // certificates that are put behind the server's own
	caFileMax = 1 << 20
)

// loadAuthorities reads cafile, and looks whether there is a capath.
func (m *Material) loadAuthorities() (*authorities, error) {
	a := &authorities{dir: m.CAPath}
	if m.CAFile != "" {
		raw, err := os.ReadFile(m.CAFile)
		if err == nil {
			a.file, err = certificates(raw)
		}
		if err != nil || len(a.file) == 0 {
			return nil, about("cafile", "Unable to load CA certificates. Check cafile \"%s\".\n%w",
				m.CAFile, cmpOr(err, "no certificate in %s", m.CAFile))
		}
	}
	if m.CAPath == "" {
		return a, nil
	}
	d, err := os.Open(m.CAPath)
	if err == nil {
		_, err = d.ReadDir(1)
		_ = d.Close() // it was only read
	}
	if err != nil && !errors.Is(err, io.EOF) { // an empty one may be filled later
		return nil, about("capath", "Unable to load CA certificates. Check capath \"%s\".\n%w", m.CAPath, err)
	}
	return a, nil
}

// hashed is the name of a certificate in a directory that `openssl rehash` has made.
var hashed = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)

// Unhashed reports whether a capath has files and none of them has the name under which it would be looked
// for, so that no client is admitted.
func Unhashed(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0 &&
		!slices.ContainsFunc(entries, func(e os.DirEntry) bool { return hashed.MatchString(e.Name()) })
}

// named are the authorities of that name.
func (a *authorities) named(subject []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range a.file {
		if bytes.Equal(c.RawSubject, subject) {
			out = append(out, c)
		}
	}
	return append(out, a.looked(subject)...)
}

// looked are those of the directory. What cannot be read is not there, as for OpenSSL.
func (a *authorities) looked(subject []byte) (out []*x509.Certificate) {
	if a.dir == "" {
		return nil
	}
	hash, err := nameHash(subject)
	if err != nil {
		return nil
	}
	for i := range filesMax {
		name := filepath.Join(a.dir, fmt.Sprintf("%08x.%d", hash, i))
		info, err := os.Stat(name)
		if err != nil {
			return out
		}
		if !info.Mode().IsRegular() || info.Size() > caFileMax { // a pipe would be waited for
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		list, err := certificates(raw)
		if err != nil {
			continue
		}
		for _, c := range list {
			if bytes.Equal(c.RawSubject, subject) {
				out = append(out, c)
			}
		}
	}
	return out
}

// selfSigned reports whether a chain may end in c, as OpenSSL sees it.
func selfSigned(c *x509.Certificate) bool {
	if !bytes.Equal(c.RawSubject, c.RawIssuer) {
		return false
	}
	key := c.AuthorityKeyId
	return len(key) == 0 || len(c.SubjectKeyId) == 0 || bytes.Equal(key, c.SubjectKeyId)
}

// pools are what a client's certificates are verified with: those that chains may end in, and those between,
// among them what the client has sent.
func (a *authorities) pools(certs []*x509.Certificate) (roots, between *x509.CertPool) {
	roots, between = x509.NewCertPool(), x509.NewCertPool()
	var names [][]byte
	add := func(c *x509.Certificate) {
		if selfSigned(c) {
			roots.AddCert(c)
			return
		}
		between.AddCert(c)
		names = append(names, c.RawIssuer)
	}
	for _, c := range certs {
		names = append(names, c.RawIssuer)
	}
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	for _, c := range a.file {
		add(c)
	}
	if a.dir == "" {
		return roots, between
	}
	seen := map[string]bool{}
	for i := 0; i < len(names) && len(seen) < namesMax; i++ {
		if seen[string(names[i])] {
			continue
		}
		seen[string(names[i])] = true
		for _, c := range a.looked(names[i]) {
			add(c)
		}
	}
	return roots, between
}

// complete puts the issuers of a server's certificate that its file does not have behind it, without the
// one that has signed itself: clients have that, or do not trust it. OpenSSL builds the chain from the same
// files.
func (a *authorities) complete(chain [][]byte) ([][]byte, error) {
	var have []*x509.Certificate
	for _, raw := range chain {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, err
		}
		have = append(have, c)
	}
	if len(have) == 0 {
		return nil, errors.New("no certificate")
	}
	at := have[0]
	for range chainMax {
		if selfSigned(at) {
			break
		}
		next := issuer(at, have)
		if next == nil {
			next = issuer(at, a.named(at.RawIssuer))
			if next == nil || selfSigned(next) {
				break
			}
			have, chain = append(have, next), append(chain, next.Raw)
		}
		at = next
	}
	return chain, nil
}

// issuer is the one of list that has signed c: one that is valid now, else the one that was last; nil if
// there is none.
func issuer(c *x509.Certificate, list []*x509.Certificate) *x509.Certificate {
	var best *x509.Certificate
	now := time.Now()
	for _, p := range slices.Backward(list) {
		if !bytes.Equal(p.RawSubject, c.RawIssuer) || c.Equal(p) || c.CheckSignatureFrom(p) != nil {
			continue
		}
		if !now.Before(p.NotBefore) && !now.After(p.NotAfter) {
			return p
		}
		if best == nil || p.NotAfter.After(best.NotAfter) {
			best = p
		}
	}
	return best
}
