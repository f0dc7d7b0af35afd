package broker_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/broker/listener"
	"noctule/codec"
	"noctule/internal/testcert"
)

// program finds one of Mosquitto's programs, as the tests of the command do.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && !st.IsDir() {
			return p
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// client runs mosquitto_pub or mosquitto_sub against the fixture's broker.
func (x *fixture) client(name string, args ...string) (code int, out string) {
	x.t.Helper()
	host, port, err := net.SplitHostPort(x.socket())
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	b, err := exec.CommandContext(ctx, name, append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput()
	if ctx.Err() != nil {
		x.t.Fatalf("%s %q does not end: %v\n%s", name, args, err, b)
	}
	if err == nil {
		return 0, string(b)
	}
	return 1, string(b)
}

// TestMosquittoClientsAreChecked logs in with Mosquitto's own clients.
func TestMosquittoClientsAreChecked(t *testing.T) {
	pub, sub := program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		brokertest.Loopback(&l.Net)
		o.Loops, o.ClientIDPrefixes = 2, "dev-"
		l.MountPoint, l.AcceptVersions = "m/", listener.VersionsOf(codec.V311, codec.V5)
		l.Policy = &auth.Policy{
			AllowAnonymous: true, Authenticators: []auth.Authenticator{passwordsOf(t, "u secret")},
			Authorizers: []auth.Authorizer{aclOf(t, "user u", "topic write m/#", "topic read m/open/#", "pattern read m/mine/%c")},
		}
	})
	for _, c := range []struct {
		refusal string // part of what the client says; empty: it gets in
		args    []string
	}{
		{"", []string{"-i", "dev-1", "-u", "u", "-P", "secret"}},
		{"", []string{"-i", "dev-1", "-u", "u", "-P", "secret", "-V", "mqttv5"}},
		{"not authorised", []string{"-i", "dev-1", "-u", "u", "-P", "wrong"}},
		{"Not authorized", []string{"-i", "dev-1", "-u", "u", "-P", "wrong", "-V", "mqttv5"}},
		{"not authorised", []string{"-i", "dev-1", "-u", "v", "-P", "secret"}},
		{"not authorised", []string{"-i", "other", "-u", "u", "-P", "secret"}},
		{"unacceptable protocol version", []string{"-i", "dev-1", "-u", "u", "-P", "secret", "-V", "mqttv31"}},
		{"", []string{"-i", "dev-anonymous"}},
	} {
		code, out := x.client(pub, append([]string{"-t", "x", "-m", "m", "-q", "1"}, c.args...)...)
		if (code == 0) != (c.refusal == "") || !strings.Contains(out, c.refusal) {
			t.Errorf("%q: exit %d, %q", c.args, code, out)
		}
	}
	login := []string{"-u", "u", "-P", "secret", "-q", "1"}
	for topic, payload := range map[string]string{"open/1": "yes", "closed": "no", "mine/dev-s": "mine", "mine/dev-t": "no"} {
		if code, out := x.client(pub, append([]string{"-r", "-t", topic, "-m", payload, "-i", "dev-p"}, login...)...); code != 0 {
			t.Fatalf("%s", out)
		}
	}
	_, out := x.client(sub, append([]string{"-v", "-t", "#", "-C", "2", "-i", "dev-s"}, login...)...)
	got := strings.Fields(out)
	slices.Sort(got)
	if fmt.Sprint(got) != "[mine mine/dev-s open/1 yes]" {
		t.Errorf("%q", out)
	}
	_, out = x.client(pub, append([]string{"-t", "$SYS/broker/connection/b/state", "-m", "1", "-V", "mqttv5", "-i", "dev-p"},
		login[:4]...)...)
	if out != "" { // below the mount point it is a topic like others
		t.Errorf("%q", out)
	}
}

// TestMosquittoClientsWithCertificates has the common name of a certificate stand for username and client id.
func TestMosquittoClientsWithCertificates(t *testing.T) {
	pub, sub := program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	ca := testcert.NewAuthority(t, "CA")
	pool := ca.Pool()
	server := ca.Issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Loops = 2
		l.UseIdentityAsUsername, l.UseUsernameAsClientID = true, true
		l.Policy = &auth.Policy{
			Authenticators: []auth.Authenticator{passwordsOf(t, "u secret")},
			Authorizers:    []auth.Authorizer{aclOf(t, "pattern readwrite %c/%u")},
		}
		l.Net.TLS = &tls.Config{
			Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
		}
	})
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	client := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "bat"}})
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	trust := []string{"--cafile", write("ca", "CERTIFICATE", ca.Cert.Raw)}
	mine := append(slices.Clone(trust), "--cert", write("cert", "CERTIFICATE", client.Certificate[0]),
		"--key", write("key", "PRIVATE KEY", key))
	if code, out := x.client(pub, append([]string{"-r", "-q", "1", "-t", "bat/bat", "-m", "hello"}, mine...)...); code != 0 {
		t.Errorf("%s", out)
	}
	if _, out := x.client(sub, append([]string{"-t", "#", "-C", "1"}, mine...)...); out != "hello\n" {
		t.Errorf("%q", out)
	}
	code, out := x.client(pub, append([]string{"-t", "x", "-m", "m", "-u", "u", "-P", "secret"}, trust...)...)
	if code == 0 || !strings.Contains(out, "bad user name or password") {
		t.Errorf("without a certificate: exit %d, %q", code, out)
	}
}

