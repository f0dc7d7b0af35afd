package wsnet

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// asker answers requests with "ok" and says nothing to the rest.
func asker(c *Conn, b []byte) (used, need int) {
	c.Arrived()
	if bytes.HasPrefix(b, []byte("ask")) {
		c.Write([]byte("ok"))
	}
	return len(b), 0
}

// still is a clock whose ticks a test makes itself.
func still() *Clock {
	return &Clock{Now: func() int64 { return time.Now().UnixMilli() }, Ticks: make(chan time.Time)}
}

// noted waits until the loop of c has taken input that it did not answer.
func (r *rig) noted(t *testing.T, c *Conn) {
	t.Helper()
	r.until(t, "input without an answer", func() bool {
		n := 0
		r.on(t, c.loop, func(l *Loop) { n = len(l.acks.recent) })
		return n > 0
	})
}

// interactive tells what the kernel takes c's socket for.
func (r *rig) interactive(t *testing.T, c *Conn) bool {
	t.Helper()
	quick, err := 0, error(nil)
	r.on(t, c.loop, func(*Loop) {
		quick, err = unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK)
	})
	if err != nil {
		t.Fatal(err)
	}
	return quick == 0
}

// info reads the client's TCP_INFO.
func info(t *testing.T, nc net.Conn) *unix.TCPInfo {
	t.Helper()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ti *unix.TCPInfo
	var failed error
	err = raw.Control(func(fd uintptr) {
		ti, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return ti
}

// acknowledged waits until the client's bytes are acknowledged, so that no ACK is under way.
func acknowledged(t *testing.T, nc net.Conn) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for info(t, nc).Unacked > 0 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("no ACK")
		}
	}
}

// TestAnswerCarriesAck: an answer to a request that comes after unanswered messages and a silence is one
// packet to the client, not two. Counted by the client's TCP_INFO.
func TestAnswerCarriesAck(t *testing.T) {
	tests := []struct {
		name              string
		dial              func(t *testing.T, r *rig) net.Conn
		say, request, end string
	}{
		{"tcp", dialTCP, "say", "ask", "ok"},
		{
			"websocket", dialWebSocket,
			frame(ws.OpBinary, "say"), frame(ws.OpBinary, "ask"), "\x82\x02ok",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Config{Clock: still()}, script{data: asker}, false)
			nc := tt.dial(t, r)
			c := r.conn(t, nc)
			quickest := patience
			for range 20 { // the answer must come before the delayed ACK: a machine may be too slow for it
				for range 2 {
					mustWrite(t, nc, tt.say)
					r.noted(t, c)
					acknowledged(t, nc)
					r.on(t, c.loop, (*Loop).tick)
				}
				if r.interactive(t, c) {
					t.Log("the kernel takes the connection for an interactive one by itself")
				}
				r.on(t, c.loop, (*Loop).tick)
				if !r.interactive(t, c) {
					t.Fatal("the kernel does not delay ACKs")
				}
				began, before := time.Now(), info(t, nc).Segs_in
				mustWrite(t, nc, tt.request)
				mustRead(t, nc, tt.end)
				n := info(t, nc).Segs_in - before
				quickest = min(quickest, time.Since(began))
				acknowledged(t, nc)
				if n == 1 {
					r.stopped(t)
					return
				}
			}
			t.Errorf("an answer was never one packet; the quickest took %v", quickest)
		})
	}
}

// TestAckSweepOfOthers: what is not a TCP connection of the loop any more does no harm.
func TestAckSweepOfOthers(t *testing.T) {
	r := start(t, Config{Clock: still(), Loops: 1}, script{data: asker}, false)
	l := r.loops[0]
	file := listen(t, r.Server, ListenerConfig{Network: "unix", Address: t.TempDir() + "/s"})
	for _, a := range []net.Addr{file, listen(t, r.Server, loopback())} {
		nc := dial(t, a)
		c := r.conn(t, nc)
		mustWrite(t, nc, "say")
		r.noted(t, c)
		r.on(t, l, (*Loop).tick)
		if a.Network() == "tcp" {
			_ = nc.Close()
			r.ending(t, nc)
		}
		r.on(t, l, (*Loop).tick)
	}
	r.on(t, l, func(l *Loop) { l.acks.delay(1 << 20) })
	r.stopped(t)
}
