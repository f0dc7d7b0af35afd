package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// readOnly is a broker whose directory may not be written when it starts; writable ends that.
func readOnly(t *testing.T, conf, dir string) (p *process, writable func()) {
	t.Helper()
	nsenter := program(t, "nsenter")
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skip("needs unshare -m: ", err)
	}
	p = newBroker(t, conf+"user root\n")
	script := `mount --bind "$DIR" "$DIR" && mount -o remount,bind,ro "$DIR" && exec "$@"`
	p.cmd = exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh"}, p.cmd.Args...)...)
	p.cmd.Env = append(os.Environ(), "DIR="+dir)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.start(t)
	return p, func() {
		t.Helper()
		cmd := exec.Command(nsenter, "-t", fmt.Sprint(p.cmd.Process.Pid), "-m", "mount", "-o", "remount,bind,rw", dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// A start on a file system that may not be written, as one that the kernel has made so after an error, serves what
// needs no disk and the sessions that are there, acknowledges nothing that it cannot keep, and writes when it may.
func TestReadOnlyFileSystemAtTheStart(t *testing.T) {
	for _, exists := range []bool{true, false} {
		t.Run(fmt.Sprint("a database is there: ", exists), func(t *testing.T) {
			port, dir := freePort(t), t.TempDir()
			conf, addr := persistent(port, dir), fmt.Sprint("127.0.0.1:", port)
			kept := func(c *codec.Connect) { c.CleanStart = false }
			publish := func(c *brokertest.Client, topic, payload string, want codec.Reason) {
				t.Helper()
				c.Publish(topic, payload, 1, 9)
				var a codec.Ack
				if c.Want(codec.PUBACK, &a); a.Reason != want && a.Reason != codec.NoMatchingSubscribers {
					t.Errorf("%s: PUBACK %s, want %s", payload, a.Reason, want)
				}
			}
			if exists {
				p := startBroker(t, conf)
				sub := brokertest.Connect(t, addr, "sub", codec.V311, kept)
				sub.Subscribe("t", 1)
				sub.Disconnect()
				publish(brokertest.Connect(t, addr, "pub", codec.V5, nil), "t", "before", codec.Success)
				p.stop(t, syscall.SIGKILL)
			}

			p, writable := readOnly(t, conf, dir)
			p.await(t, "file of persistent state (may not|cannot) be ")
			pub := brokertest.Connect(t, addr, "pub", codec.V5, nil)
			clean := brokertest.Connect(t, addr, "clean", codec.V311, nil)
			clean.Subscribe("clean", 1)
			publish(pub, "clean", "served", codec.Success)
			clean.WantPublish("clean", "served")
			p.await(t, "Persistent state cannot be written")
			if exists {
				sub := brokertest.Dial(t, addr, codec.V311)
				if !sub.Connack("sub", kept).SessionPresent {
					t.Error("no session")
				}
				m := sub.WantPublish("t", "before")
				sub.Ack(codec.PUBACK, m.PacketID)
				publish(pub, "t", "refused", codec.QuotaExceeded)
				sub.WantNothing()
			}
			fresh := brokertest.Dial(t, addr, codec.V5)
			if ack := fresh.Connack("fresh", func(c *codec.Connect) {
				c.CleanStart, c.Properties = false, codec.AppendUintProperty(nil, codec.SessionExpiry, 1000)
			}); ack.Reason != codec.ServerUnavailable {
				t.Errorf("CONNACK %s", ack.Reason)
			}

			writable()
			p.await(t, "Persistent state can be written again")
			if !exists {
				sub := brokertest.Connect(t, addr, "sub", codec.V311, kept)
				sub.Subscribe("t", 1)
				sub.Disconnect()
			}
			publish(pub, "t", "after", codec.Success)
			if code := p.stop(t, syscall.SIGKILL); code == exitOK {
				t.Error("it was not killed")
			}
			if code, text := outcome(t, "db", "check", filepath.Join(dir, "noctule.db")); code != exitOK || !strings.Contains(text, "no problems") {
				t.Error(text)
			}
			startBroker(t, conf)
			sub := brokertest.Dial(t, addr, codec.V311)
			if !sub.Connack("sub", kept).SessionPresent {
				t.Error("no session")
			}
			sub.WantPublish("t", "after")
			sub.WantNothing()
		})
	}
}