// startMosquitto runs Debian's broker with a configuration until the test ends.
func startMosquitto(t *testing.T, conf string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t, "mosquitto"), "-c", file)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), " running") {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the program
			return
		}
	}
	t.Fatal("mosquitto does not start")
}

// randomACL is a file that leaves "admin" free to read and write everything.
func randomACL(r *rand.Rand) string {
	levels := []string{"a", "b", "+", "%c", "%u", "$s"}
	filter := func() string {
		f := make([]string, 1+r.IntN(3))
		for i := range f {
			f[i] = levels[r.IntN(len(levels))]
		}
		if r.IntN(4) == 0 {
			f = append(f, "#")
		}
		return strings.Join(f, "/")
	}
	var b strings.Builder
	for range 2 + r.IntN(12) {
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "user %s\n", []string{"u", "v"}[r.IntN(2)])
		case 1:
			fmt.Fprintf(&b, "pattern %s %s\n", []string{"read", "write", "readwrite"}[r.IntN(3)], filter())
		default: // in topic lines %c and %u are only text
			fmt.Fprintf(&b, "topic %s %s\n", []string{"read", "write", "readwrite", "deny"}[r.IntN(4)], filter())
		}
	}
	return b.String() + "user admin\ntopic readwrite #\ntopic readwrite $s/#\n"
}

// TestACLAsMosquitto gives random files to Debian's broker and to ours: each client may read and write the
// same topics.
func TestACLAsMosquitto(t *testing.T) {
	program(t, "mosquitto")
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	for range 12 {
		text := randomACL(r)
		dir := t.TempDir()
		file := filepath.Join(dir, "acl")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		acl, err := auth.LoadACL(file)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		_, port, _ := net.SplitHostPort(addr)
		startMosquitto(t, "listener "+port+" 127.0.0.1\nuser root\nallow_anonymous true\nacl_file "+file+"\n")
		x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
			o.Loops = 1
			l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{acl}}
		})
		want, got := rightsSeen(t, addr), rightsSeen(t, x.addr)
		if want != got {
			t.Fatalf("seed %d\n%s\nours\n%s\nMosquitto's\n%s", seed, text, got, want)
		}
	}
}

// rightsSeen is what some clients can read and write at a broker.
func rightsSeen[A brokertest.Address](t *testing.T, addr A) string {
	t.Helper()
	var topics []string
	for _, a := range []string{"a", "b", "c1", "u", "$s", "%c"} {
		topics = append(topics, a)
		for _, b := range []string{"a", "u", "c1", "x"} {
			topics = append(topics, a+"/"+b, a+"/"+b+"/b")
		}
	}
	admin := brokertest.Connect(t, addr, "admin", codec.V311, as("admin"))
	admin.Subscribe("#", 0)
	admin.Subscribe("$s/#", 0)
	var out strings.Builder
	for _, who := range []struct {
		id     string
		change connectFunc
	}{{"c1", nil}, {"a", as("u")}, {"a/b", as("u")}, {"b", as("v")}, {"c2", as("stranger")}} {
		c := brokertest.Connect(t, addr, who.id, codec.V311, who.change)
		c.Subscribe("#", 0)
		c.Subscribe("$s/#", 0)
		for _, topic := range topics {
			admin.Publish(topic, "read", 0, 0)
		}
		admin.Publish("$s/end", "end", 0, 0)
		_ = until(t, admin, "end") // its own, that it reads as well
		fmt.Fprintf(&out, "%s reads %s\n", who.id, answered(t, c))
		for _, topic := range topics {
			c.Publish(topic, "write", 0, 0)
		}
		_ = answered(t, c)
		c.Disconnect()
		admin.Publish("$s/end", "end", 0, 0)
		fmt.Fprintf(&out, "%s writes %s\n", who.id, until(t, admin, "end"))
	}
	return out.String()
}

// until reads messages up to one with a payload and returns the topics.
func until(t *testing.T, c *brokertest.Client, payload string) (topics []string) {
	t.Helper()
	for {
		var p codec.Publish
		c.Want(codec.PUBLISH, &p)
		if string(p.Payload) == payload {
			return topics
		}
		topics = append(topics, string(p.Topic))
	}
}

// answered reads what came before the answer to a ping, and returns the topics.
func answered(t *testing.T, c *brokertest.Client) (topics []string) {
	t.Helper()
	c.Raw(codec.AppendPingreq(nil))
	for {
		h, body, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Type == codec.PINGRESP {
			return topics
		}
		var p codec.Publish
		if err := p.Parse(h.Flags, body, c.Version); err != nil {
			t.Fatal(err)
		}
		topics = append(topics, string(p.Topic))
	}
}
