package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// site is a directory with configuration files, and the broker that reads them.
type site struct {
	dir string
	p   *process
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{dir: t.TempDir()}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// copy replaces one file by another.
func (s *site) copy(t *testing.T, from, to string) {
	t.Helper()
	s.write(t, to, readFile(t, from))
}

// passwords writes a password file of "user password" pairs.
func (s *site) passwords(t *testing.T, name string, pairs ...string) {
	t.Helper()
	s.write(t, name, "")
	for _, p := range pairs {
		user, password, _ := strings.Cut(p, " ")
		if code, out := outcome(t, "passwd", "-I", "1000", "-b", s.path(name), user, password); code != 0 {
			t.Fatalf("%s", out)
		}
	}
}

// conf writes the main file; DIR stands for the directory.
func (s *site) conf(t *testing.T, text string) {
	t.Helper()
	s.write(t, "x.conf", strings.ReplaceAll(text, "DIR", s.dir)+"\nuser root\n")
}

func (s *site) start(t *testing.T) {
	t.Helper()
	s.p = newBroker(t, "")
	s.p.cmd.Args[2] = s.path("x.conf")
	s.p.start(t)
}

// results are the ends of reloads.
func (s *site) results() []string {
	re := regexp.MustCompile(`(?m)^\d+: (Configuration reloaded\.|Warning: the configuration was not reloaded.*)$`)
	return re.FindAllString(s.p.lines(), -1)
}

// hup has the broker read its files again; it returns what was logged meanwhile and whether it went well.
func (s *site) hup(t *testing.T) (log string, ok bool) {
	t.Helper()
	before, n := len(s.p.lines()), len(s.results())
	if err := s.p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the reload", func() bool { return len(s.results()) > n })
	return s.p.lines()[before:], strings.HasSuffix(s.results()[n], " reloaded.") && !strings.Contains(s.results()[n], "not")
}

func withLogin(user, password string) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.HasUsername, c.HasPassword, c.Username, c.Password = true, true, []byte(user), []byte(password)
	}
}

// TestReload changes everything once: who stays, who goes, what they may do then.
func TestReload(t *testing.T) {
	s, port := newSite(t), freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s.passwords(t, "passwords", "alice a", "bob b", "carol c")
	s.write(t, "acl", "topic #\nuser alice\ntopic #\n")
	base := fmt.Sprintf("listener %d 127.0.0.1\npassword_file DIR/passwords\nacl_file DIR/acl\nlog_dest stderr\n", port)
	s.conf(t, base+"allow_anonymous true\nmax_qos 2")
	s.start(t)
	clients := map[string]*brokertest.Client{"anonymous": brokertest.Connect(t, addr, "anonymous", codec.V5, nil)}
	for _, user := range []string{"alice", "bob", "carol"} {
		clients[user] = brokertest.Connect(t, addr, user, codec.V5, withLogin(user, user[:1]))
	}
	alice := clients["alice"]
	alice.Subscribe("old/#", 0)
	alice.Subscribe("new", 0)

	same, _, _ := strings.Cut(readFile(t, s.path("passwords")), "\n") // with its salt
	s.passwords(t, "passwords", "bob changed")
	s.write(t, "passwords", readFile(t, s.path("passwords"))+same+"\n")
	s.write(t, "acl", "user alice\ntopic new\n")
	s.conf(t, base+"allow_anonymous false\nmax_qos 1\nmax_packet_size 1000\nlog_type all\nlog_dest file DIR/new.log\n")
	log, ok := s.hup(t)
	if !ok {
		t.Fatal(log)
	}
	for _, id := range []string{"anonymous", "bob", "carol"} {
		wantDisconnect(t, clients[id], codec.NotAuthorized)
		s.p.await(t, `^\d+: Client `+id+` \[127\.0\.0\.1:\d+\] disconnected: not authorised\.$`)
	}
	if !strings.Contains(log, "Reloading config.") || !strings.Contains(log, "The new value of max_packet_size takes effect after a restart.") {
		t.Errorf("the log is\n%s", log)
	}
	alice.Publish("old/x", "m", 0, 0)
	s.p.await(t, `^\d+: Denied PUBLISH from alice `)
	eventually(t, "the new log file", func() bool { return strings.Contains(readFile(t, s.path("new.log")), "Denied PUBLISH") })
	alice.Publish("new", "m", 0, 0)
	alice.WantPublish("new", "m")
	if r := alice.Subscribe("more", 2); r != 1 {
		t.Errorf("granted %s, want the new Maximum QoS", r)
	}
	alice.Publish("new", strings.Repeat("x", 2000), 0, 0) // the old limit holds
	alice.Want(codec.PUBLISH, nil)
	for login, want := range map[string]codec.Reason{"alice a": 0, "bob b": 0x87, "bob changed": 0, "carol c": 0x87} {
		user, password, _ := strings.Cut(login, " ")
		if _, ack := greeted(t, addr, "again"+user+password, codec.V5, withLogin(user, password)); ack.Reason != want {
			t.Errorf("%s is answered %s", login, ack.Reason)
		}
	}
}

