package admin

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// crowd is a listener to which clients of many addresses come.
type crowd chan net.Conn

func (c crowd) Accept() (net.Conn, error) {
	nc, ok := <-c
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}

func (c crowd) Close() error   { return nil }
func (c crowd) Addr() net.Addr { return &net.TCPAddr{} }

// guest is the listener's end of a connection.
type guest struct {
	net.Conn
	from net.Addr
}

func (g guest) RemoteAddr() net.Addr { return g.from }

// TestConnectionsAreShared: one address cannot take all places of a listener, and who holds few is let in when all
// are taken. What is closed gives its place back.
func TestConnectionsAreShared(t *testing.T) {
	in := make(crowd, 1)
	f := newFair(in, 16)
	come := func(ip string) (far net.Conn, near net.Conn) {
		far, nc := net.Pipe()
		in <- guest{nc, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1000}}
		near, err := f.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return far, near
	}
	wantClosed := func(far net.Conn) {
		t.Helper()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%v, want the end", err)
		}
	}
	first, _ := come("192.0.2.1")
	for range 4 { // the fifth is more than a quarter
		come("192.0.2.1")
	}
	wantClosed(first)
	one, near := come("127.0.0.1")
	for range 11 { // of this machine there may be more
		come("127.0.0.1")
	}
	come("2001:db8::1")
	wantClosed(one)
	if n := f.mu.table.Len(); n != 16 {
		t.Errorf("%d connections", n)
	}
	_ = near.Close() // it is closed already
	other, near := come("192.0.2.2")
	_ = near.Close()
	wantClosed(other)
	if n := f.mu.table.Len(); n != 15 {
		t.Errorf("%d connections after one has ended", n)
	}
}

// TestSilentConnectionsKeepNobodyOut opens more connections than there may be, says nothing, and asks.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	s, url := start(t, source{})
	for range apiConnections + 20 {
		nc, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
	}
	for i := range 3 {
		if resp, body := ask(t, http.MethodGet, url+"/healthz"); resp.StatusCode != http.StatusOK || body != "ok\n" {
			t.Error(fmt.Sprint(i), resp.Status, body)
		}
	}
}
