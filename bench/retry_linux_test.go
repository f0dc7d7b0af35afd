package bench

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"noctule/wsnet"
)

// refusing is the address of a broker that accepts clients, then refuses connections first to last of those
// that come after them, counted from 1.
func refusing(t *testing.T, clients, first, last int64) string {
	t.Helper()
	address, _ := serve(t, wsnet.ListenerConfig{})
	var n atomic.Int64
	return relay(t, address, func() bool {
		i := n.Add(1) - clients
		return i < first || i > last
	})
}

// Who is refused comes again, and is counted.
func TestStormRetries(t *testing.T) {
	const wait = 8 * time.Millisecond
	at := refusing(t, 10, 1, 15)
	plan := Load{}.Storm(10, Storm{Retries: 20, Backoff: wait})
	plan.Threads = 2
	r := do(t, Target{Address: at}, plan)
	x := r.Return
	if x.Returned != 10 || x.Failed != 0 || x.Retried != 15 || r.Unwell() != 0 {
		t.Errorf("%+v", x)
	}
	var failures int64
	for _, n := range r.Failures {
		failures += n
	}
	// The time counts from a client's first try.
	if failures != 15 || x.Latency.Count != 10 || time.Duration(x.Latency.Max) < wait/2 {
		t.Errorf("%v, %v", r.Failures, x.Latency)
	}
	var table strings.Builder
	if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "15 times") {
		t.Errorf("%v\n%s", err, &table)
	}
}

// Who is refused too often stays away.
func TestStormRetriesEnd(t *testing.T) {
	at := refusing(t, 5, 1, 1<<30)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Run(ctx, Target{Address: at}, Load{}.Storm(5, Storm{Retries: 3, Backoff: 1}), Options{})
	if x := r.Return; err != nil || x.Returned != 0 || x.Failed != 5 || x.Retried != 15 || r.Unwell() != 5 {
		t.Errorf("%v, %+v, %v", err, x, r.Failures)
	}
}

// A try that gets no answer ends, and another follows.
func TestStormTimeout(t *testing.T) {
	address, _ := serve(t, wsnet.ListenerConfig{})
	_, deaf := startDumb(t, nil)
	var n atomic.Int64
	at := relayTo(t, func() string {
		if i := n.Add(1); i > 5 && i <= 10 {
			return deaf
		}
		return address
	})
	plan := Load{}.Storm(5, Storm{Retries: 100, Backoff: 1, Timeout: 200 * time.Millisecond})
	r := do(t, Target{Address: at}, plan)
	x := r.Return
	if x.Returned != 5 || x.Retried < 5 || r.Failures[errTimeout.Error()] < 5 || x.Latency.Max < 199e6 {
		t.Errorf("%+v, %v", x, r.Failures)
	}
}

func TestBackoff(t *testing.T) {
	tests := []struct {
		first time.Duration
		try   int32
		want  time.Duration
	}{
		{0, 1, defaultBackoff},
		{time.Millisecond, 1, time.Millisecond},
		{time.Millisecond, 4, 8 * time.Millisecond},
		{time.Second, 4, 8 * time.Second},
		{time.Second, 5, MaxBackoff},
		{time.Second, 1 << 30, MaxBackoff},
		{time.Hour, 1, MaxBackoff},
	}
	for _, tt := range tests {
		s := Storm{Backoff: tt.first}
		for range 100 {
			if d := s.wait(tt.try); d < tt.want/2 || d > tt.want {
				t.Errorf("first %v, try %d: %v", tt.first, tt.try, d)
			}
		}
	}
}
