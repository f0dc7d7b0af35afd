package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestNameHash compares with OpenSSL, which names the files of capath.
func TestNameHash(t *testing.T) {
	s := &shop{t, t.TempDir()}
	s.key("k")
	for _, tt := range [][]string{
		{"/CN=ca"},
		{"/C=DE/O=Example  GmbH /OU= Two\tWords/CN=CA One/emailAddress=Root@Example.ORG"},
		{"/CN=Zertifikate für Bäume ÄÖÜ", "-utf8"},
		{"/CN=latin \xe4", "-nameopt", "esc_msb"},
		{"/CN=b+OU=a+O=c/C=US", "-multivalue-rdn"},
		{"/DC=org/DC=example/CN=x"},
		{"/serialNumber=12 34/CN=A"},
		{"/CN=" + strings.Repeat("long ", 12)},
	} {
		args := append([]string{"req", "-x509", "-new", "-key", "k.key", "-days", "3", "-out", "c.pem", "-subj"}, tt...)
		s.run(args...)
		for _, mask := range []string{"default", "utf8only", "nombstr"} {
			s.write("conf", "[req]\ndistinguished_name=dn\nstring_mask="+mask+"\n[dn]\n")
			s.run(append(args, "-config", "conf")...)
			c, err := certificates([]byte(s.read("c.pem")))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.TrimSpace(s.run("x509", "-in", "c.pem", "-noout", "-subject_hash"))
			got, err := nameHash(c[0].RawSubject)
			if text := fmt.Sprintf("%08x", got); err != nil || text != want {
				t.Errorf("%s %s: %s %v, want %s", tt, mask, text, err, want)
			}
		}
	}
	s.run("req", "-x509", "-new", "-key", "k.key", "-days", "3", "-out", "c.pem", "-utf8", "-subj", "/CN=証明書 A")
	c, err := certificates([]byte(s.read("c.pem")))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(s.run("x509", "-in", "c.pem", "-noout", "-subject_hash"))
	if got, err := nameHash(c[0].RawSubject); err != nil || fmt.Sprintf("%08x", got) != want {
		t.Errorf("%08x %v, want %s", got, err, want)
	}
	for _, raw := range []string{"", "\x30", "\x30\x01\x00", "\x31\x00", "\x30\x02\x31\x01", "\x30\x03\x31\x01\x02"} {
		if _, err := nameHash([]byte(raw)); err == nil {
			t.Errorf("%q has a hash", raw)
		}
	}
}

