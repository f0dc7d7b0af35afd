package session

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"noctule/broker/message"
	"noctule/codec"
)

// disk is what a store does for one durable session.
type disk struct {
	s      *Session
	stored map[uint64]*message.Message // by id: messages that the session has told of
	refs   map[uint64]int
	last   uint64
	wanted bool
	late   []Supplied // read for an earlier question, not supplied yet
}

func newDisk(s *Session) *disk {
	return &disk{s: s, stored: map[uint64]*message.Message{}, refs: map[uint64]int{}}
}

func (d *disk) changed(c Change) {
	st := c.Away
	if c.Message != nil {
		if c.Message.Stored == nil {
			d.last++
			c.Message.Stored = message.NewStored(d.last, c.Message)
		}
		st = c.Message.Stored
	}
	switch c.Kind {
	case Stored:
		d.stored[st.ID] = c.Message.Clone()
		d.refs[st.ID]++
	case Removed, Yielded:
		if st == nil {
			return
		}
		if d.refs[st.ID]--; d.refs[st.ID] == 0 {
			delete(d.stored, st.ID)
			delete(d.refs, st.ID)
		}
	case Wanted:
		if d.wanted {
			panic("asked twice")
		}
		d.wanted = true
	case Expired, Moved, Held, Released, Superseded:
	}
}

// read is the first n messages that the session wants.
func (d *disk) read(n int) (list []Supplied) {
	d.s.Wants(func(seq uint64, st *message.Stored) bool {
		m := d.stored[st.ID].Clone()
		m.Stored = st
		list = append(list, Supplied{Seq: seq, Message: m})
		return len(list) < n
	})
	return list
}

// someRead may answer the question, or an older one, or part of it.
func (d *disk) someRead(rnd *rand.Rand, sink Sink) {
	if !d.wanted {
		return
	}
	switch rnd.IntN(8) {
	case 0:
		d.wanted = false
		d.s.Supply(d.read(1+rnd.IntN(60)), 0, sink)
	case 1:
		d.late = d.read(1 + rnd.IntN(60))
	case 2:
		d.wanted = false
		d.s.Supply(d.late, 0, sink)
		d.late = nil
	case 3:
		d.wanted = false
		d.s.Supply(nil, 0, sink)
	}
}

// check holds the session against the invariants of kept.
func (d *disk) check(t *testing.T) {
	t.Helper()
	if err := d.s.Check(); err != nil {
		t.Fatal(err)
	}
	o := d.s.out
	if o == nil || o.kept == nil {
		return
	}
	var away, all int64
	for i := range o.queue.Len() {
		e := o.queue.At(i)
		if i < o.loaded() {
			if e.m == nil {
				t.Fatalf("entry %d of %d, %d away, has no message", i, o.queue.Len(), o.kept.away.Len())
			}
			all += e.m.Size()
			continue
		}
		st := *o.kept.away.At(i - o.loaded())
		if e.m != nil || d.stored[st.ID] == nil {
			t.Fatalf("entry %d of %d, %d away: message %v, stored %v", i, o.queue.Len(), o.kept.away.Len(), e.m, d.stored[st.ID])
		}
		away += st.Size
	}
	all += away
	if o.queueBytes != all || d.s.AwayBytes() != away || d.s.limits.Memory.Used() != all-away {
		t.Fatalf("%d bytes, %d away, %d counted; want %d, %d", o.queueBytes, d.s.AwayBytes(), d.s.limits.Memory.Used(), all, away)
	}
	if o.kept.asked != d.wanted {
		t.Fatalf("asked %v, told %v", o.kept.asked, d.wanted)
	}
	sendable := d.s.hasRoom(o) || o.queue.Len() > 0 && o.queue.At(0).qos() == 0 && !d.s.held
	if d.s.online && o.queue.Len() > 0 && o.loaded() == 0 && sendable && !o.kept.asked {
		t.Fatal("away, sendable and not asked for")
	}
}

// witness writes down what a client sees, and what a store is told.
type witness struct {
	said []string
	d    *disk
}

func (w *witness) SendPublish(m *message.Message, d message.Delivery) bool {
	w.said = append(w.said, fmt.Sprintf("PUBLISH %s %+v", m.Payload, d))
	return len(m.Payload) < 19
}

func (w *witness) SendAck(t codec.Type, id uint16, r codec.Reason) {
	w.said = append(w.said, fmt.Sprint(t, id, r))
}

func (w *witness) Changed(c Change) {
	w.d.changed(c)
	if c.Kind != Wanted {
		w.said = append(w.said, fmt.Sprint("change ", c.Kind, c.Seq, c.Grant, c.State, c.ID))
	}
}

