package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// binary is the broker, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "noctule")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "noctule")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s", out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program finds a program that is not ours. Without it the test is skipped, but not in CI, where it must be
// installed.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if p := filepath.Join(dir, name); isFile(p) {
			return p
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func isFile(p string) bool {
	st, err := os.Stat(p)
	return err == nil && !st.IsDir()
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// freePort returns a port that nobody listens on, for a broker that cannot pick one itself. It is not one of
// those that connections take meanwhile.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10000 + mathrand.IntN(20000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// process is a running broker.
type process struct {
	cmd  *exec.Cmd
	news chan struct{} // something was logged
	mu   sync.Mutex
	log  bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Write(b)
	select {
	case p.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

// await waits until the log holds a line that matches, and returns what comes of it. Only the test's
// goroutine may call it.
func (p *process) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	late := time.After(patience)
	for {
		if m := re.FindString(p.lines()); m != "" {
			return m
		}
		select {
		case <-p.news:
		case <-late:
			t.Fatalf("no line like %s in\n%s", pattern, p.lines())
		}
	}
}

func (p *process) lines() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// startBroker runs the binary with a configuration, without dropping privileges, and waits until it is up.
func startBroker(t *testing.T, conf string, args ...string) *process {
	t.Helper()
	p := newBroker(t, conf+"\nuser root\n", args...)
	p.start(t)
	return p
}

// newBroker is a broker that is not started yet.
func newBroker(t *testing.T, conf string, args ...string) *process {
	t.Helper()
	p := &process{news: make(chan struct{}, 1)}
	p.cmd = exec.Command(binary, append([]string{"-c", confFile(t, conf)}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.launch(t, " running$")
}

// launch starts the broker and waits for a line.
func (p *process) launch(t *testing.T, line string) {
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.await(t, line)
}

// eventually waits for what another process does without telling.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s in vain", what)
		}
	}
}

// confFile writes a configuration.
func confFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// outcome runs the binary to its end and returns the exit code and all output.
func outcome(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// stop ends the broker with a signal and returns its exit code.
func (p *process) stop(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func runClient(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// subscriber is a mosquitto_sub that is subscribed.
func subscriber(t *testing.T, sub string, args ...string) (wait func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	// Its output is a pipe, which it would fill before it says anything.
	cmd := exec.CommandContext(ctx, program(t, "stdbuf"), append(append([]string{"-oL", sub}, args...), "-d")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 10000)
	go func() { // ends with the program
		defer close(lines)
		raw, buf := []byte(nil), make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			raw = append(raw, buf[:n]...)
			for {
				i := bytes.IndexByte(raw, '\n')
				if i < 0 {
					break
				}
				lines <- string(raw[:i])
				raw = raw[i+1:]
			}
			if err != nil {
				return
			}
		}
	}()
	for l := range lines {
		if strings.HasPrefix(l, "Subscribed") {
			break
		}
	}
	return func() string {
		defer cancel()
		var b strings.Builder
		for l := range lines {
			if !strings.HasPrefix(l, "Client ") && !strings.HasPrefix(l, "Subscribed") {
				b.WriteString(l + "\n")
			}
		}
		_ = cmd.Wait()
		return b.String()
	}
}

func TestMosquittoClients(t *testing.T) {
	pub, sub := program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	port := fmt.Sprint(freePort(t))
	p := startBroker(t, "listener "+port+" 127.0.0.1\nallow_anonymous true\nmax_packet_size 200000000")
	for _, v := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		for _, q := range []string{"0", "1", "2"} {
			wait := subscriber(t, sub, "-p", port, "-V", v, "-q", q, "-t", "a/+", "-C", "2", "-v")
			runClient(t, pub, "-p", port, "-V", v, "-q", q, "-t", "a/b", "-m", "hello")
			runClient(t, pub, "-p", port, "-V", v, "-q", q, "-t", "a/c", "-n")
			if got := wait(); got != "a/b hello\na/c (null)\n" {
				t.Errorf("%s QoS %s: %q", v, q, got)
			}
		}
	}
	runClient(t, pub, "-p", port, "-t", "r/x", "-r", "-m", "kept", "-q", "1")
	if got := runClient(t, sub, "-p", port, "-t", "r/#", "-C", "1", "-v"); got != "r/x kept\n" {
		t.Errorf("retained: %q", got)
	}
	wait := subscriber(t, sub, "-p", port, "-t", "$share/g/s/#", "-C", "1", "-V", "mqttv5")
	runClient(t, pub, "-p", port, "-t", "s/1", "-m", "shared")
	if got := wait(); got != "shared\n" {
		t.Errorf("shared: %q", got)
	}
	for _, size := range []int{1 << 20, 100 << 20} {
		file := filepath.Join(t.TempDir(), "payload")
		if err := os.WriteFile(file, bytes.Repeat([]byte{'x'}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		wait := subscriber(t, sub, "-p", port, "-t", "big", "-C", "1", "-F", "%l", "-q", "1")
		runClient(t, pub, "-p", port, "-t", "big", "-f", file, "-q", "1")
		if got := wait(); got != fmt.Sprintln(size) {
			t.Errorf("payload of %d bytes arrives as %q", size, got)
		}
	}
	if got := runClient(t, sub, "-p", port, "-t", "$SYS/broker/version", "-C", "1"); got != "mosquitto version 2.1.2\n" {
		t.Errorf("version %q", got)
	}
	want := regexp.MustCompile(`(?m)^\d+: New client connected from 127\.0\.0\.1:\d+ as \S+ \(p5, c1, k60\)\.$`)
	if !want.MatchString(p.lines()) {
		t.Errorf("no line like %s in\n%s", want, p.lines())
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 || !strings.Contains(p.lines(), "mosquitto version 2.1.2 terminating") {
		t.Errorf("SIGTERM: exit %d\n%s", code, p.lines())
	}
}

func TestMQTTjsOverEveryTransport(t *testing.T) {
	node := program(t, "node")
	if !isFile("testdata/node/node_modules/mqtt/package.json") {
		if os.Getenv("CI") == "true" {
			t.Fatal("MQTT.js is not installed")
		}
		t.Skip("MQTT.js is not installed: run npm ci in cmd/noctule/testdata/node")
	}
	cert, key := certificate(t)
	tcp, ws, tls, wss := freePort(t), freePort(t), freePort(t), freePort(t)
	secure := fmt.Sprintf("certfile %s\nkeyfile %s\n", cert, key)
	startBroker(t, fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\n"+
		"listener %d 127.0.0.1\n%slistener %d 127.0.0.1\nprotocol websockets\n%s", tcp, ws, tls, secure, wss, secure))
	for scheme, port := range map[string]int{"mqtt": tcp, "ws": ws, "mqtts": tls, "wss": wss} {
		for _, v := range []string{"3", "4", "5"} {
			if v == "3" && strings.HasPrefix(scheme, "ws") {
				continue // MQTT.js offers "mqttv3.1" only with its own option
			}
			t.Run(scheme+" "+v, func(t *testing.T) {
				got := runClient(t, node, "testdata/node/client.js", fmt.Sprintf("%s://127.0.0.1:%d", scheme, port), v)
				if got != "OK\n" {
					t.Error(got)
				}
			})
		}
	}
}

func TestMosquittoClientsOverTLSAndUnixSocket(t *testing.T) {
	pub, sub := program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	cert, key := certificate(t)
	port, socket := fmt.Sprint(freePort(t)), filepath.Join(t.TempDir(), "mqtt.sock")
	startBroker(t, fmt.Sprintf("allow_anonymous true\nlistener %s 127.0.0.1\ncertfile %s\nkeyfile %s\nlistener 0 %s",
		port, cert, key, socket))
	for name, args := range map[string][]string{
		"TLS":  {"-h", "localhost", "-p", port, "--cafile", cert},
		"unix": {"--unix", socket},
	} {
		wait := subscriber(t, sub, append(args, "-t", "x", "-C", "1", "-q", "2")...)
		runClient(t, pub, append(args, "-t", "x", "-m", name, "-q", "2")...)
		if got := wait(); got != name+"\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestMosquittoBridgesToUs(t *testing.T) {
	mosquitto, pub, sub := program(t, "mosquitto"), program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	ours, theirs := fmt.Sprint(freePort(t)), fmt.Sprint(freePort(t))
	startBroker(t, "listener "+ours+" 127.0.0.1\nallow_anonymous true")
	file := filepath.Join(t.TempDir(), "bridge.conf")
	conf := "listener " + theirs + " 127.0.0.1\nallow_anonymous true\nconnection b\naddress 127.0.0.1:" + ours +
		"\ntopic # both 2 l/ r/\nuser root\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(mosquitto, "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// The bridge announces itself with a retained 1.
	runClient(t, sub, "-p", ours, "-t", "$SYS/broker/connection/+/state", "-C", "1", "-W", "20")
	deadline := time.Now().Add(20 * time.Second)
	for {
		wait := subscriber(t, sub, "-p", theirs, "-t", "l/#", "-C", "1", "-v", "-W", "1")
		runClient(t, pub, "-p", ours, "-t", "r/x", "-m", "over", "-q", "1")
		got := wait()
		if strings.Contains(got, "l/x over") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing comes over the bridge: %q", got)
		}
	}
	// What the bridge brings does not go back, and retained messages stay retained.
	there := brokertest.Connect(t, "127.0.0.1:"+theirs, "there", codec.V311, nil)
	there.Subscribe("l/+/test", 0)
	here := brokertest.Connect(t, "127.0.0.1:"+ours, "here", codec.V311, nil)
	here.Subscribe("r/+/test", 0)
	there.Publish("l/once/test", "once", 0, 0)
	there.WantPublish("l/once/test", "once")
	here.WantPublish("r/once/test", "once")
	here.Send(&codec.Publish{Topic: []byte("r/kept/test"), Payload: []byte("kept"), Retain: true})
	there.WantPublish("l/kept/test", "kept")
	late := brokertest.Connect(t, "127.0.0.1:"+theirs, "late", codec.V311, nil)
	late.Subscribe("l/kept/test", 0)
	if p := late.WantPublish("l/kept/test", "kept"); !p.Retain {
		t.Error("a retained message is not retained behind the bridge")
	}
}

func TestMetricsEndpoint(t *testing.T) {
	port, http1 := freePort(t), freePort(t)
	startBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nadmin_listener 127.0.0.1:%d", port, http1))
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", http1))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "noctule_messages_dropped_total{reason=\"denied\"} 0") {
		t.Errorf("%v\n%s", err, body)
	}
	build := regexp.MustCompile(`(?m)^noctule_build_info\{commit="\S+",goversion="go1\.\S+",version="\d+\.\d+\.\d+"\} 1$`)
	if !build.MatchString(string(body)) {
		t.Errorf("no %v", build)
	}
}

func TestExitCodes(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	tests := []struct {
		name string
		args []string
		conf string
		code int
		text string
	}{
		{"help", []string{"-h"}, "", 0, "Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-v]"},
		{"version", []string{"--version"}, "", 0, "compatible with mosquitto 2.1.2"},
		{"unknown option", []string{"--nonsense"}, "", 3, "Unknown option"},
		{"test config", []string{"--test-config"}, "listener 1883\n", 0, "Configuration file is OK."},
		{"test without file", []string{"--test-config"}, "-", 3, "Please provide a configuration file to test."},
		{"unknown key", nil, "listener 1883\nnonsense 1\n", 3, "Error: Unknown configuration variable 'nonsense'."},
		{"place of an error", nil, "\n\nallow_anonymous yes\n", 3, "test.conf:3."},
		{"missing plugin", nil, "listener 1883\nplugin /lib/some.so\n", 13, "Error: Unable to load plugin \"/lib/some.so\"."},
		{"bridge", nil, "connection x\naddress y\ntopic #\n", 3, "Error: not supported yet: connection\n"},
		{"everything wrong", []string{"check", confFile(t, "\nnonsense 1\nlistener x\n")}, "-", 3, "test.conf:3: Error: 'listener port' value not a number.\n"},
		{"check", []string{"check", confFile(t, "listener 1883\nallow_anonymous true\n")}, "-", 0, "test.conf:1: Warning: listener 1883 lets everybody in"},
		{"not built yet", nil, "listener 1883\nenable_control_api true\n", 3, "not supported yet: enable_control_api true"},
		{"missing passwords", nil, "listener 1883\npassword_file /nope\n", 13, "Error: Unable to open password file \"/nope\"."},
		{"missing ACL", nil, "listener 1883\nacl_file /nope\n", 13, "Error: Unable to open acl_file \"/nope\"."},
		{"bad passwords", nil, "user root\nlistener 1883\npassword_file " + confFile(t, "# none\na:b\n"), 3, "test.conf:2."},
		{"bad ACL", nil, "user root\nlistener 1883\nacl_file " + confFile(t, "user a\n\nwrite x\n"), 3, "test.conf:3."},
		{"check passwords", []string{"check", confFile(t, "user root\nlistener 1883 ::1\npassword_file "+confFile(t, "a:b\n"))}, "-", 3, "test.conf:1: Error: "},
		{
			"check a certificate",
			[]string{"check", confFile(t, "listener 1883 ::1\ncertfile /dev/null\nkeyfile /dev/null\nallow_anonymous true")},
			"-", 3, "test.conf:2: Error: Unable to load server certificate",
		},
		{"port in use", nil, fmt.Sprintf("listener %d 127.0.0.1\n", busy.Addr().(*net.TCPAddr).Port), 1, "address already in use"},
		{"bad certificate", nil, "listener 0 /tmp/x\ncertfile /nope\nkeyfile /nope\n", 1, "Unable to load server certificate"},
		{"pid file", nil, "listener 1883\npid_file /nope/x\n", 14, "Unable to write pid file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.conf != "" && tt.conf != "-" {
				args = append(args, "-c", confFile(t, tt.conf))
			}
			code, out := outcome(t, args...)
			if code != tt.code || !strings.Contains(out, tt.text) {
				t.Errorf("exit %d, want %d with %s\n%s", code, tt.code, tt.text, out)
			}
			if own := len(args) > 0 && args[0] == "check"; strings.HasSuffix(out, " terminating\n") == own {
				t.Errorf("the last line is not about the end:\n%s", out)
			}
		})
	}
}
