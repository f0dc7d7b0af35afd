package presub

import (
	"context"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestLane: those for whom work waits take turns, none has all the places, and what has no place is refused
// and counted.
func TestLane(t *testing.T) {
	overload := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := newLane(ctx, laneLimits{workers: 1, waiting: 8, bytes: 1 << 20}, overload)
	begun, gate, done := make(chan struct{}), make(chan struct{}), make(chan string, 16)
	l.submit("first", 0, func(context.Context) {
		close(begun)
		<-gate
	})
	<-begun
	for range 6 {
		if !l.submit("a", 0, func(context.Context) { done <- "a" }) {
			t.Fatal("refused")
		}
	}
	if l.submit("a", 0, func(context.Context) {}) {
		t.Error("one has more than three quarters")
	}
	if l.submit("b", 1<<20, func(context.Context) {}) {
		t.Error("more bytes than there may be")
	}
	for range 2 {
		if !l.submit("b", 0, func(context.Context) { done <- "b" }) {
			t.Error("the newcomer is refused")
		}
	}
	if l.submit("c", 0, func(context.Context) {}) {
		t.Error("more than there may be")
	}
	close(gate)
	var got []string
	for range 8 {
		got = append(got, <-done)
	}
	if want := []string{"a", "b", "a", "b", "a", "a", "a", "a"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	cancel()
	l.close()
	if l.submit("a", 0, func(context.Context) { t.Error("after the end") }) {
		t.Error("taken after the end")
	}
	if l.mu.waiting != 0 || l.mu.bytes != 0 || len(l.mu.lines) != 0 || l.mu.running != 0 {
		t.Errorf("%d wait, %d B, %d lines, %d run", l.mu.waiting, l.mu.bytes, len(l.mu.lines), l.mu.running)
	}
}
