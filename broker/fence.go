package broker

import (
	"math/bits"

	"noctule/wsnet"
)

// fence tells a loop that it has all messages that other loops had for it at some time: each of them was
// asked, and its answer, which it posts at the end of a turn, comes behind what it had posted before. One
// round is under way at a time, whoever wants one meanwhile gets the next: its cost does not depend on how
// many do. With one loop there is nothing to wait for. It belongs to the loop.
type fence struct {
	begun, passed uint64 // numbers of rounds
	missing       int    // answers to the round under way
	wanted        bool   // another is to begin
	asked         uint64 // loops that wait for the answer of this one, as a bit set

	waiting, next     []*client     // have replays that wait for the round under way, for the one after
	heldNow, heldNext []*wsnet.Conn // likewise: are held until the replays have begun
}

// holdForFence takes no further packet of a client until the replays of its SUBSCRIBE have begun, behind the
// next round: what it sends right behind SUBSCRIBE, an UNSUBSCRIBE or a PINGREQ to know that all retained
// messages are there, finds them sent as with a broker of one loop.
func (s *shard) holdForFence(cl *client) {
	cl.conn.Hold()
	s.fence.heldNext = append(s.fence.heldNext, cl.conn)
}

// releaseTask lets a connection go on. It is booked behind the replays.
type releaseTask struct{ conn *wsnet.Conn }

// Run implements wsnet.Task.
func (t releaseTask) Run(l *wsnet.Loop) {
	t.conn.Release(l, wsnet.TaskFunc(func(*wsnet.Loop) {})) // false when it has ended
}

// wantFence is the number of a round that begins after the call: once it has passed, everything is here that
// other loops had for this one before. 0 with one loop.
func (s *shard) wantFence() uint64 {
	if len(s.b.shards) == 1 {
		return 0
	}
	s.fence.wanted = true
	return s.fence.begun + 1
}

// endFence answers the loops that have asked, behind the messages for them, and begins the next round, if one
// is wanted and none is under way.
func (s *shard) endFence() {
	s.loop.MustBeHere()
	f := &s.fence
	for ; f.asked != 0; f.asked &= f.asked - 1 {
		s.b.shards[bits.TrailingZeros64(f.asked)].loop.MustPost(fenceAnswer{}) // one a question
	}
	if !f.wanted || f.missing > 0 {
		return
	}
	f.wanted = false
	f.begun++
	f.missing = len(s.b.shards) - 1
	f.waiting, f.next = f.next, f.waiting[:0]
	f.heldNow, f.heldNext = f.heldNext, f.heldNow[:0]
	for i, other := range s.b.shards {
		if i != s.index {
			other.loop.MustPost(fenceQuestion(s.index)) // one a loop at a time
		}
	}
}

// fenceQuestion comes from the loop with that index.
type fenceQuestion uint8

// Run implements wsnet.Task.
func (q fenceQuestion) Run(l *wsnet.Loop) { l.Handler().(*shard).fence.asked |= 1 << q }

// fenceAnswer is the answer to the one question that the loop has put to another.
type fenceAnswer struct{}

// Run implements wsnet.Task.
func (fenceAnswer) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	f := &s.fence
	if f.missing--; f.missing > 0 {
		return
	}
	f.passed = f.begun
	for i, cl := range f.waiting {
		f.waiting[i] = nil
		s.replayLater(cl)
	}
	for i, conn := range f.heldNow {
		f.heldNow[i] = nil
		s.loop.Again(releaseTask{conn})
	}
	f.waiting, f.heldNow = f.waiting[:0], f.heldNow[:0]
	if cap(f.waiting) > fenceKeep {
		f.waiting, f.heldNow = nil, nil
	}
}

// fenceKeep is the longest list of waiting clients whose memory is kept.
const fenceKeep = 1024
