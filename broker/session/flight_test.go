package session

import (
	"math/rand/v2"
	"slices"
	"testing"

	"noctule/broker/message"
	"noctule/codec"
)

// check holds the flight against its invariants.
func (f *flight) check(t *testing.T) {
	t.Helper()
	if err := f.fault(); err != nil {
		t.Fatal(err)
	}
}

// TestModelFlight holds a flight against a list that is searched: which packet id comes next, and where each
// is, through many rounds of ids, with entries that stay for a few of them.
func TestModelFlight(t *testing.T) {
	for _, most := range []int{1, 3, 20, 100, 3000, 65535} {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 1))
		f := flight{last: uint16(rnd.UintN(65536))}
		used := [65536]bool{}
		var live []uint16
		last := f.last
		for step := range 400_000 {
			if len(live) < most && rnd.IntN(100) < 51 {
				want := last
				for want == 0 || used[want] || want == last {
					want++
				}
				if id := f.nextID(); id != want {
					t.Fatalf("seed %d, most %d, step %d: packet id %d, want %d", seed, most, step, id, want)
				}
				f.push(entry{}, want, 1)
				used[want], last = true, want
				live = append(live, want)
			} else if len(live) > 0 {
				k := rnd.IntN(len(live))
				switch rnd.IntN(4) {
				case 0, 1:
					k = 0
				case 2:
					k = len(live) - 1 - k/10
				}
				if len(live) > 2 && k < len(live)/16 && rnd.IntN(50) > 0 {
					k = len(live) / 16 // the oldest stay
				}
				id := live[k]
				i, ok := f.find(id)
				if !ok || f.list.At(i).id != id {
					t.Fatalf("seed %d, most %d, step %d: packet id %d at %d, %v", seed, most, step, id, i, ok)
				}
				f.remove(i)
				used[id] = false
				live = slices.Delete(live, k, k+1)
			}
			if id := uint16(rnd.UintN(65536)); !used[id] {
				if i, ok := f.find(id); ok {
					t.Fatalf("seed %d, most %d, step %d: packet id %d at %d is free", seed, most, step, id, i)
				}
			}
			if step%997 == 0 {
				f.check(t)
			}
		}
		i := 0
		for k := range f.list.Len() {
			if e := f.list.At(k); e.state != done {
				if e.id != live[i] {
					t.Fatalf("seed %d, most %d: %d. in order is %d, want %d", seed, most, i, e.id, live[i])
				}
				i++
			}
		}
		if i != len(live) || int(f.resent) != f.list.Len() {
			t.Fatalf("seed %d, most %d: %d live, want %d; %d of %d resent", seed, most, i, len(live), f.resent, f.list.Len())
		}
	}
}

// A message that is never acknowledged keeps its packet id and holds nothing up: only Receive Maximum limits
// [MQTT-3.3.4-9], ids advance past it, and what the flight takes does not grow. In the end its
// acknowledgement is taken.
func TestOneHeldBack(t *testing.T) {
	const total = 200_000
	for qos := uint8(1); qos <= 2; qos++ {
		s := New(&Limits{})
		a := &acker{}
		s.Resume(2, 0, a)
		m := message.New([]byte("t"), []byte("x"), 2, false)
		ack := func(id uint16) {
			if qos == 1 {
				_ = s.Puback(id, 0, a)
				return
			}
			_ = s.Pubrec(id, codec.Success, 0, a)
			_ = s.Pubcomp(id, 0, a)
		}
		for range 4 {
			s.Deliver(m, Grant{QoS: qos}, a)
			ack(a.ids[len(a.ids)-1])
		}
		s.Deliver(m, Grant{QoS: qos}, a)
		want := uint16(5)
		for n := range total {
			if out := s.Deliver(m, Grant{QoS: qos}, a); out != Sent {
				t.Fatalf("message %d: outcome %d", n, out)
			}
			if want++; want == 0 {
				want++
			}
			if want == 5 {
				want++
			}
			id := a.ids[len(a.ids)-1]
			if id != want {
				t.Fatalf("message %d has packet id %d, want %d", n, id, want)
			}
			ack(id)
		}
		s.out.flight.check(t)
		if s.Inflight() != 1 || s.Queued() != 0 || s.out.flight.list.Len() > 2*gapsMin {
			t.Errorf("%d in flight, %d wait, a list of %d", s.Inflight(), s.Queued(), s.out.flight.list.Len())
		}
		ack(5)
		if s.Inflight() != 0 || s.out.flight.list.Len() != 0 {
			t.Errorf("%d in flight", s.Inflight())
		}
	}
}

