package bench

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"noctule/codec"
	"noctule/wsnet"
)

// All are cut, and all come back: with their session if it is kept, and whatever the transport.
func TestStorm(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	web, _ := serve(t, wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", WebSocket: true})
	for name, target := range map[string]Target{
		"clean":      {Address: address},
		"persistent": {Address: address, Persistent: true},
		"MQTT 5":     {Address: address, Persistent: true, Version: codec.V5},
		"WebSocket":  {Address: web, WebSocket: true},
	} {
		t.Run(name, func(t *testing.T) {
			target.Prefix = t.Name()
			plan := Load{}.Storm(50, Storm{})
			plan.Threads = 2
			r := do(t, target, plan)
			resumed := int64(0)
			if target.Persistent {
				resumed = 50
			}
			x := r.Return
			if x == nil || x.Cut != 50 || x.Returned != 50 || x.Failed != 0 || x.Resumed != resumed {
				t.Fatalf("%+v", x)
			}
			if x.Latency.Count != 50 || x.Away.Count != 50 || x.Away.Max < x.Latency.Min || x.Time <= 0 ||
				time.Duration(x.Away.Max) > x.Time+time.Second/10 || r.Headline() != x.Latency {
				t.Errorf("%+v", x)
			}
			if last := r.Seconds[len(r.Seconds)-1]; last.Phase != "storm" || last.Connected != 50 || last.Failed != 0 {
				t.Errorf("%+v", last)
			}
		})
	}
	if m := b.Metrics(context.Background()); m.ConnectionsTotal != 400 { // the last 100 end sessions
		t.Errorf("the broker saw %d connections", m.ConnectionsTotal)
	}
}

// A Unix socket whose queue is full is no failure.
func TestStormOnAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serve(t, wsnet.ListenerConfig{Network: "unix", Address: path})
	plan := Load{}.Storm(900, Storm{})
	plan.Concurrent = 900
	if x := do(t, Target{Address: path, Unix: true}, plan).Return; x.Returned != 900 || x.Failed != 0 {
		t.Errorf("%+v", x)
	}
}

// A rate is kept.
func TestStormAtARate(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	r := do(t, Target{Address: address}, Load{}.Storm(50, Storm{Rate: 100}))
	if x := r.Return; x.Returned != 50 || x.Time < 480*time.Millisecond || time.Duration(x.Away.P50) < 200*time.Millisecond {
		t.Errorf("%+v", x)
	}
}

func TestStormOverTLS(t *testing.T) {
	cert, pool := certificate(t)
	address, _ := serve(t, wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", TLS: serverConfig(cert)})
	r := do(t, Target{Address: address, TLS: clientConfig(pool)}, Load{}.Storm(20, Storm{}))
	if x := r.Return; x.Returned != 20 || x.Failed != 0 {
		t.Errorf("%+v, %v", x, r.Failures)
	}
}

// Who does not come back is counted.
func TestStormThatTheBrokerDoesNotSurvive(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	var accepted atomic.Int64
	ln := relay(t, address, func() bool { return accepted.Add(1) <= 15 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := Run(ctx, Target{Address: ln}, Load{}.Storm(10, Storm{}), Options{})
	if err != nil || r.Return.Returned != 5 || r.Return.Failed != 5 || r.Unwell() != 5 {
		t.Errorf("%v, %+v, %v", err, r.Return, r.Failures)
	}
}

// relay passes connections on that accept says yes to, and closes the others.
func relay(t *testing.T, backend string, accept func() bool) string {
	t.Helper()
	return relayTo(t, func() string {
		if accept() {
			return backend
		}
		return ""
	})
}

// relayTo passes each connection on to where backend says, and closes it if that is nowhere.
func relayTo(t *testing.T, backend func() string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			to := backend()
			if to == "" {
				_ = c.Close()
				continue
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{b, c}, {c, b}} { // they end with the connection
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				}()
			}
		}
	}()
	return ln.Addr().String()
}

// Clients come and go beside the pairs, whose messages are all there.
func TestSoak(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	plan := Load{Rate: 100, QoS: 1, Duration: 4 * time.Second}.Soak(5, 10, 200*time.Millisecond)
	plan.Threads = 2
	r := do(t, Target{Address: address}, plan)
	clean(t, r, 1)
	x := r.Return
	if x == nil || x.Cut < 150 || x.Cut > 230 || x.Returned < x.Cut-10 || x.Failed != 0 || x.Time != 0 {
		t.Fatalf("%+v", x)
	}
	if m := b.Metrics(context.Background()); m.ConnectionsTotal < 20+x.Returned {
		t.Errorf("the broker saw %d connections, %+v", m.ConnectionsTotal, x)
	}
	var table strings.Builder
	if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "memory slope") {
		t.Errorf("%v\n%s", err, &table)
	}
}

