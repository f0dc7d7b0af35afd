package lookup

import (
	"sync"
	"time"
)

// DigestEvery is the time in which a Digest says one thing.
const DigestEvery = 10 * time.Second

// Digest is for lines of the log that an outage would write by the thousand: the first is said at once, then
// one each DigestEvery, with how many there were in between. It may be used from any goroutine.
type Digest struct {
	say func(line string, more int)

	mu struct { // Guarded by mu:
		sync.Mutex
		last   string
		more   int         // since something was said
		timer  *time.Timer // nil when nothing was said for a while
		closed bool
	}
}

// NewDigest makes one that says a line, and how many others came since the one before it. say may be called
// on any goroutine, with no call at the same time.
func NewDigest(say func(line string, more int)) *Digest { return &Digest{say: say} }

// Add is a line.
func (d *Digest) Add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &d.mu
	switch {
	case m.closed:
	case m.timer != nil:
		m.last = line
		m.more++
	default:
		m.timer = time.AfterFunc(DigestEvery, d.tick)
		d.say(line, 0)
	}
}

// tick says what has come meanwhile.
func (d *Digest) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &d.mu
	if m.closed {
		return
	}
	if m.more == 0 {
		m.timer = nil
		return
	}
	m.timer.Reset(DigestEvery)
	d.tellLocked()
}

// tellLocked says the last line, and how many there were before it.
func (d *Digest) tellLocked() {
	d.say(d.mu.last, d.mu.more-1)
	d.mu.last, d.mu.more = "", 0
}

// Close says what is left to say. What is added afterwards is not said.
func (d *Digest) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &d.mu
	if m.timer != nil {
		m.timer.Stop()
	}
	if m.more > 0 && !m.closed {
		d.tellLocked()
	}
	m.closed = true
}