// TestReloadOfBadFiles breaks one file after another: each is named with its line, nobody and nothing changes.
func TestReloadOfBadFiles(t *testing.T) {
	s, port := newSite(t), freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	_, cert, key := newAuthority(t, "CA").issue(t, "localhost", &x509.Certificate{})
	s.copy(t, cert, "cert")
	s.copy(t, key, "key")
	s.passwords(t, "passwords", "alice a")
	s.write(t, "acl", "user alice\ntopic old\n")
	good := fmt.Sprintf("listener %d 127.0.0.1\npassword_file DIR/passwords\nacl_file DIR/acl\nmax_qos 2\n"+
		"listener 0 DIR/tls.sock\ncertfile DIR/cert\nkeyfile DIR/key\n", port)
	s.conf(t, good)
	s.start(t)
	alice := brokertest.Connect(t, addr, "alice", codec.V5, withLogin("alice", "a"))
	alice.Subscribe("#", 0)
	changed := strings.Replace(good, "max_qos 2", "max_qos 0\nallow_anonymous true", 1)
	for _, tt := range []struct {
		name, file, text, want string
	}{
		{"unknown directive", "x.conf", changed + "nonsense 1\n", "Unknown configuration variable 'nonsense'.\nError found at x.conf:9."},
		{"a listener more", "x.conf", changed + "listener 0 DIR/more.sock\n", "It is not currently possible to add/remove listeners"},
		{"a listener less", "x.conf", "listener 1\n", "It is not currently possible to add/remove listeners"},
		{"no ACL file", "x.conf", strings.ReplaceAll(changed, "DIR/acl", "DIR/none"), "Unable to open acl_file \"none\""},
		{"bad ACL", "acl", "user alice\ntopic #\ntopic sing x\n", "Error found at acl:3."},
		{"bad passwords", "passwords", "# none\nalice:a\n", "Error found at passwords:2."},
		{"bad certificate", "cert", "none", "Unable to load server certificate \"cert\""},
		{"bad key", "key", "none", "Unable to load server key file \"key\""},
		{"bad TLS version", "x.conf", changed + "tls_version tlsv9\n", "Unsupported tls_version \"tlsv9\"."},
	} {
		old, before := readFile(t, s.path(tt.file)), len(s.p.lines())
		s.write(t, tt.file, strings.ReplaceAll(tt.text, "DIR", s.dir)+"\nuser root\n")
		if tt.file != "x.conf" {
			s.write(t, tt.file, tt.text)
			s.conf(t, changed)
		}
		_, ok := s.hup(t)
		log := regexp.MustCompile(`(?m)^\d+: `).ReplaceAllString(s.p.lines()[before:], "")
		if log = strings.ReplaceAll(log, s.dir+"/", ""); ok || !strings.Contains(log, tt.want) {
			t.Errorf("%s: %t, want %s in\n%s", tt.name, ok, tt.want, log)
		}
		s.write(t, tt.file, old)
		s.conf(t, good)
		alice.Publish("new", "", 0, 0) // the ACL is the old one
		alice.Publish("old", tt.name, 0, 0)
		alice.WantPublish("old", tt.name)
		if r := alice.Subscribe("x", 2); r != 2 {
			t.Errorf("%s: granted %s", tt.name, r)
		}
		if _, ack := greeted(t, addr, "nobody", codec.V5, nil); ack.Reason != codec.NotAuthorized {
			t.Errorf("%s: anonymous clients are answered %s", tt.name, ack.Reason)
		}
	}
	if log, ok := s.hup(t); !ok {
		t.Error(log)
	}
}

