package bench

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"noctule/codec"
	"noctule/wsnet"
)

// Silent clients send PINGREQ in time, and the broker keeps them.
func TestKeepAlive(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	plan := Load{}.Idle(20)
	plan.Hold, plan.Threads = 2500*time.Millisecond, 2
	r := do(t, Target{Address: address, KeepAlive: 1}, plan)
	if r.Pings < 40 || r.Pings > 80 { // every 900 ms, for 2.5 s and a little
		t.Errorf("%d pings", r.Pings)
	}
	if r = do(t, Target{Address: address}, Load{}.Idle(1)); r.Pings != 0 {
		t.Errorf("%d pings without a Keep Alive", r.Pings)
	}
}

// Who talks does not ping.
func TestKeepAliveOfTheTalkative(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	plan := Load{Rate: 50, QoS: 1, Duration: 2 * time.Second}.Pairs(3)
	if r := do(t, Target{Address: address, KeepAlive: 1}, plan); r.Pings != 0 {
		t.Errorf("%d pings", r.Pings)
	}
}

// dumb is a broker that accepts clients with a CONNACK and writes down what else they say.
type dumb struct {
	connack []byte

	mu    sync.Mutex
	heard []codec.Type
}

func startDumb(t *testing.T, connack []byte) (*dumb, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	d := &dumb{connack: connack}
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go d.serve(c) // ends with the connection
		}
	}()
	return d, ln.Addr().String()
}

func (d *dumb) serve(c net.Conn) {
	defer c.Close()
	var have []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		have = append(have, buf[:n]...)
		for {
			h, err := codec.ParseHeader(have)
			if err != nil || len(have) < h.Size+h.Len {
				break
			}
			have = have[h.Size+h.Len:]
			d.mu.Lock()
			d.heard = append(d.heard, h.Type)
			d.mu.Unlock()
			if h.Type == codec.CONNECT {
				_, _ = c.Write(d.connack)
			}
		}
	}
}

// A broker that does not answer PINGREQ is dead.
func TestKeepAliveWithoutAnswer(t *testing.T) {
	_, address := startDumb(t, []byte{0x20, 2, 0, 0})
	plan := Load{}.Clients(3)
	plan.Hold = time.Minute // cut short once all have ended
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := Run(ctx, Target{Address: address, KeepAlive: 1}, plan, Options{Each: func(s Second) {
		if s.Failed == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || r.Ended != 3 || r.Failures[errSilent.Error()] != 3 {
		t.Errorf("%v, %d ended, %v", err, r.Ended, r.Failures)
	}
}

// The Keep Alive of the server counts.
func TestServerKeepAlive(t *testing.T) {
	connack := codec.Connack{Properties: codec.AppendUintProperty(nil, codec.ServerKeepAlive, 1)}
	_, address := startDumb(t, connack.Append(nil, codec.V5))
	plan := Load{}.Clients(3)
	plan.Hold = 1500 * time.Millisecond
	r, err := Run(context.Background(), Target{Address: address, KeepAlive: 300, Version: codec.V5}, plan, Options{})
	if err != nil || r.Pings != 3 {
		t.Errorf("%v, %d pings, %v", err, r.Pings, r.Failures)
	}
}

// Clients that leave at the end say so; those of a storm do not, and their Wills are published.
func TestFarewell(t *testing.T) {
	d, address := startDumb(t, []byte{0x20, 2, 0, 0})
	if _, err := Run(context.Background(), Target{Address: address}, Load{}.Clients(3), Options{}); err != nil {
		t.Fatal(err)
	}
	// A connection that is closed behind DISCONNECT was read to its end when the next one is: poll.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		d.mu.Lock()
		n := 0
		for _, h := range d.heard {
			if h == codec.DISCONNECT {
				n++
			}
		}
		d.mu.Unlock()
		if n == 3 {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d said DISCONNECT", n)
		}
	}
}

// Clients take the users in turn.
func TestUsers(t *testing.T) {
	e, err := newEngine(Target{Address: "127.0.0.1:1", Users: []User{{"ann", "x"}, {"bob", ""}}}, Load{}.Clients(3))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []User{{"ann", "x"}, {"bob", ""}, {"ann", "x"}} {
		c := e.loops[0].clients[i]
		c.hello()
		h, err := codec.ParseHeader(c.out)
		if err != nil {
			t.Fatal(err)
		}
		var p codec.Connect
		if err := p.Parse(h.Flags, c.out[h.Size:], codec.V311); err != nil {
			t.Fatal(err)
		}
		if got := (User{string(p.Username), string(p.Password)}); got != want {
			t.Errorf("client %d is %+v", i, got)
		}
	}
}

func TestWill(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	before := b.Metrics(context.Background()).Retained
	target := Target{Address: address, Will: &Will{Topic: "will/%i", QoS: 1, Retain: true}}
	do(t, target, Load{}.Clients(200)) // with DISCONNECT
	if n := b.Metrics(context.Background()).Retained - before; n > 150 {
		t.Errorf("%d Wills without a reason", n)
	}
	do(t, target, Load{}.Storm(200, Storm{}))
	if n := b.Metrics(context.Background()).Retained - before; n < 200 {
		t.Errorf("%d Wills of 200 were published", n)
	}
}
