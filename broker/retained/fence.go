package retained

// Fence tells a loop that it has all messages that other loops had for it at some time: each of them was
// asked, and its answer, which it posts at the end of a turn, comes behind what it had posted before. One
// round is under way at a time, whoever wants one meanwhile gets the next: its cost does not depend on how
// many do. With one loop there is nothing to wait for. It belongs to the loop.
//
// C are clients whose replays wait for a round, H connections that are held until the replays have begun. The
// zero value is ready.
type Fence[C, H any] struct {
	begun, passed uint64 // numbers of rounds
	missing       uint64 // loops that have not answered in the round under way, as a bit set
	wanted        bool   // another is to begin
	asked         uint64 // loops that wait for the answer of this one, as a bit set

	waiting, next     []C // wait for the round under way, for the one after
	heldNow, heldNext []H // likewise
}

// Passed is the number of the last round that has passed.
func (f *Fence[C, H]) Passed() uint64 { return f.passed }

// Want is the number of a round that begins after the call: once it has passed, everything is here that other
// loops had for this one before. 0 if there is one loop.
func (f *Fence[C, H]) Want(loops int) uint64 {
	if loops == 1 {
		return 0
	}
	f.wanted = true
	return f.begun + 1
}

// Wait has a client hear of the round that Want has returned last.
func (f *Fence[C, H]) Wait(c C) { f.next = append(f.next, c) }

// Hold has a connection hear of it, behind the clients.
func (f *Fence[C, H]) Hold(h H) { f.heldNext = append(f.heldNext, h) }

// Ask notes that another loop has asked.
func (f *Fence[C, H]) Ask(loop int) { f.asked |= 1 << loop }

// EndTurn says which loops are to be answered, behind the messages for them, and which are to be asked then,
// since a round begins: both as bit sets. others are all loops but this.
func (f *Fence[C, H]) EndTurn(others uint64) (answer, ask uint64) {
	answer, f.asked = f.asked, 0
	if !f.wanted || f.missing != 0 {
		return answer, 0
	}
	f.wanted = false
	f.begun++
	f.missing = others
	f.waiting, f.next = f.next, f.waiting[:0]
	f.heldNow, f.heldNext = f.heldNext, f.heldNow[:0]
	return answer, others
}

// fenceKeep is the longest list of waiting clients whose memory is kept.
const fenceKeep = 1024

// Answer notes that a loop has answered. With the last of a round those hear that have waited for it.
func (f *Fence[C, H]) Answer(loop int, goOn func(c C), release func(h H)) {
	if f.missing &^= 1 << loop; f.missing != 0 {
		return
	}
	f.passed = f.begun
	for _, c := range f.waiting {
		goOn(c)
	}
	for _, h := range f.heldNow {
		release(h)
	}
	clear(f.waiting)
	clear(f.heldNow)
	f.waiting, f.heldNow = f.waiting[:0], f.heldNow[:0]
	if cap(f.waiting) > fenceKeep {
		f.waiting, f.heldNow = nil, nil
	}
}