func TestSlope(t *testing.T) {
	var list []Second
	for i := range 10 {
		noise := int64(i%2) * 50
		list = append(list, Second{Phase: "measure", At: time.Duration(i) * time.Second, Resident: 1e9 + 1000*int64(i) + noise})
	}
	if got := slope(list); got < 980 || got > 1020 {
		t.Errorf("%g", got)
	}
	for i := range list {
		list[i].Resident = 1e9
	}
	if got := slope(list); got != 0 {
		t.Errorf("%g where nothing grows", got)
	}
	if got := slope(list[:2]); got != 0 {
		t.Errorf("%g of two seconds", got)
	}
}

// Slow readers get what they are allowed, and the others do not wait for them.
func TestSlow(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	const limit = 4000
	plan := Load{Rate: 100, Size: 1000, Duration: 3 * time.Second}.Slow(1, 5, 2, limit)
	r := do(t, Target{Address: address}, plan)
	if r.Lost+r.Duplicated+r.Reordered > 0 || r.TotalReceived != 5*r.TotalSent || r.TotalSent < 295 {
		t.Errorf("sent %d, received %d, lost %d", r.TotalSent, r.TotalReceived, r.Lost)
	}
	if got := time.Duration(r.Latency.P99); got > 500*time.Millisecond {
		t.Errorf("p99 of the others is %v", got)
	}
	a := r.Aside
	if a == nil || a.Clients != 2 || a.BytesPerSecond > limit || a.BytesPerSecond < limit*0.6 || a.Lost == 0 ||
		a.Received+a.Lost != 2*r.TotalSent {
		t.Fatalf("%+v", a)
	}
	if got := time.Duration(a.Latency.Max); got < time.Second {
		t.Errorf("slow readers have everything within %v", got)
	}
}

// Shares add up to the limit, however it divides.
func TestAllowanceAddsUp(t *testing.T) {
	for _, limit := range []int{1, 3, 10, 999, 4001} {
		l := &loop{}
		c := &client{group: &group{Group: Group{ReadMax: limit}}}
		got := 0
		for i := range readSlices {
			l.now = int64(5*time.Second) + int64(i)*int64(time.Second)/readSlices
			n := l.allowance(c)
			got, c.read = got+n, c.read+n
			if l.allowance(c) != 0 {
				t.Errorf("limit %d: more than the share", limit)
			}
		}
		if got != limit {
			t.Errorf("%d bytes a second, want %d", got, limit)
		}
		if len(l.throttled) != 1 {
			t.Errorf("on the list %d times", len(l.throttled))
		}
	}
}

// Each subscriber gets each retained message; afterwards there are none.
func TestRetained(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	before := b.Metrics(context.Background()).Retained
	for name, qos := range map[string]uint8{"QoS 0": 0, "QoS 1": 1} {
		t.Run(name, func(t *testing.T) {
			p := Retained{Messages: 500, Subscribers: 6, QoS: qos, Shape: Plan{Duration: 20 * time.Second, Threads: 2}}
			r, err := RunRetained(context.Background(), Target{Address: address}, p, Options{PID: os.Getpid()})
			if err != nil {
				t.Fatal(err)
			}
			if r.Stored != 500 || r.Lost+r.Duplicated+r.Foreign > 0 || r.TotalReceived != 3000 || r.Latency.Count != 6 ||
				r.Measured > 15*time.Second {
				t.Errorf("%+v", r)
			}
			if after := b.Metrics(context.Background()).Retained; after > before+100 { // $SYS may have grown
				t.Errorf("%d retained messages before, %d after", before, after)
			}
		})
	}
}

// What does not come is counted when the time is up.
func TestRetainedThatAreLost(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	var mu sync.Mutex
	n, lost := 0, int64(0)
	p := startProxy(t, address, func(h codec.Header) int {
		mu.Lock()
		defer mu.Unlock()
		if h.Type != codec.PUBLISH {
			return 1
		}
		if n++; n%10 == 0 {
			lost++
			return 0
		}
		return 1
	})
	run := Retained{Messages: 100, Subscribers: 2, Shape: Plan{Duration: time.Second}}
	r, err := RunRetained(context.Background(), Target{Address: p.ln.Addr().String()}, run, Options{})
	mu.Lock()
	defer mu.Unlock()
	if err != nil || r.Lost != lost || lost != 20 || r.Latency.Count != 0 {
		t.Errorf("%v, lost %d, counted %d, %d complete", err, lost, r.Lost, r.Latency.Count)
	}
}

// A broker that does not store ends the run.
func TestRetainedRefused(t *testing.T) {
	ln := relay(t, "127.0.0.1:1", func() bool { return false })
	_, err := RunRetained(context.Background(), Target{Address: ln}, Retained{Messages: 3, Subscribers: 1}, Options{})
	if err == nil || !strings.Contains(err.Error(), "0 of 3 sent") {
		t.Errorf("%v", err)
	}
}