// TestServerChain: what certfile does not have of the chain comes from the authorities, as far as it is there,
// and never the root.
func TestServerChain(t *testing.T) {
	s := newShop(t)
	s.issue("deep", "sub", "sub")
	s.issue("leaf", "deep", "server")
	s.write("both.pem", s.read("sub.pem")+s.read("ca.pem"))
	s.write("all.pem", s.read("ca.pem")+s.read("good.pem")+s.read("deep.pem")+s.read("sub.pem"))
	s.write("part.pem", s.read("leaf.pem")+s.read("deep.pem"))
	s.write("mixed.pem", s.read("leaf.pem")+s.read("good.pem")+s.read("sub.pem"))
	s.hash("cas", "sub", "deep", "ca")
	s.run("req", "-x509", "-new", "-key", "leaf.key", "-subj", "/CN=self", "-days", "30", "-out", "self.pem")
	for _, tt := range []struct{ cert, key, file, path, want string }{
		{"server", "server", "", "", "server"},
		{"server", "server", "both", "", "server sub"},
		{"server", "server", "sub", "", "server sub"},
		{"server", "server", "ca", "", "server"},
		{"server", "server", "", "cas", "server sub"},
		{"server", "server", "ca", "cas", "server sub"},
		{"chain", "server", "both", "cas", "server sub"},
		{"leaf", "leaf", "all", "", "leaf deep sub"},
		{"leaf", "leaf", "sub", "", "leaf"},
		{"leaf", "leaf", "sub", "cas", "leaf deep sub"},
		{"part", "leaf", "all", "", "leaf deep sub"},
		{"mixed", "leaf", "all", "", "leaf good sub deep"},
		{"self", "leaf", "all", "cas", "self"},
	} {
		m := Material{CertFile: s.path(tt.cert + ".pem"), KeyFile: s.path(tt.key + ".key")}
		if tt.file != "" {
			m.CAFile = s.path(tt.file + ".pem")
		}
		if tt.path != "" {
			m.CAPath = s.path(tt.path)
		}
		cfg, _, err := Load(m)
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		var got []string
		for _, raw := range cfg.Certificates[0].Certificate {
			c, err := x509.ParseCertificate(raw)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c.Subject.CommonName)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
	m := s.material()
	m.CertFile, m.CAFile = s.path("server.pem"), s.path("both.pem")
	ln := serve(t, m)
	if got := s.client(ln.Addr(), "-verify_return_error"); got != "ok" {
		t.Errorf("a client with the root alone: %s", got)
	}
}

// hash puts certificates into a directory under the hashes of their names.
func (s *shop) hash(dir string, names ...string) {
	s.t.Helper()
	if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, n := range names {
		s.write(filepath.Join(dir, n+".pem"), s.read(n+".pem"))
	}
	s.run("rehash", dir)
}

// TestTrustIsOpenSSLs asks OpenSSL whom it would admit with the same authorities.
func TestTrustIsOpenSSLs(t *testing.T) {
	s := newShop(t)
	s.key("other")
	s.run("req", "-x509", "-new", "-key", "other.key", "-subj", "/CN=other", "-days", "30", "-out", "other.pem")
	s.key("namesake") // the name of the authority, another key
	s.run("req", "-x509", "-new", "-key", "namesake.key", "-subj", "/CN=ca", "-days", "30", "-out", "namesake.pem")
	s.issue("of-other", "other", "none")
	s.write("both.pem", s.read("sub.pem")+s.read("ca.pem"))
	s.write("subs.pem", s.read("sub.pem")+s.read("other.pem"))
	s.hash("none")
	s.hash("root", "ca")
	s.hash("sub-only", "sub")
	s.hash("full", "ca", "sub", "other")
	s.hash("names", "namesake", "ca")
	s.hash("gap", "other")
	s.write("gap/plain.pem", s.read("ca.pem"))
	s.hash("broken", "other")
	sum := strings.TrimSpace(s.run("x509", "-in", "ca.pem", "-noout", "-subject_hash"))
	s.write("broken/"+sum+".0", "nothing\n")
	for _, file := range []string{"", "ca", "sub", "both", "subs"} {
		for _, dir := range []string{"", "none", "sub-only", "full", "names", "gap", "broken"} {
			if file != "" || dir != "" {
				s.compareTrust(file, dir)
			}
		}
	}
}

// compareTrust has OpenSSL and this package verify client certificates with a cafile and a capath.
func (s *shop) compareTrust(file, dir string) {
	s.t.Helper()
	m := s.material()
	m.RequireCertificate = true
	args := []string{"verify", "-purpose", "sslclient", "-no-CAfile", "-no-CApath", "-no-CAstore"}
	if file != "" {
		m.CAFile = s.path(file + ".pem")
		args = append(args, "-CAfile", file+".pem")
	}
	if dir != "" {
		m.CAPath = s.path(dir)
		args = append(args, "-CApath", dir)
	}
	cfg, _, err := Load(m)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, client := range [][]string{
		{"good"},
		{"sub-good"},
		{"sub-good", "sub"},
		{"sub-good", "sub", "ca"},
		{"of-other"},
		{"of-other", "other"},
		{"expired"},
		{"other"},
		{"sub-good", "good"},
	} {
		var certs []*x509.Certificate
		var more string
		for _, n := range client {
			c, err := certificates([]byte(s.read(n + ".pem")))
			if err != nil {
				s.t.Fatal(err)
			}
			certs, more = append(certs, c...), more+s.read(n+".pem")
		}
		s.write("untrusted.pem", more)
		cmd := exec.Command("openssl", append(slices.Clone(args), "-untrusted", "untrusted.pem", client[0]+".pem")...)
		cmd.Dir = s.dir
		out, want := cmd.CombinedOutput()
		got := cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: certs})
		if (got == nil) != (want == nil) {
			s.t.Errorf("cafile %q, capath %q, client %v: %v; OpenSSL:\n%s", file, dir, client, got, out)
		}
	}
}

