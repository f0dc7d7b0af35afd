package wsnet

import (
	"log/slog"
	"slices"
	"testing"
	"time"
)

// TestMailbox: posts run in their order, beyond the limit Post refuses, MustPost does not.
func TestMailbox(t *testing.T) {
	const limit = 10
	over(t, Config{Loops: 1, MailboxLimit: limit}, script{}, func(t *testing.T, r *rig) {
		l := r.loops[0]
		release := r.stall(t, l)
		var ran []int
		for i := range limit {
			if !l.Post(TaskFunc(func(*Loop) { ran = append(ran, i) })) {
				t.Fatalf("post %d is refused", i)
			}
		}
		if l.Post(TaskFunc(nothing)) {
			t.Error("a post beyond the limit")
		}
		l.MustPost(TaskFunc(func(*Loop) { ran = append(ran, limit) }))
		release()
		r.on(t, l, nothing)
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, limit}; !slices.Equal(ran, want) {
			t.Errorf("ran %v", ran)
		}
		if n := r.Stats().MailboxRefused; n != 1 {
			t.Errorf("%d posts refused, want 1", n)
		}
	})
}

// TestAgain: a task that comes again and again leaves every other its turn.
func TestAgain(t *testing.T) {
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		l := r.loops[0]
		turns, on := 0, true
		var again TaskFunc
		again = func(l *Loop) {
			if turns++; on {
				l.Again(again)
			}
		}
		l.MustPost(again)
		nc := dialTCP(t, r)
		for range 10 {
			mustWrite(t, nc, "a")
			mustRead(t, nc, "a")
		}
		r.on(t, l, func(*Loop) {
			if on = false; turns < 10 {
				t.Errorf("%d turns", turns)
			}
		})
	})
}

// clockwork is a handler that hears of turns and seconds.
type clockwork struct {
	player
	turns int
	ticks chan int64
}

func (c *clockwork) EndTurn() { c.turns++ }

func (c *clockwork) Tick(now int64) {
	select {
	case c.ticks <- now:
	default:
	}
}

func TestTurnsAndTicks(t *testing.T) {
	for _, portable := range []bool{false, true} {
		r := &rig{}
		c := &clockwork{player: player{r}, ticks: make(chan int64, 2)}
		s, err := New(Config{
			Loops: 1, Portable: portable, Log: slog.New(slog.DiscardHandler),
			NewHandler: func(*Loop) Handler { return c },
		})
		if err != nil {
			t.Fatal(err)
		}
		r.Server = s
		before := time.Now().UnixMilli()
		if at := get(t, c.ticks); at < before {
			t.Errorf("a tick at %d, before the start at %d", at, before)
		}
		r.on(t, s.loops[0], func(l *Loop) {
			if c.turns < 1 || l.Now() < before {
				t.Errorf("%d turns, now is %d", c.turns, l.Now())
			}
			if l.Handler() != Handler(c) || l.Index() != 0 || l.Server() != s {
				t.Error("the loop does not know what it is")
			}
		})
		r.stopped(t)
	}
}

func TestConfigNeedsHandlerAndLog(t *testing.T) {
	for _, cfg := range []Config{
		{Log: slog.New(slog.DiscardHandler)},
		{NewHandler: func(*Loop) Handler { return player{} }},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("accepts %+v", cfg)
		}
	}
}
