package broker

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"noctule/wsnet"
)

// TestAliveNamesTheLoopThatHangs: neither question waits for a loop.
func TestAliveNamesTheLoopThatHangs(t *testing.T) {
	probes := make(chan time.Time)
	o := DefaultOptions()
	o.Loops, o.SysInterval, o.Log = 2, 0, slog.New(slog.DiscardHandler)
	o.Clock = &wsnet.Clock{Now: func() int64 { return 1 }, Probes: probes}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.hangAfter = time.Nanosecond
	held, free := make(chan struct{}), make(chan struct{})
	b.shards[1].loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) {
		close(held)
		<-free
	}))
	<-held
	for range 3 { // the third is taken when the second has been posted
		probes <- time.Time{}
	}
	err = b.Alive()
	for begin := time.Now(); err == nil || !strings.HasPrefix(err.Error(), "event loop 1 has not turned for "); {
		if time.Since(begin) > 10*time.Second { // the other loop answers its probe
			t.Fatalf("alive: %v", err)
		}
		err = b.Alive()
	}
	if err := b.Ready(); err == nil {
		t.Error("ready")
	}
	b.hangAfter = time.Hour
	if err := b.Ready(); err != nil {
		t.Errorf("busy for a moment: %v", err)
	}
	b.hangAfter = time.Nanosecond
	close(free)
	if err := b.onEach(context.Background(), func(*shard) {}); err != nil {
		t.Fatal(err)
	}
	if err := b.Alive(); err != nil && !strings.Contains(err.Error(), "loop 0") { // its own may be under way
		t.Errorf("afterwards: %v", err)
	}
	if err := b.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := b.Alive(); err != nil {
		t.Errorf("alive at the end: %v", err)
	}
	if err := b.Ready(); err == nil || err.Error() != "the broker is shutting down" {
		t.Errorf("ready at the end: %v", err)
	}
}
