package tlsconf

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openssl runs the program, which must be there in CI.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// shop is a directory with an authority that OpenSSL runs.
type shop struct {
	t   *testing.T
	dir string
}

// newShop has an authority ca.pem with its intermediate sub.pem, a server's chain, and clients: good and revoked
// of ca.pem, sub-good and sub-revoked of sub.pem, expired and future; lists of both authorities in crl.pem.
func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t, t.TempDir()}
	s.write("conf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nserial=serial\nrand_serial=yes\n"+
		"default_md=sha256\ncrlnumber=crlnumber\ndefault_crl_days=30\ndefault_days=30\npolicy=p\nunique_subject=no\n"+
		"copy_extensions=copy\n[p]\nCN=supplied\n[sub]\nbasicConstraints=critical,CA:TRUE\n"+
		"keyUsage=critical,keyCertSign,cRLSign\n[server]\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n[none]\n"+
		"basicConstraints=CA:FALSE\n")
	for _, name := range []string{"index", "index.attr"} {
		s.write(name, "")
	}
	s.write("crlnumber", "01\n")
	s.key("ca")
	s.run("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=ca", "-days", "30", "-out", "ca.pem")
	s.issue("sub", "ca", "sub")
	s.issue("server", "sub", "server")
	s.write("chain.pem", s.read("server.pem")+s.read("sub.pem"))
	for _, name := range []string{"good", "revoked"} {
		s.issue(name, "ca", "none")
		s.issue("sub-"+name, "sub", "none")
	}
	s.issue("expired", "ca", "none", "-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
	s.issue("future", "ca", "none", "-startdate", "21000101000000Z", "-enddate", "21010101000000Z")
	s.sign("ca", "-revoke", "revoked.pem")
	s.sign("ca", "-gencrl", "-out", "ca.crl")
	s.sign("ca", "-gencrl", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20210101000000Z", "-out", "old.crl")
	s.write("index", "")
	s.sign("sub", "-revoke", "sub-revoked.pem")
	s.sign("sub", "-gencrl", "-out", "sub.crl")
	s.write("crl.pem", s.read("ca.crl")+s.read("sub.crl"))
	return s
}

func (s *shop) run(args ...string) string { return openssl(s.t, s.dir, args...) }

func (s *shop) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shop) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) read(name string) string {
	s.t.Helper()
	raw, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

func (s *shop) key(name string) {
	s.run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name+".key")
}

func (s *shop) sign(by string, args ...string) {
	s.run(append([]string{"ca", "-batch", "-config", "conf", "-cert", by + ".pem", "-keyfile", by + ".key", "-notext"}, args...)...)
}

func (s *shop) issue(name, by, extensions string, args ...string) {
	s.key(name)
	s.run("req", "-new", "-key", name+".key", "-subj", "/CN="+name, "-out", name+".csr")
	s.sign(by, append([]string{"-in", name + ".csr", "-extensions", extensions, "-out", name + ".pem"}, args...)...)
}

// material is a listener's with a certificate of the shop.
func (s *shop) material() Material {
	return Material{CertFile: s.path("chain.pem"), KeyFile: s.path("server.key")}
}

