package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// The file may not grow beyond a limit of the process, which is what a full disk is to it: writes fail, some of
// them half done. Nothing is acknowledged that is not kept, and when there is room again all goes on.
func TestDiskFull(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	p := startBroker(t, persistent(port, dir)+"max_queued_messages 0\n")
	addr := fmt.Sprint("127.0.0.1:", port)
	sub := brokertest.Connect(t, addr, "sub", codec.V311, func(c *codec.Connect) { c.CleanStart = false })
	sub.Subscribe("t", 1)
	sub.Disconnect()
	limit := func(bytes uint64) {
		t.Helper()
		l := unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &l, nil); err != nil {
			t.Fatal(err)
		}
	}
	pub := brokertest.Connect(t, addr, "pub", codec.V5, nil)
	payload := strings.Repeat("x", 10000)
	acked := 0
	publish := func() bool { // false: refused
		pub.Publish("t", fmt.Sprintf("%d %s", acked, payload), 1, 1)
		var a codec.Ack
		pub.Want(codec.PUBACK, &a)
		if a.Reason == codec.Success {
			acked++
			return true
		}
		if a.Reason != codec.QuotaExceeded {
			t.Fatalf("PUBACK %s", a.Reason)
		}
		return false
	}
	for range 100 {
		publish()
	}
	limit(12288) // there is room for the meta pages, and for one more
	pub.Publish("t", fmt.Sprintf("%d %s", acked, payload), 1, 1)
	p.await(t, "Persistent state cannot be written")
	other := brokertest.Connect(t, addr, "other", codec.V5, nil)
	other.Publish("t", "refused", 1, 1)
	var a codec.Ack
	if other.Want(codec.PUBACK, &a); a.Reason != codec.QuotaExceeded {
		t.Errorf("PUBACK %s", a.Reason)
	}
	old := brokertest.Connect(t, addr, "old", codec.V311, nil)
	old.Publish("t", "refused", 1, 1)
	old.WantClosed()
	limit(unix.RLIM_INFINITY)
	if pub.Want(codec.PUBACK, &a); a.Reason != codec.Success { // it waited
		t.Errorf("PUBACK %s", a.Reason)
	}
	acked++
	p.await(t, "Persistent state can be written again")
	for range 20 {
		if !publish() {
			t.Fatal("still refused")
		}
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if _, text := outcome(t, "db", "check", dir+"/noctule.db"); !strings.Contains(text, "no problems") {
		t.Error(text)
	}
	startBroker(t, persistent(port, dir)+"max_queued_messages 0\n")
	sub = brokertest.Dial(t, addr, codec.V311)
	if ack := sub.Connack("sub", func(c *codec.Connect) { c.CleanStart = false }); !ack.SessionPresent {
		t.Fatal("no session")
	}
	for i := range acked {
		var m codec.Publish
		sub.Want(codec.PUBLISH, &m)
		if !strings.HasPrefix(string(m.Payload), fmt.Sprint(i, " ")) {
			t.Fatalf("message %d is %.10s", i, m.Payload)
		}
		sub.Ack(codec.PUBACK, m.PacketID)
	}
	sub.WantNothing()
	if _, err := os.Stat(dir + "/noctule.db"); err != nil {
		t.Error(err)
	}
}

// starve lets a broker's file grow no more, or be written only up to somewhere, for some time: writes fail as
// on a full disk, some of them in the middle of a page.
func starve(t *testing.T, p *process, rnd *rand.Rand) {
	t.Helper()
	for _, bytes := range []uint64{uint64(4096 + rnd.IntN(4<<20)), unix.RLIM_INFINITY} {
		l := unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &l, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+rnd.IntN(80)) * time.Millisecond) // how long it lasts
		if rnd.IntN(2) == 0 {
			return // till the kill
		}
	}
}