// TestCAPathCountsAtOnce changes the directory under a listener.
func TestCAPathCountsAtOnce(t *testing.T) {
	s := newShop(t)
	s.hash("cas")
	m := s.material()
	m.CAPath, m.RequireCertificate = s.path("cas"), true
	ln := serve(t, m)
	show := func(name string) string {
		return s.client(ln.Addr(), "-cert", name+".pem", "-key", name+".key")
	}
	if got := show("good"); got != "48" {
		t.Errorf("empty directory: %s", got)
	}
	s.hash("cas", "ca")
	if got := show("good"); got != "ok" {
		t.Errorf("authority added: %s", got)
	}
	if got := show("sub-good"); got != "48" {
		t.Errorf("intermediate missing: %s", got)
	}
	s.hash("cas", "sub")
	if got := show("sub-good"); got != "ok" {
		t.Errorf("intermediate added: %s", got)
	}
	if err := os.RemoveAll(s.path("cas")); err != nil {
		t.Fatal(err)
	}
	if got := show("good"); got != "48" {
		t.Errorf("directory removed: %s", got)
	}
}

// TestListOfAnAuthorityInCAPath: who has signed a list of revoked certificates is found there too.
func TestListOfAnAuthorityInCAPath(t *testing.T) {
	s := newShop(t)
	s.hash("cas", "ca", "sub")
	m := s.material()
	m.CAPath, m.CRLFile, m.RequireCertificate = s.path("cas"), s.path("crl.pem"), true
	cfg, revoked, err := Load(m)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"good": false, "revoked": true, "sub-good": false, "sub-revoked": true} {
		certs, err := certificates([]byte(s.read(name + ".pem")))
		if err != nil {
			t.Fatal(err)
		}
		st := tls.ConnectionState{PeerCertificates: certs}
		if err := cfg.VerifyConnection(st); (err != nil) != want || revoked.Include(&st) != want {
			t.Errorf("%s: %v, included %t", name, err, !want)
		}
	}
}

// TestUnhashed: a capath that nobody has rehashed is told of.
func TestUnhashed(t *testing.T) {
	s := newShop(t)
	for _, dir := range []string{"empty", "plain"} {
		if err := os.Mkdir(s.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.write("plain/ca.pem", s.read("ca.pem"))
	s.hash("hashed", "ca")
	for dir, want := range map[string]bool{"empty": false, "plain": true, "hashed": false, "none": false} {
		if got := Unhashed(s.path(dir)); got != want {
			t.Errorf("%s: %t", dir, got)
		}
	}
}

// TestResumedClientsAreVerified: a ticket spares the handshake's arithmetic, not the look at the authorities.
func TestResumedClientsAreVerified(t *testing.T) {
	s := newShop(t)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		s.hash("cas"+name, "ca")
		m := s.material()
		m.CAPath, m.RequireCertificate, m.ALPN = s.path("cas"+name), true, []string{"mqtt"}
		addr := serve(t, m).Addr().String()
		pair, err := tls.LoadX509KeyPair(s.path("good.pem"), s.path("good.key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, alpn := range [][]string{nil, {"mqtt"}} {
			c := &tls.Config{
				InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}, NextProtos: alpn,
				MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
			}
			for i := range 3 {
				resumed, err := exchange(addr, c)
				if err != nil || resumed != (i > 0) {
					t.Errorf("%s %v, connection %d: resumed %t, %v", name, alpn, i, resumed, err)
				}
			}
			if alpn == nil {
				continue
			}
			if err := os.RemoveAll(s.path("cas" + name)); err != nil {
				t.Fatal(err)
			}
			if _, err := exchange(addr, c); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
				t.Errorf("%s: authority removed: %v", name, err)
			}
		}
	}
}

// exchange sends bytes and waits for them to come back; a ticket comes with them.
func exchange(addr string, cfg *tls.Config) (resumed bool, err error) {
	c, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return false, err
	}
	b := make([]byte, 5)
	_, err = c.Read(b)
	return c.ConnectionState().DidResume, err
}

// TestLookedUpNamesAreBounded: a client does not decide how long the directory is searched.
func TestLookedUpNamesAreBounded(t *testing.T) {
	s := newShop(t)
	s.hash("cas", "ca")
	good, err := certificates([]byte(s.read("good.pem")))
	if err != nil {
		t.Fatal(err)
	}
	for others, found := range map[int]bool{0: true, namesMax - 1: true, namesMax: false, 10 * namesMax: false} {
		var certs []*x509.Certificate
		for i := range others {
			certs = append(certs, &x509.Certificate{RawIssuer: []byte(strconv.Itoa(i)), Raw: []byte{byte(i), byte(i >> 8)}})
		}
		a := &authorities{dir: s.path("cas")}
		roots, _ := a.pools(append(certs, good...))
		if roots.Equal(x509.NewCertPool()) == found {
			t.Errorf("behind %d names: found is not %t", others, found)
		}
	}
}
