package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestSignalsThatReopenTheLog renames the file before each of them; nobody is disconnected.
func TestSignalsThatReopenTheLog(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	file := filepath.Join(dir, "x.log")
	p := startBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nlog_dest stderr\nlog_dest file %s",
		port, file))
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	client := client3(t, "tcp://"+addr, "witness", nil)
	lost := make(chan mqtt3.Message, 1)
	done(t, "SUBSCRIBE", client.Subscribe("x", 1, func(_ mqtt3.Client, m mqtt3.Message) { lost <- m }))
	for i, s := range []syscall.Signal{syscall.SIGHUP, 34, 35, 34} {
		old := fmt.Sprint(file, ".", i)
		if err := os.Rename(file, old); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a new log file after "+s.String(), func() bool { return isFile(file) })
		name := fmt.Sprint("after", i)
		brokertest.Connect(t, addr, name, codec.V311, nil)
		p.await(t, "as "+name+" ")
		eventually(t, "the line in the new file", func() bool { return strings.Contains(readFile(t, file), name) })
		if strings.Contains(readFile(t, old), name) {
			t.Errorf("%s: the old file is written to", s)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	done(t, "PUBLISH", client.Publish("x", 1, false, "still here"))
	receive(t, "message", lost)
	if code := p.stop(t, syscall.SIGINT); code != 0 {
		t.Errorf("SIGINT: exit %d", code)
	}
	if last := readFile(t, file); !strings.HasSuffix(last, " terminating\n") {
		t.Errorf("the last file is %s", last)
	}
}

// TestPidofFindsUs runs under another name, as scripts look for mosquitto.
func TestPidofFindsUs(t *testing.T) {
	pidof := program(t, "pidof")
	dir := openDir(t)
	link := filepath.Join(dir, "mosquitto-pidof")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	p := newBroker(t, "user root\nlistener 0 "+filepath.Join(dir, "sock"))
	p.cmd.Path, p.cmd.Args[0] = link, "mosquitto-pidof"
	p.start(t)
	out, err := exec.Command(pidof, "mosquitto-pidof").Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != fmt.Sprint(p.cmd.Process.Pid) {
		t.Errorf("%v %q, want %d", err, got, p.cmd.Process.Pid)
	}
}

func TestTreeOnSIGUSR2(t *testing.T) {
	port := freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p := newBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest none\nsys_interval 0", port))
	out := &process{news: make(chan struct{}, 1)}
	p.cmd.Stdout = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	eventually(t, "the listener", func() bool { return answers("tcp", addr) })
	a := brokertest.Connect(t, addr, "alice", codec.V311, nil)
	b := brokertest.Connect(t, addr, "bob", codec.V5, nil)
	for i, f := range []string{"a/b/c", "a/+/c", "a/#", "a/b", "$SYS/#", "/", "#"} {
		a.Subscribe(f, uint8(i%3))
	}
	b.Subscribe("a/b", 2)
	b.Subscribe("$share/g/a/b", 1)
	if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	want := `    $SYS
      $SYS
        # (alice, 1)
    $share
      $share
        g
          a
            b (bob, 1)
`
	out.await(t, `b \(bob, 1\)`)
	got := out.lines()
	for _, part := range []string{want, "      # (alice, 0)\n", "      a\n        # (alice, 2)\n", "          c (alice, 1)\n"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in\n%s", part, got)
		}
	}
	one, two := "        b (alice, 0) (bob, 2)\n          c (alice, 0)\n", "        b (bob, 2) (alice, 0)\n          c (alice, 0)\n"
	if !strings.Contains(got, one) && !strings.Contains(got, two) {
		t.Errorf("neither order of two subscribers is in\n%s", got)
	}
}

// TestLogThatNobodyReads fills the pipe that is the broker's stderr: clients must not notice, and the end must
// come.
func TestLogThatNobodyReads(t *testing.T) {
	port := freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p := newBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr", port), "-v")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.cmd.Stdout, p.cmd.Stderr = nil, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	_ = w.Close()
	eventually(t, "the listener", func() bool { return answers("tcp", addr) })
	c := brokertest.Connect(t, addr, "chatter", codec.V311, nil)
	for i := range 20000 { // each is a line; a pipe holds 64 KB
		c.Publish("some/topic", "x", 1, uint16(i+1))
		c.Want(codec.PUBACK, nil)
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
}
