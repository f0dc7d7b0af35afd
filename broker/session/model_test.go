package session

import (
	"math/rand/v2"
	"testing"

	"noctule/broker/message"
	"noctule/codec"
)

// receiver is a correct MQTT client that loses its connection at times: it checks what the machine
// promises.
type receiver struct {
	t       *testing.T
	rnd     *rand.Rand
	s       *Session
	window  int
	got     []int          // payload numbers, in order of first arrival
	seen    map[int]bool   // by payload number
	open    map[uint16]int // unacknowledged on this connection
	rec     map[uint16]bool
	answers []answer
	disk    *disk // of a durable session
}

type answer struct {
	t  codec.Type
	id uint16
}

func (r *receiver) SendPublish(m *message.Message, d message.Delivery) bool {
	n := int(m.Payload[0])<<16 | int(m.Payload[1])<<8 | int(m.Payload[2])
	if _, ok := r.open[d.PacketID]; ok {
		r.t.Fatalf("packet id %d sent while unacknowledged on the same connection", d.PacketID)
	}
	if !d.Dup && r.rec[d.PacketID] {
		r.t.Fatalf("packet id %d reused before PUBREL", d.PacketID)
	}
	r.open[d.PacketID] = n
	if len(r.open) > r.window {
		r.t.Fatalf("%d in flight, window %d", len(r.open), r.window)
	}
	fresh := !r.seen[n]
	if d.QoS == 2 && r.rec[d.PacketID] {
		fresh = false
	}
	if !fresh && !d.Dup {
		r.t.Fatalf("message %d came twice without DUP", n)
	}
	if fresh {
		r.seen[n] = true
		r.got = append(r.got, n)
	}
	if d.QoS == 1 {
		r.answers = append(r.answers, answer{codec.PUBACK, d.PacketID})
	} else {
		r.rec[d.PacketID] = true
		r.answers = append(r.answers, answer{codec.PUBREC, d.PacketID})
	}
	return true
}

func (r *receiver) SendAck(t codec.Type, id uint16, _ codec.Reason) {
	if t != codec.PUBREL {
		r.t.Fatalf("unexpected %s", t)
	}
	if _, ok := r.open[id]; !ok {
		r.open[id] = -1
	}
	if len(r.open) > r.window {
		r.t.Fatalf("%d in flight with PUBREL, window %d", len(r.open), r.window)
	}
	delete(r.rec, id)
	r.answers = append(r.answers, answer{codec.PUBCOMP, id})
}

func (r *receiver) Changed(c Change) {
	if c.Kind == Expired {
		r.t.Fatal("nothing expires here")
	}
	if r.disk == nil {
		r.t.Fatal("a session that is not durable tells")
	}
	r.disk.changed(c)
}

// answer sends one pending acknowledgement, not always the oldest.
func (r *receiver) answer() {
	i := 0
	if r.rnd.IntN(4) == 0 {
		i = r.rnd.IntN(len(r.answers))
	}
	a := r.answers[i]
	r.answers = append(r.answers[:i], r.answers[i+1:]...)
	if a.t != codec.PUBREC {
		delete(r.open, a.id)
	}
	var err error
	switch a.t {
	case codec.PUBACK:
		err = r.s.Puback(a.id, 0, r)
	case codec.PUBREC:
		err = r.s.Pubrec(a.id, codec.Success, 0, r)
	default:
		err = r.s.Pubcomp(a.id, 0, r)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *receiver) reconnect() {
	r.s.Suspend()
	r.open, r.answers = map[uint16]int{}, nil
	r.window = 1 + r.rnd.IntN(30)
	r.s.Resume(uint16(r.window), 0, r)
}

// TestModelNothingLostAgainstLossyClient drives the machine with random deliveries, acknowledgements and
// reconnects: all messages arrive, once as far as QoS 2 promises it, in order of first arrival, inside the
// window.
func TestModelNothingLostAgainstLossyClient(t *testing.T) {
	for round := range 20 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 1))
		totals := &Totals{}
		l := &Limits{Totals: totals}
		s := New(l)
		r := &receiver{t: t, rnd: rnd, s: &s, seen: map[int]bool{}, rec: map[uint16]bool{}}
		if round%2 == 1 { // messages come and go
			l.Memory = &Memory{Bound: rnd.Int64N(100)}
			s.SetDurable()
			r.disk = newDisk(&s)
		}
		r.reconnect()
		const total = 5000
		sent := 0
		for sent < total || len(r.answers) > 0 || s.Queued() > 0 {
			if r.disk != nil {
				r.disk.check(t)
				r.disk.someRead(rnd, r)
			}
			switch k := rnd.IntN(100); {
			case k < 45 && sent < total:
				p := []byte{byte(sent >> 16), byte(sent >> 8), byte(sent)}
				s.Deliver(message.New([]byte("t"), p, 2, false), Grant{QoS: uint8(1 + rnd.IntN(2))}, r)
				sent++
			case k < 97 && len(r.answers) > 0:
				r.answer()
			case k == 97:
				s.Hold()
			case k < 99:
				s.Continue(0, r)
			case k == 99:
				r.reconnect()
			}
			if err := s.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if s.online && s.Queued() > 0 && s.hasRoom(s.out) && s.out.loaded() > 0 {
				t.Fatalf("seed %d: messages wait although there is room", seed)
			}
			if want := (Totals{int64(s.Queued()), s.QueuedBytes(), s.AwayBytes(), int64(s.Inflight())}); *totals != want {
				t.Fatalf("seed %d: totals %+v, want %+v", seed, *totals, want)
			}
		}
		for i, n := range r.got {
			if i != n {
				t.Fatalf("seed %d: arrival %d is message %d", seed, i, n)
			}
		}
		if len(r.got) != total {
			t.Fatalf("seed %d: %d of %d arrived", seed, len(r.got), total)
		}
	}
}

// TestTotals sums over sessions with messages that wait and that are in flight, and one that was restored.
func TestTotals(t *testing.T) {
	l := &Limits{Inflight: 2, Totals: &Totals{}}
	list := make([]Session, 4)
	for i := range list {
		list[i] = New(l)
	}
	m := message.New([]byte("t"), []byte("12345"), 1, false)
	list[3].SetDurable()
	list[3].Restore([]Change{{Seq: 1, Message: m, Grant: Grant{QoS: 1}}, {Seq: 2, Message: m, Grant: Grant{QoS: 1}}})
	r := deaf{}
	for i := range 3 {
		list[i].Resume(0, 0, r)
		for range 3 {
			list[i].Deliver(m, Grant{QoS: 1}, r)
		}
	}
	for i, want := range []Totals{{5, 25, 0, 6}, {4, 20, 0, 4}, {3, 15, 0, 2}, {2, 10, 0, 0}, {}} {
		if *l.Totals != want {
			t.Errorf("%d forgotten: %+v, want %+v", i, *l.Totals, want)
		}
		if i < len(list) {
			list[i].Forget()
			list[i].Forget() // once is enough
			list[i].Deliver(m, Grant{QoS: 1}, r)
		}
	}
}

// deaf is a client that acknowledges nothing.
type deaf struct{}

func (deaf) SendPublish(*message.Message, message.Delivery) bool { return true }
func (deaf) SendAck(codec.Type, uint16, codec.Reason)            {}
func (deaf) Changed(Change)                                      {}
