package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sys/unix"
)

// asRoot skips a test that needs to be root.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// openDir is a directory that any user may use.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o711} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBrokenPipe takes the reader away from the broker's output.
func TestBrokenPipe(t *testing.T) {
	port := freePort(t)
	p := newBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\nlog_dest stdout", port))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	_ = w.Close()
	var text []byte
	for b := make([]byte, 1024); !bytes.Contains(text, []byte(" running\n")); {
		n, err := r.Read(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		text = append(text, b[:n]...)
	}
	_ = r.Close()
	for i := range 3 { // each logs lines
		client3(t, fmt.Sprintf("tcp://127.0.0.1:%d", port), fmt.Sprint("c", i), nil)
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestTwoBrokersOnOnePort(t *testing.T) {
	port := freePort(t)
	conf := fmt.Sprintf("listener %d 127.0.0.1\nuser root\n", port)
	startBroker(t, conf)
	if code, out := outcome(t, "-c", confFile(t, conf)); code != 1 || !strings.Contains(out, "address already in use") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestDaemon has the program go to the background: a session of its own, nothing on its streams, its name kept.
func TestDaemon(t *testing.T) {
	dir := openDir(t)
	link, pidFile, logFile := filepath.Join(dir, "mosquitto"), filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	file := confFile(t, fmt.Sprintf("listener %d 127.0.0.1\npid_file %s\nlog_dest file %s\nuser root",
		freePort(t), pidFile, logFile))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, link, "-d", "-c", file).CombinedOutput() // returns when both streams are closed
	if err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	contains := func(text string) func() bool {
		return func() bool {
			raw, _ := os.ReadFile(logFile)
			return strings.Contains(string(raw), text)
		}
	}
	eventually(t, "the start", contains(" running\n"))
	pid, err := strconv.Atoi(readFile(t, pidFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	proc := fmt.Sprintf("/proc/%d/", pid)
	if cmdline := readFile(t, proc+"cmdline"); cmdline != strings.Join([]string{link, "-d", "-c", file, ""}, "\x00") {
		t.Errorf("command line %q", cmdline)
	}
	if comm := readFile(t, proc+"comm"); comm != "mosquitto\n" {
		t.Errorf("name %q", comm)
	}
	stat := strings.Fields(readFile(t, proc+"stat"))
	if session := stat[5]; session != strconv.Itoa(pid) {
		t.Errorf("session %s, process %d", session, pid)
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("%sfd/%d", proc, fd)); err != nil || to != "/dev/null" {
			t.Errorf("stream %d is %s %v", fd, to, err)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end", contains(" terminating\n"))
	if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
		t.Errorf("the pid file stays: %v", err)
	}
}

// TestDaemonErrors has errors that must reach the terminal before the program leaves it.
func TestDaemonErrors(t *testing.T) {
	if code, out := outcome(t, "-d", "-c", confFile(t, "nonsense 1")); code != 3 || !strings.Contains(out, "nonsense") {
		t.Errorf("exit %d\n%s", code, out)
	}
	asRoot(t)
	code, out := outcome(t, "-d", "-c", confFile(t, "user nobody-knows-me"))
	if code != 3 || !strings.Contains(out, "nobody-knows-me") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// ids are the ids in a status file of /proc.
func statusIDs(t *testing.T, file, name string) []string {
	t.Helper()
	for line := range strings.Lines(readFile(t, file)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Fields(rest)
		}
	}
	t.Fatalf("no %s in %s", name, file)
	return nil
}

// expectUser checks all threads of a process.
func expectUser(t *testing.T, p *process, uid, gid string, groups []string) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	slices.Sort(groups)
	for _, f := range tasks {
		got := statusIDs(t, f, "Groups")
		slices.Sort(got)
		u, g := statusIDs(t, f, "Uid"), statusIDs(t, f, "Gid")
		if slices.ContainsFunc(u, func(v string) bool { return v != uid }) ||
			slices.ContainsFunc(g, func(v string) bool { return v != gid }) || !slices.Equal(got, groups) {
			t.Errorf("%s: user %v, want %s; group %v, want %s; groups %v, want %v", f, u, uid, g, gid, got, groups)
		}
	}
}

func TestPrivilegesAreDropped(t *testing.T) {
	asRoot(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	standard := nobody // of a machine without Mosquitto's user
	if u, err := user.Lookup("mosquitto"); err == nil {
		standard = u
	}
	groups := func(u *user.User) []string {
		g, err := u.GroupIds()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	tests := []struct {
		name, conf string
		env        []string
		uid, gid   string
		groups     []string
		line       string
	}{
		{"default", "", nil, standard.Uid, standard.Gid, groups(standard), standard.Username},
		{"user", "user nobody", nil, nobody.Uid, nobody.Gid, groups(nobody), "nobody"},
		{"last user", "user root\nuser nobody", nil, nobody.Uid, nobody.Gid, groups(nobody), "nobody"},
		{"root", "user root", nil, "0", "0", nil, ""},
		{"PUID and PGID", "user nobody-knows-me", []string{"PUID=12345", "PGID=12346"}, "12345", "12346", nil, "12345"},
		{"PUID", "user nobody", []string{"PUID=12345"}, "12345", nobody.Gid, groups(nobody), "nobody"},
		{"snap", "user nobody", []string{"SNAP_NAME=mosquitto"}, "0", "0", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := openDir(t)
			made := []string{filepath.Join(dir, "log"), filepath.Join(dir, "pid"), filepath.Join(dir, "sock")}
			p := newBroker(t, fmt.Sprintf("log_dest stderr\nlog_dest file %s\npid_file %s\nlistener 0 %s\n%s",
				made[0], made[1], made[2], tt.conf))
			p.cmd.Env = append(os.Environ(), tt.env...)
			if tt.gid == "0" {
				p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{}} // without our groups
			}
			p.start(t)
			expectUser(t, p, tt.uid, tt.gid, tt.groups)
			for _, f := range made {
				st, err := os.Stat(f)
				if err != nil || fmt.Sprint(st.Sys().(*syscall.Stat_t).Uid) != tt.uid {
					t.Errorf("%s: %v %+v", f, err, st.Sys())
				}
			}
			if asked := "Warning: Mosquitto should not be run as root/administrator."; (tt.uid == "0") !=
				strings.Contains(p.lines(), asked) {
				t.Errorf("user %s:\n%s", tt.uid, p.lines())
			}
			if tt.line == "" {
				if strings.Contains(p.lines(), "running mosquitto as user") {
					t.Error(p.lines())
				}
			} else {
				p.await(t, `^\d+: Info: running mosquitto as user: `+tt.line+`\.$`)
			}
			if strings.Contains(readFile(t, made[0]), "as user") {
				t.Error("the user is logged after the log was opened")
			}
			if code := p.stop(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit %d\n%s", code, p.lines())
			}
		})
	}
}

func TestPrivilegeErrors(t *testing.T) {
	asRoot(t)
	code, out := outcome(t, "-c", confFile(t, "user nobody-knows-me"))
	if want := "Error: Unable to drop privileges to 'nobody-knows-me' because this user does not exist."; code != 3 ||
		!strings.Contains(out, want) {
		t.Errorf("unknown user: exit %d\n%s", code, out)
	}
	for env, want := range map[string]string{
		"PUID=me": "Error: PUID not a valid ID 'me'\n", "PGID=-1": "Error: PGID not a valid ID '-1'\n",
		"UMASK_SET=nonsense": "Error: UMASK_SET environment variable not a valid octal number.\n",
		"UMASK_SET=1000":     "Error: UMASK_SET environment variable out of range.\n",
	} {
		name, value, _ := strings.Cut(env, "=")
		t.Run(env, func(t *testing.T) {
			t.Setenv(name, value)
			if code, out := outcome(t, "-c", confFile(t, "listener 0 /nope/x")); code != 3 || !strings.Contains(out, want) {
				t.Errorf("exit %d\n%s", code, out)
			}
		})
	}
	if lowest := readFile(t, "/proc/sys/net/ipv4/ip_unprivileged_port_start"); lowest != "1024\n" {
		t.Skipf("users may listen from port %s", lowest)
	}
	code, out = outcome(t, "-c", confFile(t, "user nobody\nlistener 7 127.0.0.1"))
	if code != 1 || !strings.Contains(out, "permission denied") {
		t.Errorf("privileged port: exit %d\n%s", code, out)
	}
}

func TestUmask(t *testing.T) {
	for mask, want := range map[string]os.FileMode{"077": 0o600, "000": 0o644, "": 0o644} {
		file := filepath.Join(t.TempDir(), "pid")
		p := newBroker(t, fmt.Sprintf("user root\npid_file %s\nlistener 0 %s.sock", file, file))
		p.cmd.Env = append(os.Environ(), "UMASK_SET="+mask)
		p.start(t)
		if st, err := os.Stat(file); err != nil || st.Mode().Perm() != want {
			t.Errorf("umask %s: %v %v", mask, st.Mode(), err)
		}
		if got, want := readFile(t, file), strconv.Itoa(p.cmd.Process.Pid); got != want {
			t.Errorf("pid file %q, want %q", got, want)
		}
	}
}

// TestKeyLog compares the broker's key log with the client's of the same connections.
func TestKeyLog(t *testing.T) {
	cert, key := certificate(t)
	dir, port := t.TempDir(), freePort(t)
	file := filepath.Join(dir, "keys")
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\ncertfile %s\nkeyfile %s", port, cert, key)
	p := startBroker(t, conf, "--tls-keylog", file)
	p.await(t, `^\d+: TLS keys are written to `+file+`: `)
	var ours bytes.Buffer
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(t, cert)))
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port),
			&tls.Config{RootCAs: roots, KeyLogWriter: &ours, MaxVersion: v})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := paho.NewClient(paho.ClientConfig{Conn: conn, ClientID: "secret"})
		if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: "secret", CleanStart: true}); err != nil {
			t.Fatal(err)
		}
	}
	lines := func(s string) []string {
		l := strings.Split(s, "\n")
		slices.Sort(l)
		return l
	}
	if theirs := readFile(t, file); ours.Len() == 0 || !slices.Equal(lines(theirs), lines(ours.String())) {
		t.Errorf("the broker's keys\n%s\nthe client's\n%s", theirs, ours.String())
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
	code, out := outcome(t, "-c", confFile(t, "user root\nlistener 0 "+dir+"/s"), "--tls-keylog", "/does/not/exist")
	if code != 1 || !strings.Contains(out, "Unable to open TLS key log: open /does/not/exist") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestFirstSignals sends signals to a broker that is still starting: it must not die, but end.
func TestFirstSignals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	for s, line := range map[syscall.Signal]string{
		syscall.SIGUSR1: "user defined signal 1: ", syscall.SIGTERM: "mosquitto version 2.1.2 terminating",
	} {
		p := newBroker(t, "user root\nlistener 0 "+path)
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.cmd.Process.Kill() })
		p.await(t, "Config loaded from")
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		p.await(t, line)
		if code := p.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("%s: exit %d", s, code)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: the socket stays: %v", s, err)
		}
	}
}

