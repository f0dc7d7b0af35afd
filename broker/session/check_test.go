package session

import (
	"strings"
	"testing"

	"noctule/broker/message"
)

// TestCheckSees breaks a session in many ways, each of which Check must find.
func TestCheckSees(t *testing.T) {
	s := New(&Limits{Inflight: 3})
	s.SetDurable()
	s.Resume(0, 0, deaf{})
	m := message.New([]byte("t"), []byte("12345"), 1, false)
	for range 6 {
		s.Deliver(m, Grant{QoS: 1}, deaf{})
	}
	o := s.out
	in, waits := &o.flight.list, &o.queue
	for _, p := range []struct {
		want     string
		do, undo func()
	}{
		{"in flight, 3 counted", func() { s.window = 2 }, func() { s.window = 3 }},
		{"in flight, 2 counted", func() { o.flight.used-- }, func() { o.flight.used++ }},
		{"is in flight behind", func() { in.At(1).seq = 3 }, func() { in.At(1).seq = 2 }},
		{"or twice", func() { in.At(1).id = 1 }, func() { in.At(1).id = 2 }},
		{"packet id 3 at 2", func() { o.flight.last = 2 }, func() { o.flight.last = 3 }},
		{"packet id 9 at 1", func() { in.At(1).id = 9 }, func() { in.At(1).id = 2 }},
		{"0 gaps of 3, 1 counted", func() { o.flight.gaps++ }, func() { o.flight.gaps-- }},
		{"4 resent", func() { o.flight.resent++ }, func() { o.flight.resent-- }},
		{"message 6 waits behind 7", func() { waits.At(1).seq = 7 }, func() { waits.At(1).seq = 5 }},
		{"message 3 waits behind 3", func() { waits.At(0).seq = 3 }, func() { waits.At(0).seq = 4 }},
		{"1 of 3 that wait", func() { waits.At(1).m = nil }, func() { waits.At(1).m = m }},
		{"2 of 3 that wait", func() { waits.At(2).id = 4 }, func() { waits.At(2).id = 0 }},
		{"15 bytes wait, 16 counted", func() { o.queueBytes++ }, func() { o.queueBytes-- }},
		{"last message 6", func() { o.kept.seq-- }, func() { o.kept.seq++ }},
	} {
		p.do()
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), p.want) {
			t.Errorf("found %v, want %q", err, p.want)
		}
		p.undo()
		if err := s.Check(); err != nil {
			t.Fatalf("mended %q: %v", p.want, err)
		}
	}
}
