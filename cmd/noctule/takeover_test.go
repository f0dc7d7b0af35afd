//go:build !windows

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// runOnce starts a broker, stops it and returns its log.
func runOnce(t *testing.T, conf string) string {
	t.Helper()
	p := startBroker(t, conf)
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
	return p.lines()
}

const notUsed = "What it holds is NOT used"

// Who goes back to Mosquitto for a while and comes again, or whose package upgrade has started it, has two states:
// ours is used, and the log says so at every start until one of the files is moved away.
func TestMosquittoHasWrittenSince(t *testing.T) {
	dir := t.TempDir()
	conf := persistent(freePort(t), dir)
	theirs := sample(t, "debian-2.0.11-v6.db", dir)
	runOnce(t, conf)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(theirs, later, later); err != nil { // a copy, not a change
		t.Fatal(err)
	}
	raw, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	empty := raw[:emptyState]
	for n, step := range []struct {
		name    string
		content []byte // nil: as it is
		warned  bool
	}{
		{"touched", nil, false},
		{"written again", raw, false},
		{"another", append(bytes.Clone(raw[:len(raw)-1]), raw[len(raw)-1]^1), true},
		{"another, again", nil, true},
		{"empty", empty, false}, // nothing in it can be lost
		{"text", []byte(strings.Repeat("text", 20)), false},
	} {
		if step.content != nil {
			if err := os.WriteFile(theirs, step.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(theirs, later, later.Add(time.Duration(n)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		text := runOnce(t, conf)
		if strings.Contains(text, notUsed) != step.warned || !strings.Contains(text, "Restored 3 sessions") {
			t.Errorf("%s: %s", step.name, text)
		}
	}
	sample(t, "debian-2.0.11-inflight-v6.db", dir)
	if err := os.Rename(own(theirs), own(theirs)+".old"); err != nil {
		t.Fatal(err)
	}
	if text := runOnce(t, conf); !strings.Contains(text, "Imported 3 sessions") || strings.Contains(text, notUsed) {
		t.Error(text)
	}
}

// A database that noctule has written under Mosquitto's name is moved; a second one is told of.
func TestOlderDatabaseIsMoved(t *testing.T) {
	dir := t.TempDir()
	conf := persistent(freePort(t), dir)
	theirs := sample(t, "debian-2.0.11-v6.db", dir)
	runOnce(t, conf)
	if err := os.Rename(own(theirs), theirs); err != nil {
		t.Fatal(err)
	}
	if text := runOnce(t, conf); !strings.Contains(text, "mosquitto.db was written by noctule and is ") ||
		!strings.Contains(text, "Restored 3 sessions") {
		t.Error(text)
	}
	if _, err := os.Stat(theirs); err == nil {
		t.Error("it is still there under Mosquitto's name")
	}
	raw, err := os.ReadFile(own(theirs))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := runOnce(t, conf); !strings.Contains(text, "is a database of noctule too") ||
		!strings.Contains(text, notUsed) {
		t.Error(text)
	}
}

// Debian's mosquitto, started where ours has run, by hand or by a package upgrade, leaves our file alone; and it
// reads what `noctule db export` has written in the place of its own.
func TestWayBack(t *testing.T) {
	mosquitto, sub := program(t, "mosquitto"), program(t, "mosquitto_sub")
	port, dir := freePort(t), t.TempDir()
	conf := persistent(port, dir)
	addr := fmt.Sprint("127.0.0.1:", port)
	theirs := filepath.Join(dir, "mosquitto.db")
	p := startBroker(t, conf)
	kept := func(p *codec.Connect) { p.CleanStart = false }
	c := brokertest.Connect(t, addr, "c", codec.V311, kept)
	c.Subscribe("q/+", 2)
	pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
	for i := range 4 {
		pub.Publish(fmt.Sprint("q/", i), fmt.Sprint("payload ", i), uint8(1+i%2), uint16(i+1))
		if i%2 == 0 {
			pub.Want(codec.PUBACK, nil)
			continue
		}
		pub.Want(codec.PUBREC, nil)
		pub.Ack(codec.PUBREL, uint16(i+1))
		pub.Want(codec.PUBCOMP, nil)
	}
	pub.Send(&codec.Publish{Topic: []byte("kept"), Payload: []byte("value"), QoS: 1, PacketID: 9, Retain: true})
	pub.Want(codec.PUBACK, nil)
	var m codec.Publish
	for range 4 {
		c.Want(codec.PUBLISH, &m)
	}
	c.Ack(codec.PUBREC, m.PacketID) // the last has reached it
	c.Want(codec.PUBREL, nil)
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
	ours, err := os.ReadFile(own(theirs))
	if err != nil {
		t.Fatal(err)
	}
	upgrade := startMosquitto(t, mosquitto, conf)
	brokertest.Connect(t, addr, "x", codec.V311, nil) // a signal before its loop runs would be forgotten
	if code := upgrade.stop(t, syscall.SIGTERM); code != 0 || !isFile(theirs) {
		t.Errorf("exit %d: %s", code, upgrade.lines())
	}
	if now, err := os.ReadFile(own(theirs)); err != nil || !bytes.Equal(now, ours) {
		t.Error("Mosquitto has changed our file")
	}
	if code, text := outcome(t, "db", "export", own(theirs), theirs); code != exitOK || text != "" {
		t.Errorf("exit %d: %s", code, text)
	}
	startMosquitto(t, mosquitto, conf)
	c = brokertest.Dial(t, addr, codec.V311)
	if ack := c.Connack("c", kept); !ack.SessionPresent {
		t.Fatal("no session")
	}
	got := map[string]bool{}
	for range 3 {
		var m codec.Publish
		c.Want(codec.PUBLISH, &m)
		got[string(m.Topic)+" "+string(m.Payload)] = true
	}
	c.Want(codec.PUBREL, nil)
	if !got["q/0 payload 0"] || !got["q/1 payload 1"] || !got["q/2 payload 2"] {
		t.Errorf("got %v", got)
	}
	out := runClient(t, sub, "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-W", "10", "-t", "kept", "-C", "1", "-F", "%p %r")
	if out != "value 1\n" {
		t.Errorf("retained: %q", out)
	}
}

// startMosquitto runs another broker with our configuration.
func startMosquitto(t *testing.T, path, conf string) *process {
	t.Helper()
	p := newBroker(t, conf+"\nuser root\n")
	p.cmd = exec.Command(path, p.cmd.Args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.start(t)
	return p
}

// A named pipe in the place of a file that is read at the start is an error that names it: it is not waited for.
func TestNamedPipeIsNotWaitedFor(t *testing.T) {
	for _, name := range []string{"mosquitto.db", "noctule.db", "noctule.db.redo", "presub.yaml", "tokens"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pipe := filepath.Join(dir, name)
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			conf := persistent(freePort(t), dir) + "user root\n"
			switch name {
			case "presub.yaml":
				conf += "presub_file " + pipe + "\n"
			case "tokens":
				conf += fmt.Sprintf("admin_listener %d 127.0.0.1\nadmin_token_file %s\n", freePort(t), pipe)
			}
			file := filepath.Join(t.TempDir(), "c.conf")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			code, text := outcome(t, "-c", file)
			if code != exitConfig || !strings.Contains(text, pipe+": not a regular file") {
				t.Errorf("exit %d: %s", code, text)
			}
		})
	}
	pipe, out := filepath.Join(t.TempDir(), "pipe"), filepath.Join(t.TempDir(), "out.db")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", pipe},
		{"stats", pipe},
		{"dump", pipe},
		{"export", pipe},
		{"import", out, pipe},
		{"compact", pipe},
		{"backup", pipe, out},
	} {
		code, text := outcome(t, append([]string{"db"}, args...)...)
		if code == exitOK || code < 0 || !strings.Contains(text, pipe+": not a regular file") {
			t.Errorf("db %s: exit %d: %s", args[0], code, text)
		}
	}
}
