package traffic

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// pair is a counted connection and its other end.
func pair(t *testing.T, m *Meter) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = m.Dial(limited(t), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

// pass sends n bytes and reads them.
func pass(t *testing.T, from, to net.Conn, n int) {
	t.Helper()
	if _, err := from.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

// cost is what act costs.
func cost(t *testing.T, m *Meter, act func()) Count {
	t.Helper()
	before, err := m.Settled(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	act()
	after, err := m.Settled(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	return after.Sub(before)
}

// TestCount holds the counting against what must be on the wire: a segment and its ACK.
func TestCount(t *testing.T) {
	m := NewMeter(0)
	client, server := pair(t, m)
	opened, err := m.Settled(limited(t))
	if want := (Count{3, 3 * 66}); err != nil || opened != want {
		t.Errorf("a handshake counts %v (%v), want %v", opened, err, want)
	}
	for name, c := range map[string]struct {
		from, to net.Conn
		bytes    int
	}{"out": {client, server, 16}, "in": {server, client, 1000}} {
		got := cost(t, m, func() { pass(t, c.from, c.to, c.bytes) })
		if want := (Count{2, 2*66 + int64(c.bytes)}); got != want {
			t.Errorf("%d bytes %s count %v, want %v", c.bytes, name, got, want)
		}
	}
	if got := cost(t, m, func() {}); got != (Count{}) {
		t.Errorf("nothing counts %v", got)
	}
}

// TestMeterSum asks that sockets are added up, and stay in the sum when closed.
func TestMeterSum(t *testing.T) {
	m := NewMeter(45 * time.Second)
	a, aServer := pair(t, m)
	b, bServer := pair(t, m)
	if n := len(m.ports()); n != 2 {
		t.Errorf("%d ports", n)
	}
	got := cost(t, m, func() {
		pass(t, a, aServer, 10)
		pass(t, b, bServer, 20)
	})
	if want := (Count{4, 4*66 + 30}); got != want {
		t.Errorf("two sockets count %v, want %v", got, want)
	}
	before, err := m.Count()
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	_ = a.Close() // counts once
	if after, err := m.Count(); err != nil || after != before {
		t.Errorf("closing makes %v of %v (%v)", after, before, err)
	}
	if n := len(m.ports()); n != 1 {
		t.Errorf("%d ports after closing one", n)
	}
}

func TestSettledGivesUp(t *testing.T) {
	m := NewMeter(0)
	pair(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Settled(ctx); err == nil {
		t.Error("no error from a context that is done")
	}
	if err := pause(ctx, time.Hour); err == nil {
		t.Error("pause outlasts its context")
	}
}
