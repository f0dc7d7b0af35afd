package bench

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"noctule/codec"
	"noctule/wsnet"
)

// proxy stands between the generator and the broker. change, called for each packet from the broker, tells
// how often it is passed on.
type proxy struct {
	ln      net.Listener
	backend string
	change  func(h codec.Header) int

	mu sync.Mutex // held during a stall
}

func startProxy(t *testing.T, backend string, change func(codec.Header) int) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, backend: backend, change: change}
	t.Cleanup(func() { _ = ln.Close() })
	go p.accept() // ends with the listener
	return p
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", p.backend)
		if err != nil {
			_ = c.Close()
			return
		}
		go p.up(c, b) // both end with the connection
		go p.down(b, c)
	}
}

func (p *proxy) up(from, to net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		_, err = to.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// down passes packets on one by one.
func (p *proxy) down(from, to net.Conn) {
	defer to.Close()
	var have []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		have = append(have, buf[:n]...)
		var out []byte
		for {
			h, err := codec.ParseHeader(have)
			if errors.Is(err, codec.ErrShort) || len(have) < h.Size+h.Len {
				break
			}
			for range p.change(h) {
				out = append(out, have[:h.Size+h.Len]...)
			}
			have = have[h.Size+h.Len:]
		}
		if _, err := to.Write(out); err != nil {
			return
		}
	}
}

// Losses and repetitions are counted to the message.
func TestLossAndDuplicatesAreCounted(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	var mu sync.Mutex
	n, lost, twice := 0, int64(0), int64(0)
	p := startProxy(t, address, func(h codec.Header) int {
		if h.Type != codec.PUBLISH {
			return 1
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		switch {
		case n%17 == 0:
			lost++
			return 0
		case n%23 == 0:
			twice++
			return 2
		}
		return 1
	})
	plan := Load{Rate: 2000, Limit: 300, Duration: 400 * time.Millisecond}.Pairs(4)
	plan.Drain = time.Second
	r := do(t, Target{Address: p.ln.Addr().String()}, plan)
	mu.Lock()
	defer mu.Unlock()
	if lost == 0 || twice == 0 || r.Lost != lost || r.Duplicated != twice || r.Reordered != 0 {
		t.Errorf("lost %d, counted %d; twice %d, counted %d; reordered %d", lost, r.Lost, twice, r.Duplicated, r.Reordered)
	}
	if len(r.Warnings) == 0 {
		t.Error("no warning of the loss")
	}
}

// A stall shows up in the percentiles: with one message a millisecond, a stall of n ms delays n messages by n,
// n-1, ... ms, whether or not they could be sent meanwhile.
func TestStallsShowUp(t *testing.T) {
	for _, stall := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(stall.String(), func(t *testing.T) {
			address, _ := serve(t, wsnet.ListenerConfig{})
			p := startProxy(t, address, func(codec.Header) int { return 1 })
			done := make(chan struct{})
			ready := time.AfterFunc(300*time.Millisecond, func() {
				defer close(done)
				p.mu.Lock()
				defer p.mu.Unlock()
				timer := time.NewTimer(stall)
				<-timer.C
			})
			defer ready.Stop()
			plan := Load{Rate: 1000, Duration: time.Second}.Pairs(1)
			r := do(t, Target{Address: p.ln.Addr().String()}, plan)
			<-done
			clean(t, r, 1)
			late := time.Duration(r.Generator.Lateness.Max) // on a busy machine none may have been due at once
			if got := time.Duration(r.Latency.Max); got < stall*9/10-late {
				t.Errorf("max %v, the generator was up to %v late", got, late)
			}
			if got := time.Duration(r.Latency.P99); stall >= 100*time.Millisecond && got < stall/2-late {
				t.Errorf("p99 %v", got)
			}
			if r.Latency.Count < 990 || r.Latency.Count > 1001 {
				t.Errorf("%d messages were measured, want 1000", r.Latency.Count)
			}
		})
	}
}