// TestReloadOfCertificates: new connections see the new certificate and the new authority, old ones live on.
func TestReloadOfCertificates(t *testing.T) {
	s, port := newSite(t), freePort(t)
	addr := fmt.Sprintf("localhost:%d", port)
	install := func(ca *authority) {
		_, cert, key := ca.issue(t, "localhost", &x509.Certificate{DNSNames: []string{"localhost"}})
		s.copy(t, cert, "cert")
		s.copy(t, key, "key")
		s.copy(t, ca.file, "ca")
	}
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	install(first)
	s.conf(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\ncertfile DIR/cert\nkeyfile DIR/key\ncafile DIR/ca\n"+
		"require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true", port))
	s.start(t)
	dial := func(server, client *authority, name string) (*tls.Conn, bool) {
		pair, _, _ := client.issue(t, name, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		roots := x509.NewCertPool()
		roots.AddCert(server.Cert)
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
		if err != nil {
			return nil, false
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, connects(c)
	}
	old, ok := dial(first, first, "witness")
	if !ok {
		t.Fatal("the first certificate does not work")
	}
	install(second)
	if log, ok := s.hup(t); !ok {
		t.Fatal(log)
	}
	if _, ok := dial(first, first, "a"); ok {
		t.Error("the old certificate is still shown")
	}
	if _, ok := dial(second, first, "b"); ok {
		t.Error("the old authority is still trusted")
	}
	if _, ok := dial(second, second, "c"); !ok {
		t.Error("the new certificate does not work")
	}
	if _, err := old.Write(codec.AppendPingreq(nil)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := old.Read(b); err != nil || b[0] != 0xD0 {
		t.Errorf("the old connection: %x %v", b, err)
	}
}

// TestReloadOfRevocations: a client whose certificate has been revoked is disconnected.
func TestReloadOfRevocations(t *testing.T) {
	s, port := newSite(t), freePort(t)
	ca := newAuthority(t, "ca")
	_, cert, key := ca.issue(t, "localhost", &x509.Certificate{DNSNames: []string{"localhost"}})
	revoke := func(certs ...tls.Certificate) {
		list := &x509.RevocationList{Number: big.NewInt(1), NextUpdate: time.Now().Add(time.Hour)}
		for _, c := range certs {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, "crl", string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
	}
	revoke()
	s.conf(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\ncertfile %s\nkeyfile %s\ncafile %s\n"+
		"crlfile DIR/crl\nrequire_certificate true\n", port, cert, key, ca.file))
	s.start(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	clients, pairs := map[string]*brokertest.Client{}, map[string]tls.Certificate{}
	for _, name := range []string{"good", "bad"} {
		pairs[name], _, _ = ca.issue(t, name, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		c := brokertest.Dial(t, fmt.Sprintf("127.0.0.1:%d", port), codec.V5)
		c.Conn = tls.Client(c.Conn, &tls.Config{
			RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pairs[name]},
		})
		if ack := c.Connack(name, nil); ack.Reason != codec.Success {
			t.Fatal(name, ack.Reason)
		}
		clients[name] = c
	}
	revoke(pairs["bad"])
	if log, ok := s.hup(t); !ok {
		t.Fatal(log)
	}
	s.p.await(t, `Client bad \[.*\] disconnected: not authorised\.$`)
	var d codec.Disconnect
	if clients["bad"].Want(codec.DISCONNECT, &d); d.Reason != codec.NotAuthorized {
		t.Errorf("DISCONNECT %s", d.Reason)
	}
	clients["bad"].WantClosed()
	clients["good"].WantNothing()
}

// TestReloadOfHTTPAPI changes who may use the API.
func TestReloadOfHTTPAPI(t *testing.T) {
	s, port := newSite(t), freePort(t)
	s.passwords(t, "passwords", "alice a")
	conf := fmt.Sprintf("listener %d 127.0.0.1\nprotocol http_api\n", port)
	s.conf(t, conf+"allow_anonymous true")
	s.start(t)
	status := func(user string) int {
		url := fmt.Sprintf("http://127.0.0.1:%d/api/v1/version", port)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, user[:1])
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	if a, b := status(""), status("alice"); a != 200 || b != 200 {
		t.Errorf("%d %d", a, b)
	}
	s.conf(t, conf+"password_file DIR/passwords")
	if log, ok := s.hup(t); !ok {
		t.Fatal(log)
	}
	if a, b, c := status(""), status("alice"), status("bob"); a != 401 || b != 200 || c != 401 {
		t.Errorf("%d %d %d", a, b, c)
	}
	_, body := fetch(t, fmt.Sprintf("http://alice:a@127.0.0.1:%d/api/v1/listeners", port))
	if !strings.Contains(body, `"allow_anonymous": false`) {
		t.Errorf("the old settings are shown: %s", body)
	}
}
