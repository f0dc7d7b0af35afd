package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Configurations as they are found in the field are in testdata/golden, each with a script of what clients do
// and what came of it. Debian's Mosquitto wrote that, and both brokers are held against it.
//
// A script's lines, with DIR for the case's directory and PORT1 to PORT9 for ports:
//
//	certificates                 makes ca.pem, server.pem and .key, client.* (of alice), stranger.*
//	passwd FILE USER PASSWORD    adds a user
//	haproxy PORTx PORTy          forwards one port to the other, with a PROXY header for us
//	pub ARGS                     is mosquitto_pub
//	pub! ARGS                    the same, but only whether it failed counts
//	sub ARGS ; pub ARGS ; ...    is mosquitto_sub, and what is published once it has subscribed
//	ws PORT                      asks for a WebSocket
//	hup FILE                     puts a file in place of the configuration and sends SIGHUP
//	restart                      ends the broker and starts it again

var updateGolden = flag.Bool("update-golden", false, "write what Mosquitto answers in testdata/golden")

// trial is one case on one broker.
type trial struct {
	dir    string
	names  *strings.Replacer // of DIR and PORTn
	ours   bool
	conf   string
	p      *process
	output strings.Builder
}

func TestGolden(t *testing.T) {
	cases, err := os.ReadDir("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mosquitto_pub", "mosquitto_sub", "mosquitto_passwd", "stdbuf"} {
		program(t, name)
	}
	for _, c := range cases {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			from := filepath.Join("testdata/golden", c.Name())
			want := filepath.Join(from, "want")
			if *updateGolden {
				got := newTrial(t, from, false).run(t)
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, who := range []string{"mosquitto", "noctule"} {
				t.Run(who, func(t *testing.T) {
					if got := newTrial(t, from, who == "noctule").run(t); got != readFile(t, want) {
						t.Errorf("got\n%s\nwant\n%s", got, readFile(t, want))
					}
				})
			}
		})
	}
}

// newTrial copies a case and fills in names.
func newTrial(t *testing.T, from string, ours bool) *trial {
	t.Helper()
	dir := t.TempDir()
	names := []string{"DIR", dir}
	for i := range 9 {
		names = append(names, fmt.Sprint("PORT", i+1), fmt.Sprint(freePort(t)))
	}
	tr := &trial{dir: dir, names: strings.NewReplacer(names...), ours: ours, conf: filepath.Join(dir, "mosquitto.conf")}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dir, rel), 0o700)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := tr.names.Replace(string(raw))
		if rel == "script" {
			text = string(raw)
		}
		return os.WriteFile(filepath.Join(dir, rel), []byte(text), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if old := filepath.Join(dir, "mosquitto-2.0.conf"); !ours && isFile(old) {
		tr.conf = old
	}
	return tr
}

// run plays the script and returns what came of it.
func (tr *trial) run(t *testing.T) string {
	t.Helper()
	var steps []string
	for line := range strings.Lines(readFile(t, filepath.Join(tr.dir, "script"))) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		switch word {
		case "certificates":
			tr.certificates(t)
		case "passwd":
			f := strings.Fields(line)
			tr.passwd(t, f[1], f[2], f[3])
		default:
			steps = append(steps, line)
		}
	}
	tr.start(t)
	for _, s := range steps {
		fmt.Fprintf(&tr.output, "> %s\n", s)
		tr.step(t, s)
	}
	if code := tr.p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	return tr.output.String()
}

// start starts the broker.
func (tr *trial) start(t *testing.T) {
	t.Helper()
	tr.configure(t, tr.conf)
	tr.p = newBroker(t, "")
	tr.p.cmd.Args[2] = tr.conf
	if !tr.ours {
		tr.p.cmd.Path = program(t, "mosquitto")
	} else if code, out := outcome(t, "-c", tr.conf, "--test-config"); strings.Contains(out, "not supported yet") {
		t.Skipf("not supported yet, exit %d:\n%s", code, out)
	}
	tr.p.start(t)
}

