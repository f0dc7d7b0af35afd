package session

import (
	"fmt"
	"strings"
	"testing"

	"noctule/broker/message"
)

// What a session that has ended leaves to others: by a shared subscription, QoS 1 or what was never sent
// [MQTT-4.8.2-5], the oldest first, wherever it is, n at a time. Of everything the store is told that it is gone.
func TestBequeath(t *testing.T) {
	for _, bound := range []int64{-1, 0, 4, 1 << 20} { // -1: not durable
		for _, n := range []int{1, 3, 100} {
			l := &Limits{QueueQoS0: true, Totals: &Totals{}}
			s := New(l)
			d := newDisk(&s)
			w := &witness{d: d}
			if bound >= 0 {
				l.Memory = &Memory{Bound: bound}
				s.SetDurable()
			}
			deliver := func(name string, qos, share uint8) {
				s.Deliver(message.New([]byte("t"), []byte(name), 2, false), Grant{QoS: qos, Share: share}, w)
			}
			s.Resume(4, 0, w)
			deliver("a", 1, 1)
			deliver("b", 2, 1)
			deliver("c", 1, 0)
			deliver("d", 1, 3)
			_ = s.Pubrec(2, 0, 0, w)
			s.Suspend()
			deliver("e", 2, 2)
			deliver("f", 0, 1)
			deliver("g", 1, 0)
			deliver("h", 1, 1)
			s.Forget()
			var got strings.Builder
			for rest := SomeLeft; rest != NoneLeft; {
				rest = s.Bequeath(n, w, func(m *message.Message, share uint8) { fmt.Fprintf(&got, "%s%d ", m.Payload, share) })
				if rest == AwayLeft {
					if !d.wanted || s.Bequeath(n, w, nil) != AwayLeft {
						t.Fatal("not asked for what is away")
					}
					d.wanted = false
					s.Supply(d.read(2), 0, w)
				}
			}
			if got.String() != "a1 d3 e2 h1 " || s.Outgoing() != 0 || len(d.refs) != 0 {
				t.Errorf("bound %d, %d at a time: %s; %d left, %d stored", bound, n, got.String(), s.Outgoing(), len(d.refs))
			}
			s.End()
			if *l.Totals != (Totals{}) || l.Memory != nil && l.Memory.Used() != 0 {
				t.Errorf("bound %d: totals %+v", bound, *l.Totals)
			}
		}
	}
}
