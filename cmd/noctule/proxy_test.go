package main

import (
	uvarint "encoding/binary"
	"net"
	"sync"
	"testing"
)

// Packet types, as the upper half of a packet's first byte.
const (
	publishType = 3
	pubrelType  = 6
)

// proxy forwards TCP connections, until it is told not to.
type proxy struct {
	ln     net.Listener
	target string
	mu     struct {
		sync.Mutex
		conns map[net.Conn]struct{}
		down  bool
		trip  byte // packet type of a client's that cuts all connections; 0 none
		late  bool // the packet is forwarded before the cut
	}
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target}
	p.mu.conns = map[net.Conn]struct{}{}
	t.Cleanup(func() {
		_ = ln.Close()
		p.setDown(true)
	})
	go func() { // ends with ln
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.forward(c)
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) forward(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := net.Dial("tcp", p.target)
	if err != nil || p.mu.down {
		_ = c.Close()
		if err == nil {
			_ = s.Close()
		}
		return
	}
	p.mu.conns[c], p.mu.conns[s] = struct{}{}, struct{}{}
	go func() { // ends with both connections
		var wg sync.WaitGroup
		wg.Go(func() { p.copy(s, c, true) })
		wg.Go(func() { p.copy(c, s, false) })
		wg.Wait()
		_, _ = s.Close(), c.Close()
	}()
}

// copy forwards one direction. Its end is only this direction's: the other may still carry a DISCONNECT.
func (p *proxy) copy(dst, src net.Conn, toBroker bool) {
	b := make([]byte, 64<<10)
	for gone := false; ; {
		n, err := src.Read(b)
		if err != nil {
			_ = dst.(*net.TCPConn).CloseWrite()
			return
		}
		send, cuts := n, false
		if toBroker {
			send, cuts = p.trips(b[:n])
		}
		if !gone && send > 0 {
			_, err = dst.Write(b[:send])
			gone = err != nil
		}
		if cuts {
			p.cut()
			return
		}
	}
}

// trips looks for the packet that cutAt named in a piece of the stream, which is small enough to hold whole
// packets, and says how much of the piece to forward.
func (p *proxy) trips(b []byte) (send int, cuts bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := 0; p.mu.trip != 0 && at < len(b); {
		length, n := uvarint.Uvarint(b[at+1:])
		end := at + 1 + n + int(length)
		if b[at]>>4 == p.mu.trip {
			p.mu.trip = 0
			if p.mu.late {
				return min(end, len(b)), true
			}
			return at, true
		}
		at = end
	}
	return len(b), false
}

// cutAt cuts all connections once, before or after the next packet of a type from a client is forwarded.
func (p *proxy) cutAt(packet byte, late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.trip, p.mu.late = packet, late
}

// cut ends all connections now.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.mu.conns {
		_ = c.Close()
	}
	clear(p.mu.conns)
}

// setDown cuts all connections and refuses new ones, or lets them through again.
func (p *proxy) setDown(down bool) {
	p.mu.Lock()
	p.mu.down = down
	p.mu.Unlock()
	if down {
		p.cut()
	}
}