// configure puts a file in place of the configuration, with what a test needs: all rights, and the log.
func (tr *trial) configure(t *testing.T, file string) {
	t.Helper()
	conf := readFile(t, file)
	for _, more := range []string{"user root\n", "log_dest stderr\n"} {
		if !strings.Contains(conf, "\n"+more) {
			conf += "\n" + more
		}
	}
	if err := os.WriteFile(tr.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (tr *trial) step(t *testing.T, line string) {
	t.Helper()
	parts := strings.Split(line, " ; ")
	f := strings.Fields(parts[0])
	switch f[0] {
	case "pub":
		tr.pub(t, f[1:], false)
	case "pub!":
		tr.pub(t, f[1:], true)
	case "sub":
		wait := tr.sub(t, f[1:])
		for _, p := range parts[1:] {
			tr.pub(t, strings.Fields(p)[1:], false)
		}
		tr.output.WriteString(wait())
	case "ws":
		fmt.Fprintf(&tr.output, "%d\n", upgrade(t, "127.0.0.1:"+tr.names.Replace(f[1]), ""))
	case "haproxy":
		tr.haproxy(t, tr.names.Replace(f[1]), tr.names.Replace(f[2]))
	case "hup":
		tr.configure(t, filepath.Join(tr.dir, f[1]))
		tr.hup(t)
	case "restart":
		if code := tr.p.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit %d", code)
		}
		tr.start(t)
	default:
		t.Fatalf("no step %s", line)
	}
}

// hup sends SIGHUP and waits until it has had its effect.
func (tr *trial) hup(t *testing.T) {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^\d+: Reloading config\.$`) // Mosquitto does nothing else meanwhile
	if tr.ours {
		pattern = regexp.MustCompile(`(?m)(Configuration reloaded\.|everything stays as it was\.)$`)
	}
	count := func() int { return len(pattern.FindAllString(tr.p.lines(), -1)) }
	n := count()
	if err := tr.p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reload", func() bool { return count() > n })
}

// arguments are those of a client; it connects to the loopback address unless told otherwise.
func (tr *trial) arguments(f []string) []string {
	args := strings.Fields(tr.names.Replace(strings.Join(f, " ")))
	for _, a := range args {
		if a == "-h" || a == "--unix" {
			return args
		}
	}
	return append(args, "-h", "127.0.0.1")
}

func (tr *trial) pub(t *testing.T, f []string, brief bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, "mosquitto_pub"), tr.arguments(f)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Fatal(err)
	case brief:
		fmt.Fprintf(&tr.output, "failed: %t\n", err != nil)
	default:
		fmt.Fprintf(&tr.output, "exit %d\n%s", cmd.ProcessState.ExitCode(), tr.clean(out))
	}
}

// sub starts mosquitto_sub and returns when it has subscribed, or ended; wait returns its output.
func (tr *trial) sub(t *testing.T, f []string) (wait func() string) {
	t.Helper()
	args := append([]string{"-oL", program(t, "mosquitto_sub"), "-d", "-W", "20"}, tr.arguments(f)...)
	cmd := exec.Command(program(t, "stdbuf"), args...)
	p := &process{news: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // the program ends by -W at the latest
		defer close(ended)
		_ = cmd.Wait()
	}()
	late := time.After(patience)
	for over := false; !over && !strings.Contains(p.lines(), "\nSubscribed ("); {
		select {
		case <-p.news:
		case <-ended:
			over = true
		case <-late:
			t.Fatalf("no SUBACK:\n%s", p.lines())
		}
	}
	return func() string {
		<-ended
		return tr.clean([]byte(p.lines()))
	}
}

// clean takes out of a client's output what says nothing of the broker.
func (tr *trial) clean(out []byte) string {
	var b strings.Builder
	for line := range bytes.Lines(out) {
		if !bytes.HasPrefix(line, []byte("Client ")) {
			b.Write(line)
		}
	}
	return strings.ReplaceAll(b.String(), tr.dir, "DIR")
}

// passwd adds a user as Debian's program does.
func (tr *trial) passwd(t *testing.T, file, user, password string) {
	t.Helper()
	file = filepath.Join(tr.dir, file)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	out, err := exec.Command(program(t, "mosquitto_passwd"), "-b", file, user, password).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// certificates makes an authority with the certificates of a server and a client, and those of a stranger.
func (tr *trial) certificates(t *testing.T) {
	t.Helper()
	ca, stranger := newAuthority(t, "CA"), newAuthority(t, "stranger")
	put := func(name, from string) {
		if err := os.WriteFile(filepath.Join(tr.dir, name), []byte(readFile(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("ca.pem", ca.file)
	for name, tmpl := range map[string]*x509.Certificate{
		"server": {DNSNames: []string{"localhost"}}, "client": {}, "stranger": {},
	} {
		a, cn := ca, name
		switch name {
		case "client":
			cn = "alice"
		case "stranger":
			a = stranger
		}
		_, cert, key := a.issue(t, cn, tmpl)
		put(name+".pem", cert)
		put(name+".key", key)
	}
}

// haproxy forwards connections.
func (tr *trial) haproxy(t *testing.T, from, to string) {
	t.Helper()
	header := ""
	if tr.ours {
		header = "send-proxy-v2"
	}
	conf := fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"+
		"listen l\n bind 127.0.0.1:%s\n server s 127.0.0.1:%s %s\n", from, to, header)
	file := filepath.Join(tr.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t, "haproxy"), "-db", "-f", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "HAProxy", func() bool { return dials("127.0.0.1:" + from) })
}

func dials(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
