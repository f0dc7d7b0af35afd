package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noctule/cmd/internal/conf"
)

// A start that lasts asks systemd for more time and is ended by SIGTERM. What makes it last here is a lease
// on Mosquitto's file: who opens that waits until it is given back. Meanwhile the process lives, and is not ready.
func TestLongStart(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "mosquitto.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(dir, "notify")
	systemd, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	pid := filepath.Join(dir, "pid")
	http1 := freePort(t)
	p := newBroker(t, persistent(freePort(t), dir)+fmt.Sprintf(
		"user root\npid_file %s\nadmin_listener 127.0.0.1:%d\n", pid, http1))
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address)
	p.launch(t, `Opening admin listen socket on 127`)
	for path, want := range map[string]string{
		"/healthz": "200 ok\n", "/readyz": "503 the broker is starting\n", "/metrics": "503 the broker is starting\n",
	} {
		code, text := answer(t, fmt.Sprintf("http://127.0.0.1:%d%s", http1, path))
		if got := fmt.Sprint(code, " ", text); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	if err := systemd.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 200)
	n, _, err := systemd.ReadFrom(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "EXTEND_TIMEOUT_USEC=60000000\n") {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil { // waits, and ends nothing
		t.Fatal(err)
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK || !strings.Contains(p.lines(), "Ended while") {
		t.Errorf("exit %d: %s", code, p.lines())
	}
	if _, err := os.Stat(pid); err == nil {
		t.Error("the pid file is still there")
	}
}

// A database that is removed or replaced under the broker is told of once, and when it is back.
func TestFileIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path)
	var log strings.Builder
	c := &command{stdout: &log, stderr: &log}
	c.openLog(conf.Log{}, flags{}, 0)
	w := c.newFileWatch(path)
	for _, step := range []struct {
		name  string
		do    func() error
		there bool
		times int64
		line  string
	}{
		{"nothing", func() error { return nil }, true, 0, ""},
		{"moved", func() error { return os.Rename(path, path+".away") }, false, 1, "has been removed or replaced"},
		{"replaced", func() error { write(path); return nil }, false, 1, ""},
		{"moved back", func() error { return os.Rename(path+".away", path) }, true, 1, "in its place again"},
		{"replaced at once", func() error { write(path + "2"); return os.Rename(path+"2", path) }, false, 2, "has been removed or replaced"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		there := w.look()
		if text := log.String(); there != step.there || w.times.Load() != step.times ||
			!strings.Contains(text, step.line) || step.line == "" && text != "" {
			t.Errorf("%s: %v, %d times: %q", step.name, there, w.times.Load(), text)
		}
	}
}

// A path that no address of a unix socket can hold has a socket for backups all the same.
func TestBackupOfLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := startBroker(t, persistent(freePort(t), dir))
	file := filepath.Join(dir, "noctule.db")
	info, err := os.Stat(file + ".sock")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if code, text := outcome(t, "db", "backup", file, filepath.Join(dir, "copy")); code != exitOK {
		t.Errorf("exit %d: %s", code, text)
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK || strings.Contains(p.lines(), "no backups") {
		t.Errorf("exit %d: %s", code, p.lines())
	}
	if _, err := os.Stat(file + ".sock"); err == nil {
		t.Error("the socket is still there")
	}
}
