package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"noctule/broker"
	"noctule/codec"
	"noctule/internal/testcert"
	"noctule/wsnet"
)

// serve starts a broker in this process.
func serve(t *testing.T, net wsnet.ListenerConfig) (address string, b *broker.Broker) {
	t.Helper()
	o := broker.DefaultOptions()
	o.Log = slog.New(slog.DiscardHandler)
	o.MaxQueuedMessages = 0
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	if net.Address == "" {
		net.Network, net.Address = "tcp", "127.0.0.1:0"
	}
	l, err := b.Listen(broker.ListenerOptions{
		AllowAnonymous: true, MaxQoS: 2, MaxTopicAlias: 10, Net: net,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), b
}

// do runs a plan, which must go well.
func do(t *testing.T, target Target, plan Plan) *Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := Run(ctx, target, plan, Options{PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Connected != int64(r.Clients) || r.Failed+r.Ended > 0 {
		t.Fatalf("%d of %d connected, %d failed, %d ended: %v", r.Connected, r.Clients, r.Failed, r.Ended, r.Failures)
	}
	return r
}

// clean asks that each message came once, in order.
func clean(t *testing.T, r *Report, fan int64) {
	t.Helper()
	if r.Lost+r.Duplicated+r.Reordered+r.Foreign+r.Refused+r.Unacknowledged > 0 || r.TotalReceived != r.TotalSent*fan ||
		r.TotalSent == 0 {
		t.Errorf("sent %d, received %d, lost %d, duplicated %d, reordered %d, foreign %d, refused %d, unacknowledged %d",
			r.TotalSent, r.TotalReceived, r.Lost, r.Duplicated, r.Reordered, r.Foreign, r.Refused, r.Unacknowledged)
	}
}

func TestScenarios(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	ws, _ := serve(t, wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", WebSocket: true})
	path := filepath.Join(t.TempDir(), "s")
	serve(t, wsnet.ListenerConfig{Network: "unix", Address: path})
	limited := Load{Window: 8, Limit: 50, Duration: 300 * time.Millisecond}
	of := func(q uint8) Load { l := limited; l.QoS = q; return l }
	paced := Load{Rate: 100, Duration: 300 * time.Millisecond}
	tcp := Target{Address: address}
	threads := limited.Pairs(10)
	threads.Threads = 3
	files := limited.Pairs(10)
	files.OwnFiles = true
	for name, c := range map[string]struct {
		target Target
		plan   Plan
		fan    int64
	}{
		"pairs":          {tcp, limited.Pairs(10), 1},
		"pairs QoS 1":    {tcp, of(1).Pairs(10), 1},
		"pairs QoS 2":    {tcp, of(2).Pairs(10), 1},
		"pairs MQTT 5":   {Target{Address: address, Version: codec.V5}, of(1).Pairs(10), 1},
		"pairs MQTT 3.1": {Target{Address: address, Version: codec.V31}, of(2).Pairs(10), 1},
		"WebSocket":      {Target{Address: ws, WebSocket: true}, of(1).Pairs(10), 1},
		"WebSocket big":  {Target{Address: ws, WebSocket: true}, Load{Window: 2, Limit: 5, Size: 300000, Duration: time.Second}.Pairs(2), 1},
		"unix":           {Target{Address: path, Unix: true}, limited.Pairs(10), 1},
		"threads":        {tcp, threads, 1},
		"own files":      {tcp, files, 1},
		"paced":          {tcp, paced.Pairs(10), 1},
		"fanout":         {tcp, limited.Fanout(2, 20), 20},
		"fanin":          {tcp, of(1).Fanin(20, 2), 2},
		"shared":         {tcp, of(1).Shared(5, 4), 1},
	} {
		t.Run(name, func(t *testing.T) {
			c.target.Prefix = t.Name()
			clean(t, do(t, c.target, c.plan), c.fan)
		})
	}
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	for name, web := range map[string]bool{"mqtts": false, "wss": true} {
		t.Run(name, func(t *testing.T) {
			address, _ := serve(t, wsnet.ListenerConfig{
				Network: "tcp", Address: "127.0.0.1:0", WebSocket: web,
				TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
			})
			load := Load{Window: 8, Limit: 50, QoS: 1, Duration: 300 * time.Millisecond}
			target := Target{Address: address, WebSocket: web, TLS: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
			clean(t, do(t, target, load.Pairs(10)), 1)
			target.TLS = &tls.Config{ServerName: "localhost"}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if r, err := Run(ctx, target, load.Pairs(2), Options{}); err != nil || r.Failed != 4 {
				t.Errorf("unknown authority: %v, %+v", err, r)
			}
		})
	}
}

// certificate makes one for localhost that signs itself.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	pair := testcert.Localhost(t)
	return pair, testcert.Trust(pair.Leaf)
}

// The engine's counts are those of the broker.
func TestCountsAgreeWithTheBroker(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	r := do(t, Target{Address: address}, Load{Window: 16, Limit: 1000, QoS: 1, Duration: 300 * time.Millisecond}.Fanout(3, 7))
	clean(t, r, 7)
	m := b.Metrics(context.Background())
	if m.PublishReceived != r.TotalSent || m.PublishSent != r.TotalReceived {
		t.Errorf("broker: %d in, %d out; generator: %d sent, %d received", m.PublishReceived, m.PublishSent,
			r.TotalSent, r.TotalReceived)
	}
}

// Who refuses, does not listen, or hangs up, is counted.
func TestFailuresAreCounted(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	plan := Load{}.Idle(5)
	r, err := Run(context.Background(), Target{Address: ln.Addr().String()}, plan, Options{})
	if err != nil || r.Failed != 5 || r.Connected != 0 {
		t.Errorf("%v, %+v", err, r)
	}
	_ = ln.Close()
	r, err = Run(context.Background(), Target{Address: ln.Addr().String()}, plan, Options{})
	if err != nil || r.Failed != 5 {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestPlanErrors(t *testing.T) {
	for name, p := range map[string]Plan{
		"nothing":         {},
		"no clients":      {Groups: []Group{{Name: "x"}}},
		"QoS 3":           {Groups: []Group{{Name: "x", Count: 1, QoS: 3}}},
		"no rate":         {Groups: []Group{{Name: "x", Count: 1, Topic: func(int) string { return "a" }}}},
		"window too wide": {Groups: []Group{{Name: "x", Count: 1, Window: 70000}}},
	} {
		if _, err := Run(context.Background(), Target{Address: "127.0.0.1:1"}, p, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// An idle client of the generator takes little memory.
func TestClientIsSmall(t *testing.T) {
	e, err := newEngine(Target{Address: "127.0.0.1:1"}, Load{}.Idle(1000))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1, func() { e.populate() }) / 1000; n > 3 {
		t.Errorf("%.1f allocations a client", n)
	}
}

// Connected, an idle client of the generator takes less than 1 KB of heap, even with the broker's half of it,
// which is in the same process.
func TestHeapPerIdleClient(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	few, many := idleHeap(t, address, 1000), idleHeap(t, address, 3000)
	if n := (many - few) / 2000; n > 1024 {
		t.Errorf("%d bytes a client, broker included", n)
	} else {
		t.Logf("%d bytes a client, broker included", n)
	}
}

// idleHeap is the heap in bytes with n idle clients connected.
func idleHeap(t *testing.T, address string, n int) (highest int64) {
	t.Helper()
	plan := Load{}.Idle(n)
	plan.Hold = 1600 * time.Millisecond
	_, err := Run(context.Background(), Target{Address: address}, plan, Options{Each: func(s Second) {
		if s.Phase != "hold" {
			return
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		highest = int64(m.HeapAlloc)
	}})
	if err != nil || highest == 0 {
		t.Fatalf("%v, heap %d", err, highest)
	}
	return highest
}

func serverConfig(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func clientConfig(pool *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}
