package main

import (
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

// A start that lasts asks systemd for more time and is ended by SIGTERM. What makes it last here is a pipe that
// nobody writes to, under the name of Mosquitto's file.
func TestLongStart(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "mosquitto.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(dir, "notify")
	systemd, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	pid := filepath.Join(dir, "pid")
	p := newBroker(t, persistent(freePort(t), dir)+"user root\npid_file "+pid+"\n")
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address)
	p.launch(t, `Websockets support available\.`)
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