func TestLoadErrors(t *testing.T) {
	s := newShop(t)
	s.write("empty.pem", "nothing\n")
	s.write("broken.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
	s.run("pkey", "-in", "server.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
	s.run("ec", "-in", "server.key", "-aes128", "-passout", "pass:secret", "-out", "old-locked.key")
	for _, tt := range []struct {
		change func(m *Material)
		want   string
	}{
		{func(m *Material) { m.CertFile = "/nope" }, "Unable to load server certificate \"/nope\". Check certfile.\nopen /nope: "},
		{func(m *Material) { m.CertFile = s.path("empty.pem") }, "Check certfile.\nno certificate in "},
		{func(m *Material) { m.CertFile = s.path("broken.pem") }, "Check certfile.\nx509: "},
		{func(m *Material) { m.KeyFile = "/nope" }, "Unable to load server key file \"/nope\". Check keyfile.\nopen /nope: "},
		{func(m *Material) { m.KeyFile = s.path("empty.pem") }, "Check keyfile.\n"},
		{func(m *Material) { m.KeyFile = s.path("good.key") }, "private key does not match"},
		{func(m *Material) { m.KeyFile = s.path("locked.key") }, "is encrypted, which is not supported"},
		{func(m *Material) { m.KeyFile = s.path("old-locked.key") }, "is encrypted, which is not supported"},
		{func(m *Material) { m.CAFile = "/nope" }, "Unable to load CA certificates. Check cafile \"/nope\".\nopen /nope: "},
		{func(m *Material) { m.CAFile = s.path("empty.pem") }, "no certificate in "},
		{func(m *Material) { m.CAPath = "/nope" }, "Unable to load CA certificates. Check capath \"/nope\".\nopen /nope: "},
		{func(m *Material) { m.CAPath = s.path("ca.pem") }, "Check capath \""},
		{func(m *Material) { m.CRLFile = "/nope" }, "Unable to load certificate revocation file \"/nope\". Check crlfile.\nopen /nope: "},
		{func(m *Material) { m.CRLFile = s.path("ca.pem") }, "Check crlfile.\nno list of revoked certificates in "},
		{func(m *Material) { m.RequireCertificate = true }, "require_certificate needs cafile or capath"},
		{func(m *Material) { m.TLSVersion = "tlsv1" }, "Unsupported tls_version \"tlsv1\"."},
		{func(m *Material) { m.TLSVersion = "TLSv1.2" }, "Unsupported tls_version \"TLSv1.2\"."},
		{func(m *Material) { m.Ciphers = "nonsense" }, "Unable to set TLS ciphers. Check cipher list \"nonsense\".\n"},
		{func(m *Material) { m.Ciphers = "DHE-RSA-AES128-GCM-SHA256:PSK" }, "Unable to set TLS ciphers."},
		{func(m *Material) { m.Ciphers = "HIGH:!ALL:HIGH" }, "Unable to set TLS ciphers."},
		{func(m *Material) { m.CiphersTLS13 = "nonsense" }, "Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list \"nonsense\".\n"},
		{func(m *Material) { m.CiphersTLS13 = "TLS_AES_256_GCM_SHA384" }, "cannot be chosen: leave ciphers_tls1.3 out"},
	} {
		m := s.material()
		tt.change(&m)
		if _, _, err := Load(m); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", m, err, tt.want)
		}
	}
}

func TestLoad(t *testing.T) {
	s := newShop(t)
	if err := os.Mkdir(s.path("cas"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("cas/ca.pem", s.read("ca.pem"))
	s.run("rehash", "cas")
	for _, tt := range []struct {
		change func(m *Material)
		lowest uint16
		auth   tls.ClientAuthType
		checks bool
	}{
		{func(*Material) {}, tls.VersionTLS12, tls.NoClientCert, false},
		{func(m *Material) { m.TLSVersion = "tlsv1.1" }, tls.VersionTLS11, tls.NoClientCert, false},
		{func(m *Material) { m.TLSVersion = "tlsv1.2" }, tls.VersionTLS12, tls.NoClientCert, false},
		{func(m *Material) { m.TLSVersion = "tlsv1.3" }, tls.VersionTLS13, tls.NoClientCert, false},
		{func(m *Material) { m.CAFile = s.path("ca.pem") }, tls.VersionTLS12, tls.NoClientCert, false},
		{func(m *Material) { m.CAFile, m.CRLFile = s.path("ca.pem"), s.path("crl.pem") }, tls.VersionTLS12, tls.NoClientCert, false},
		{func(m *Material) { m.CAFile, m.RequireCertificate = s.path("ca.pem"), true }, tls.VersionTLS12, tls.RequireAnyClientCert, true},
		{func(m *Material) { m.CAPath, m.RequireCertificate = s.path("cas"), true }, tls.VersionTLS12, tls.RequireAnyClientCert, true},
		{
			func(m *Material) {
				m.CAFile, m.CRLFile, m.RequireCertificate = s.path("ca.pem"), s.path("crl.pem"), true
			},
			tls.VersionTLS12, tls.RequireAnyClientCert, true,
		},
		{
			func(m *Material) { m.CAFile, m.NoDateChecks, m.RequireCertificate = s.path("ca.pem"), true, true },
			tls.VersionTLS12, tls.RequireAnyClientCert, true,
		},
		{func(m *Material) {
			m.CiphersTLS13 = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256"
		}, tls.VersionTLS12, tls.NoClientCert, false},
	} {
		m := s.material()
		tt.change(&m)
		c, _, err := Load(m)
		if err != nil {
			t.Errorf("%+v: %v", m, err)
			continue
		}
		if c.MinVersion != tt.lowest || c.ClientAuth != tt.auth || (c.VerifyConnection != nil) != tt.checks ||
			c.ClientCAs != nil || len(c.Certificates[0].Certificate) != 2 {
			t.Errorf("%+v: version %x, auth %s", m, c.MinVersion, c.ClientAuth)
		}
	}
}

// TestCiphers compares with what OpenSSL makes of a list, as far as Go has the suites. DEFAULT is Go's own.
func TestCiphers(t *testing.T) {
	names := map[uint16]string{}
	for _, s := range suites() {
		names[s.id] = s.name
	}
	for _, list := range []string{
		"ALL", "HIGH", "HIGH:!aNULL:!MD5", "HIGH:!aNULL:!kRSA:!PSK", "ECDHE", "EECDH+AESGCM", "ECDHE+AESGCM:ECDHE+CHACHA20",
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384", "AES256-SHA", "kRSA",
		"aRSA", "aECDSA", "ECDSA", "RSA", "AES", "AES128", "AES256", "AESGCM", "CHACHA20", "SHA1", "SHA", "SHA256", "SHA384",
		"TLSv1.2", "TLSv1.2+AES128", "ALL:-AES128", "ALL:-AES128:AES128+AESGCM", "ALL:!AES128:AES128", "ALL:+kRSA",
		"HIGH:@STRENGTH", "HIGH, ECDHE", "HIGH ECDHE", "nonsense:AES256-SHA", "ECDHE-ECDSA-AES128-SHA:!SHA1:AES128-SHA256",
		"kECDHE:!AESGCM", "ECDHE+aRSA", "AESGCM+kRSA",
	} {
		var got, want []string
		for _, id := range choose(list) {
			got = append(got, names[id])
		}
		for name := range strings.SplitSeq(strings.TrimSpace(openssl(t, ".", "ciphers", list+":@SECLEVEL=0")), ":") {
			for _, s := range suites() {
				if s.name == name {
					want = append(want, name)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nOpenSSL:\n%s", list, got, want)
		}
	}
	if got := choose("DEFAULT:!RC4:!aNULL"); len(got) != 10 {
		t.Errorf("DEFAULT are %d ciphers", len(got))
	}
	for _, s := range suites() {
		if got := tls.CipherSuiteName(s.id); strings.Contains(got, "0x") || !strings.Contains(fmt.Sprint(got), "WITH") {
			t.Errorf("%s is %s", s.name, got)
		}
	}
}