// Two sessions get the same packets, messages and time; one of them gives messages up and gets them back as
// soon as it asks. They say the same at every step, expiry, QoS 0 and limits included.
func TestModelGivingUpChangesNothing(t *testing.T) {
	for range 40 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 1))
		limits := func(bound int64) *Limits {
			return &Limits{
				QueueQoS0: true, Queued: 300, QueuedBytes: 3000, InflightBytes: 200, Inflight: 15,
				Memory: &Memory{Bound: bound},
			}
		}
		bounds := [2]int64{1 << 40, []int64{0, 1, 100, 1000}[rnd.IntN(4)]}
		var s [2]Session
		var w [2]*witness
		for i := range s {
			s[i] = New(limits(bounds[i]))
			s[i].SetDurable()
			w[i] = &witness{d: newDisk(&s[i])}
		}
		now := int64(1)
		gaveUp := 0
		for step := range 4000 {
			op, at := steps(rnd, now), now
			now += rnd.Int64N(2)
			for i := range s {
				op(&s[i], w[i])
				for w[i].d.wanted {
					w[i].d.wanted = false
					s[i].Supply(w[i].d.read(1+step%50), at, w[i])
				}
				w[i].d.check(t)
			}
			gaveUp += int(s[1].AwayBytes())
			if a, b := fmt.Sprint(w[0].said), fmt.Sprint(w[1].said); a != b {
				t.Fatalf("seed %d, step %d: all in memory\n%s\nsome away\n%s", seed, step, a, b)
			}
			w[0].said, w[1].said = nil, nil
			if s[0].AwayBytes() != 0 || s[0].Queued() != s[1].Queued() || s[0].QueuedBytes() != s[1].QueuedBytes() {
				t.Fatalf("seed %d, step %d: queues of %d and %d", seed, step, s[0].Queued(), s[1].Queued())
			}
			if len(w[0].d.stored) != len(w[1].d.stored) {
				t.Fatalf("seed %d, step %d: %d and %d stored", seed, step, len(w[0].d.stored), len(w[1].d.stored))
			}
		}
		if gaveUp == 0 && bounds[1] < 1000 {
			t.Errorf("seed %d: nothing was given up", seed)
		}
		left := 0
		s[1].Stored(func(*message.Stored) { left++ })
		refs := 0
		for _, n := range w[1].d.refs {
			refs += n
		}
		if s[1].End(); left != refs || s[1].limits.Memory.Used() != 0 {
			t.Errorf("seed %d: %d messages of %d, %d bytes after the end", seed, left, refs, s[1].limits.Memory.Used())
		}
	}
}

// What has expired on disk is not read [MQTT-3.3.2-5].
func TestExpiredIsNotWanted(t *testing.T) {
	s := New(&Limits{Memory: &Memory{}})
	s.SetDurable()
	w := &witness{d: newDisk(&s)}
	for i := range 10 {
		m := message.New([]byte("t"), []byte("x"), 1, false)
		m.Expiry = 5
		if out := s.Deliver(m, Grant{QoS: uint8(1 + i%2)}, w); out != Queued {
			t.Fatal(out)
		}
	}
	s.Resume(0, 5, w)
	if w.d.wanted || s.Queued() != 0 || len(w.d.stored) != 0 {
		t.Errorf("wanted %v, %d queued, %d stored", w.d.wanted, s.Queued(), len(w.d.stored))
	}
}

// Where no store is configured an entry, and what a session has in flight, are as small as without all this.
func TestOutboundIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n > 24 {
		t.Errorf("an entry has %d bytes", n)
	}
	if n := unsafe.Sizeof(outbound{}); n > 128 {
		t.Errorf("the outbound state has %d bytes", n)
	}
}

// steps is one random step, the same for each session.
func steps(rnd *rand.Rand, now int64) func(s *Session, sink Sink) {
	k, id, n, other := rnd.IntN(100), uint16(1+rnd.IntN(40)), rnd.IntN(20), rnd.IntN(4)
	body := make([]byte, n)
	for i := range body {
		body[i] = 'a' + byte(rnd.IntN(26))
	}
	var expiry int64
	if other == 0 {
		expiry = now + int64(n)*10
	}
	return func(s *Session, sink Sink) {
		switch {
		case k < 50:
			m := message.New([]byte("t"), body, 2, false)
			m.Expiry = expiry
			g := Grant{QoS: uint8(n % 3), Retain: other == 1, SubscriptionID: uint32(other)}
			if g.QoS > 0 || !s.online {
				s.Deliver(m, g, sink)
			}
		case k < 68:
			_ = s.Puback(id, now, sink) // a wrong answer changes nothing
		case k < 82:
			_ = s.Pubrec(id, codec.Reason(other/3*0x80), now, sink)
		case k < 92:
			_ = s.Pubcomp(id, now, sink)
		case k < 94:
			s.Hold()
		case k < 96:
			s.Continue(now, sink)
		case k < 97:
			s.Suspend()
		default:
			if !s.online {
				s.Resume(uint16(n), now, sink)
			}
		}
	}
}

// A session that is made again gives up what it has no room for, in its order, and has in flight what was.
func TestRestoreAway(t *testing.T) {
	l := &Limits{Memory: &Memory{Bound: 8}}
	s := New(l)
	s.SetDurable()
	d := newDisk(&s)
	var list []Change
	for i := range uint64(10) {
		m := message.New([]byte("t"), fmt.Appendf(nil, "%03d", i), 1, false)
		m.Stored = message.Restored(i+1, m)
		d.stored[i+1], d.refs[i+1] = m, 1
		c := Change{Seq: 10 - i, Message: m, Grant: Grant{QoS: 2}}
		if c.Seq == 2 {
			c.ID, c.State = 7, WaitRec
		}
		list = append(list, c)
	}
	if f := Flying(list); len(f) != 2 || f[1].ID != 7 {
		t.Fatalf("%v in flight", f)
	}
	for i := 6; i < 8; i++ {
		list[i].Away, list[i].Message = list[i].Message.Stored, nil
	}
	s.Restore(list)
	d.check(t)
	if s.out.loaded() != 2 || s.Queued() != 8 || s.AwayBytes() != 18 {
		t.Errorf("%d of %d loaded, %d bytes away", s.out.loaded(), s.Queued(), s.AwayBytes())
	}
	w := &witness{d: d}
	s.Resume(0, 0, w)
	for d.wanted {
		d.wanted = false
		s.Supply(d.read(3), 0, w)
	}
	n := 0
	for _, line := range w.said {
		if want := fmt.Sprintf("PUBLISH %03d", 9-n); len(line) > len(want) && line[:len(want)] == want {
			n++
		}
	}
	if n != 10 || s.Queued() != 0 || l.Memory.Used() != 0 {
		t.Errorf("%d in order, %d queued, %d bytes counted: %q", n, s.Queued(), l.Memory.Used(), w.said)
	}
}