// option reads an option of the broker's end of a connection.
func option(t *testing.T, p *process, c net.Conn, level, name int) int {
	t.Helper()
	pidfd, err := unix.PidfdOpen(p.cmd.Process.Pid, 0)
	if err != nil {
		t.Skipf("pidfd_open: %v", err)
	}
	defer unix.Close(pidfd)
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			t.Skipf("pidfd_getfd: %v", err)
		}
		v, found := optionOf(fd, c.LocalAddr().(*net.TCPAddr).Port, level, name)
		_ = unix.Close(fd)
		if found {
			return v
		}
	}
	t.Fatal("the connection is not among the broker's files")
	return 0
}

// optionOf reads an option of a socket whose peer has a port.
func optionOf(fd, port, level, name int) (v int, found bool) {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return 0, false
	}
	if in, ok := peer.(*unix.SockaddrInet4); !ok || in.Port != port {
		return 0, false
	}
	v, err = unix.GetsockoptInt(fd, level, name)
	return v, err == nil
}

func TestSetTCPNoDelay(t *testing.T) {
	cert, key := certificate(t)
	for conf, want := range map[string]bool{"": true, "set_tcp_nodelay true": true, "set_tcp_nodelay false": false} {
		plain, secure := freePort(t), freePort(t)
		p := startBroker(t, fmt.Sprintf("%s\nallow_anonymous true\nlistener %d 127.0.0.1\n"+
			"listener %d 127.0.0.1\ncertfile %s\nkeyfile %s", conf, plain, secure, cert, key))
		for _, port := range []int{plain, secure} {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			if port == plain && !connects(c) ||
				port == secure && !connects(tls.Client(c, &tls.Config{InsecureSkipVerify: true})) {
				t.Fatal("no answer")
			}
			if got := option(t, p, c, unix.IPPROTO_TCP, unix.TCP_NODELAY) != 0; got != want {
				t.Errorf("%q: TCP_NODELAY %t, TLS %t", conf, got, port == secure)
			}
			_ = c.Close()
		}
	}
}