// All packet ids are in flight, and become free in another order than they were given.
func TestAllPacketIDsInFlight(t *testing.T) {
	s := New(&Limits{})
	a := &acker{}
	s.Resume(0, 0, a)
	m := message.New([]byte("t"), []byte("x"), 1, false)
	for n := range 65535 {
		if out := s.Deliver(m, Grant{QoS: 1}, a); out != Sent || a.ids[n] != uint16(n+1) {
			t.Fatalf("message %d: outcome %d, packet id %d", n, out, a.ids[n])
		}
	}
	if out := s.Deliver(m, Grant{QoS: 1}, a); out != Queued {
		t.Fatalf("without a free packet id: outcome %d", out)
	}
	for _, id := range []uint16{40000, 39999, 65535, 1, 2} { // the first goes to who waits
		_ = s.Puback(id, 0, a)
		if id != 40000 {
			s.Deliver(m, Grant{QoS: 1}, a)
		}
		if got := a.ids[len(a.ids)-1]; got != id {
			t.Errorf("packet id %d, only %d is free", got, id)
		}
	}
	s.out.flight.check(t)
	if s.Inflight() != 65535 || s.Queued() != 0 {
		t.Errorf("%d in flight, %d wait", s.Inflight(), s.Queued())
	}
}

// An acknowledgement that comes once more, after its packet id has become free, ends no other message
// [MQTT-4.3.2-3].
func TestLateAcknowledgement(t *testing.T) {
	s := New(&Limits{})
	a := &acker{}
	s.Resume(1, 0, a)
	m := message.New([]byte("t"), []byte("x"), 1, false)
	for n := range 65534 {
		s.Deliver(m, Grant{QoS: 1}, a)
		id := a.ids[n]
		_ = s.Puback(id, 0, a)
		s.Deliver(m, Grant{QoS: 1}, a)
		_ = s.Puback(id, 0, a)
		if s.Inflight() != 1 {
			t.Fatalf("the second PUBACK of %d ended another message", id)
		}
		a.ids = a.ids[:n+1]
		_ = s.Puback(s.out.flight.last, 0, a)
	}
}

// Restore keeps the packet ids that were told, in the order of the messages, whatever the ids are; a message
// without one, or with one that another has, gets one that is free [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func TestRestoreKeepsPacketIDs(t *testing.T) {
	for range 200 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rnd.IntN(60)
		var list []Change
		want := make([]uint16, n)
		seen := map[uint16]bool{}
		m := message.New([]byte("t"), []byte("x"), 2, false)
		for i := range n {
			c := Change{Seq: uint64(i + 1), Message: m, Grant: Grant{QoS: 2}, State: WaitRec, ID: uint16(65500 + rnd.UintN(100))}
			switch {
			case c.ID == 0, seen[c.ID], rnd.IntN(5) == 0 && i < n-1:
				if !seen[c.ID] { // else it has one that is taken
					c.ID, c.State, c.Grant.QoS = 0, Waiting, 1
				}
			default:
				want[i], seen[c.ID] = c.ID, true
			}
			list = append(list, c)
		}
		rnd.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
		s := New(&Limits{})
		s.SetDurable()
		s.Restore(list)
		s.out.flight.check(t)
		flying := s.out.flight.list.Len()
		a := &acker{}
		s.Resume(0, 0, a)
		s.out.flight.check(t)
		if len(a.ids) != n {
			t.Fatalf("seed %d: %d of %d sent", seed, len(a.ids), n)
		}
		for i, id := range a.ids {
			if want[i] != 0 && id != want[i] || want[i] == 0 && seen[id] {
				t.Fatalf("seed %d: packet ids %v, want %v, %d in flight", seed, a.ids, want, flying)
			}
			seen[id] = seen[id] || want[i] == 0
		}
	}
}

// More entries in flight than there are packet ids, as no broker leaves them: the rest waits.
func TestRestoreTooMany(t *testing.T) {
	m := message.New([]byte("t"), []byte("x"), 2, false)
	var list []Change
	for i := range uint64(70_000) {
		list = append(list, Change{Seq: i + 1, Message: m, Grant: Grant{QoS: 2}, State: WaitRec, ID: 9})
	}
	s := New(&Limits{})
	s.SetDurable()
	s.Restore(list)
	s.out.flight.check(t)
	if n := s.Queued(); n != 70_000-65535 {
		t.Errorf("%d wait", n)
	}
	a := &acker{}
	s.Resume(0, 0, a)
	if s.Inflight() != 65535 {
		t.Errorf("%d in flight", s.Inflight())
	}
}
