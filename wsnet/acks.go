package wsnet

// ackSweep lets the acknowledgement of a request that comes after a silence travel with the answer: three
// packets instead of four for PINGREQ and PINGRESP.
//
// Linux delays a socket's ACKs as long as it takes it for an interactive one, and gives that up when a
// delayed ACK had to go alone, which is what a message that nobody answers does. It can be told otherwise,
// but only once the ACK is gone: told at once, it delays the ACK of the next message in vain and gives up
// again. So a loop keeps a list of the connections whose input was not answered, and a second later its tick
// tells those that have been silent since. The longest silence needed was 250 ms; it is one to two seconds
// here.
//
// Who sends more than one piece in such a second is left alone. A client with Nagle's algorithm that writes
// a packet in two pieces, or two packets at once, waits for the ACK of the first before it sends the second,
// and would wait for 40 ms. A connection that says something each second costs a few nanoseconds and no
// system call.
type ackSweep struct {
	// Set by newAckSweep, then read-only:
	delay func(fd int) // lets the kernel delay ACKs of a socket, if that is still there

	// Owned by the loop:
	marks  []uint8 // by file descriptor
	recent []int32 // that have a mark of this second
	before []int32 // that have one of the second before
}

// Marks of a file descriptor. Those of the second before are oldShift bits higher.
const (
	markOne   = 1 // there was input without an answer
	markMore  = 2 // more than once, or incomplete
	markThis  = markOne | markMore
	oldShift  = 2
	markAlone = markOne << oldShift // once in the second before, and not since
)

const (
	// maxRecent bounds how many connections a loop looks at in a second; others do as the kernel likes.
	maxRecent = 16384
	// maxDelays bounds the system calls of one tick: a millisecond.
	maxDelays = 4096
)

func newAckSweep(delay func(fd int)) *ackSweep { return &ackSweep{delay: delay} }

// unanswered notes that fd had input to which nothing was said in return; -1 is none. Whole says that it was
// neither the rest of a packet nor the beginning of one.
func (a *ackSweep) unanswered(fd int, whole bool) {
	if uint(fd) >= uint(len(a.marks)) {
		if fd < 0 {
			return
		}
		a.marks = append(a.marks, make([]uint8, max(1024, fd+1-len(a.marks), len(a.marks)))...)
	}
	m := a.marks[fd]
	switch {
	case m&markThis != 0:
		m |= markMore
	case len(a.recent) >= maxRecent:
		return
	default:
		a.recent = append(a.recent, int32(fd))
		m |= markOne
	}
	if !whole {
		m |= markMore
	}
	a.marks[fd] = m
}

// sweep is called once a second.
func (a *ackSweep) sweep() {
	delays := 0
	for _, fd := range a.before {
		if a.marks[fd] == markAlone && delays < maxDelays {
			a.delay(int(fd))
			delays++
		}
		a.marks[fd] &= markThis
	}
	for _, fd := range a.recent {
		a.marks[fd] <<= oldShift
	}
	a.before, a.recent = a.recent, a.before[:0]
}
