package main

import (
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
	go p.copy(s, c, true)  // ends with either connection
	go p.copy(c, s, false) // ends with either connection
}

func (p *proxy) copy(dst, src net.Conn, toBroker bool) {
	defer src.Close()
	defer dst.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := src.Read(b)
		if err != nil {
			return
		}
		late, cuts := p.trips(b[:n], toBroker)
		if late || !cuts {
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
		if cuts {
			p.cut()
			return
		}
	}
}

// trips reports whether a piece of the stream starts with the packet that cutAt named.
func (p *proxy) trips(b []byte, toBroker bool) (late, cuts bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !toBroker || p.mu.trip == 0 || b[0]>>4 != p.mu.trip {
		return false, false
	}
	p.mu.trip = 0
	return p.mu.late, true
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