// microseconds is the time of CLOCK_MONOTONIC.
func microseconds(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano() / 1000
}

// TestSystemdIsTold reads what systemd would: ready, alive, reloading, stopping.
func TestSystemdIsTold(t *testing.T) {
	dir := t.TempDir()
	for _, address := range []string{filepath.Join(dir, "notify"), "@" + filepath.Join(dir, "abstract")} {
		systemd, err := net.ListenPacket("unixgram", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = systemd.Close() })
		if err := systemd.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		next := func() string {
			b := make([]byte, 100)
			n, _, err := systemd.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			return string(b[:n])
		}
		p := newBroker(t, "user root\nlistener 0 "+filepath.Join(dir, "sock"))
		p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address, "WATCHDOG_USEC=20000")
		p.start(t)
		for i, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
			if got := next(); got != want {
				t.Errorf("message %d is %s, want %s", i, got, want)
			}
		}
		news := func() string {
			for {
				if got := next(); got != "WATCHDOG=1" {
					return got
				}
			}
		}
		for range 2 {
			var begun int64
			before := microseconds(t)
			if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Sscanf(news(), "RELOADING=1\nMONOTONIC_USEC=%d", &begun); err != nil {
				t.Fatal(err)
			}
			if begun < before || begun > microseconds(t) {
				t.Errorf("the reload begins %d us after the signal", begun-before)
			}
			if got := news(); got != "READY=1" {
				t.Errorf("after the reload: %s", got)
			}
			if err := os.WriteFile(p.cmd.Args[2], []byte("nonsense"), 0o600); err != nil { // its reload ends as well
				t.Fatal(err)
			}
		}
		p.await(t, "the configuration was not reloaded")
		if code := p.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit %d", code)
		}
		if last := news(); last != "STOPPING=1" {
			t.Errorf("the last message is %s", last)
		}
	}
	p := newBroker(t, "user root\nlistener 0 "+filepath.Join(dir, "sock"))
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET=/does/not/exist", "WATCHDOG_USEC=nonsense")
	p.start(t)
	p.await(t, "Error: Unable to tell systemd: ")
}
