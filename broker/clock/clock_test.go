package clock

import (
	"testing"
	"time"

	"noctule/broker/store"
	"noctule/wsnet"
)

// set is two clocks that a test moves.
type set struct{ now, wall int64 }

func (s *set) clock() *wsnet.Clock {
	return &wsnet.Clock{Now: func() int64 { return s.now }, Wall: func() int64 { return s.wall }}
}

func open(t *testing.T, s *set, mem store.Store) *Clock {
	t.Helper()
	c, err := Open(s.clock(), mem)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Time goes on where it was at the last start, as far as the system's clock tells, and never back.
func TestTimeGoesOn(t *testing.T) {
	mem := store.NewMemory()
	s := &set{now: 5000, wall: 1_000_000}
	c := open(t, s, mem)
	if c.Source.Now() != 1_000_000 || c.Wall(c.Source.Now()) != 1_000_000 {
		t.Errorf("a new store: %d", c.Source.Now())
	}
	s.now, s.wall = s.now+1000, s.wall+1000+7_000_000 // somebody sets it
	if moved, note := c.Watch(); moved != 7000*time.Second || !note {
		t.Errorf("moved %v, note %v", moved, note)
	}
	var b store.Batch
	b.PutClock(c.Record())
	if err := mem.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if c.Source.Now() != 1_001_000 || c.Wall(c.Source.Now()) != 8_001_000 {
		t.Errorf("%d, by the wall %d", c.Source.Now(), c.Wall(c.Source.Now()))
	}
	s.now, s.wall = 0, s.wall+2000
	if c = open(t, s, mem); c.Source.Now() != 1_003_000 {
		t.Errorf("2 s later: %d", c.Source.Now())
	}
	s.wall -= 1_000_000
	if c = open(t, s, mem); c.Source.Now() != 1_001_000 {
		t.Errorf("the system's clock has gone back: %d", c.Source.Now())
	}
}

// Small steps are noted and not told, none are neither, and now and then the store hears without any.
func TestWatch(t *testing.T) {
	s := &set{now: 1000, wall: 1000}
	c := open(t, s, nil)
	c.Record()
	for _, tt := range []struct {
		pass, by int64
		moved    time.Duration
		note     bool
	}{
		{1000, 0, 0, false},
		{1000, step - 1, 0, false},
		{1000, 1, 0, true},
		{1000, -jump, -time.Second, true},
		{notes, 0, 0, true},
		{1, 0, 0, false},
		{1, jump, time.Second, true},
	} {
		s.now, s.wall = s.now+tt.pass, s.wall+tt.pass+tt.by
		moved, note := c.Watch()
		if moved != tt.moved || note != tt.note {
			t.Errorf("%+v: moved %v, note %v", tt, moved, note)
		}
		if note {
			c.Record()
		}
	}
}
