//go:build linux

package bench

import (
	"encoding/binary"
	"sync/atomic"

	"noctule/codec"
)

// publisher is the sending half of a client. It belongs to the client's loop except for what is atomic.
type publisher struct {
	// Set before the run, then read-only:
	client *client
	number uint32
	fan    int64  // deliveries a message makes
	topic  []byte // encoded: length and name
	period int64  // ns between messages; 0: closed loop
	window int64

	// Owned by the loop:
	start    int64  // Unix ns when number 0 is due
	seq      uint32 // of the next message
	due      uint32 // messages with numbers below are due
	unacked  int64
	packetID uint16
	active   bool
	queued   bool // in the loop's list of those that may send

	// Atomic:
	reached atomic.Int64 // deliveries
}

// header is what a payload begins with.
type header struct {
	publisher uint32
	seq       uint32
	due       int64 // Unix ns when the message was to be sent
}

// The header is 2 bytes of magic, 3 of publisher, 4 of seq and the low 7 of due: 16 bytes, since that is the
// payload in the open benchmark suite. The rest of due follows from the time of arrival, 2 years either way.
const (
	magic         = 0x6e6f
	dueBits       = 56
	maxPublishers = 1 << 24
)

// readHeader reads a header that arrived at now, Unix ns.
func readHeader(b []byte, now int64) (h header, ok bool) {
	if len(b) < HeaderSize || binary.BigEndian.Uint16(b) != magic {
		return h, false
	}
	low := int64(binary.BigEndian.Uint64(b[8:]) & (1<<dueBits - 1))
	age := (now - low) << (64 - dueBits) >> (64 - dueBits) // signed
	return header{
		publisher: binary.BigEndian.Uint32(b[1:]) & (maxPublishers - 1),
		seq:       binary.BigEndian.Uint32(b[5:]),
		due:       now - age,
	}, true
}

func (h header) put(b []byte) {
	// From the end: each field's first byte is overwritten by the one before it.
	binary.BigEndian.PutUint64(b[8:], uint64(h.due))
	binary.BigEndian.PutUint32(b[5:], h.seq)
	binary.BigEndian.PutUint32(b[1:], h.publisher)
	binary.BigEndian.PutUint16(b, magic)
}

// delivered counts one delivery, on loop l.
func (p *publisher) delivered(l *loop) {
	p.reached.Add(1)
	if p.period == 0 {
		p.wake(l)
	}
}

// acknowledged counts one acknowledgement.
func (p *publisher) acknowledged(l *loop) {
	p.unacked--
	l.count.acknowledged++
	p.wake(l)
}

// wake lets the publisher send at the end of the turn.
func (p *publisher) wake(l *loop) {
	switch {
	case p.client.loop != l:
		l.elsewhere[p] = struct{}{}
	case !p.queued && p.active:
		p.queued = true
		l.senders = append(l.senders, p)
	}
}

// maxTail is how many bytes the socket may be behind before a publisher waits.
const maxTail = 256 << 10

// send appends what may be sent now.
func (p *publisher) send(now int64) {
	c := p.client
	for p.active && c.stage == ready && len(c.tail) < maxTail && len(c.out) < maxTail {
		if limit := c.group.Limit; limit > 0 && p.seq >= limit {
			p.active = false
			return
		}
		due := now
		switch {
		case p.period == 0 && p.outstanding() >= p.window:
			return
		case p.period > 0:
			if p.seq >= p.due || p.window > 0 && c.group.QoS > 0 && p.unacked >= p.window {
				return
			}
			due = p.start + int64(p.seq)*p.period
		}
		p.publish(due)
	}
}

// outstanding is the number of messages sent whose deliveries, or acknowledgements, are not complete.
func (p *publisher) outstanding() int64 {
	if p.fan > 0 {
		n := int64(p.seq) - p.reached.Load()/p.fan
		return max(n, p.unacked)
	}
	return p.unacked
}

// publish appends one message.
func (p *publisher) publish(due int64) {
	c, g := p.client, p.client.group
	v5 := c.loop.engine.target.Version == codec.V5
	if g.TopicOf != nil {
		p.topic = encoded(g.TopicOf(c.index, p.seq))
	}
	size := g.Size
	if g.Clear {
		size = 0
	}
	n := len(p.topic) + size
	if g.QoS > 0 {
		n += 2
	}
	if v5 {
		n++
	}
	flags := g.QoS << 1
	if g.Retain {
		flags |= 1
	}
	c.touch()
	b := append(codec.AppendHeader(c.out, codec.PUBLISH, flags, n), p.topic...)
	if g.QoS > 0 {
		p.packetID++
		if p.packetID == 0 {
			p.packetID = 1
		}
		b = binary.BigEndian.AppendUint16(b, p.packetID)
		p.unacked++
	}
	if v5 {
		b = append(b, 0)
	}
	b = append(b, c.loop.engine.filler[:size]...)
	if size >= HeaderSize {
		header{publisher: p.number, seq: p.seq, due: due}.put(b[len(b)-size:])
	}
	c.out = b
	p.seq++
	c.loop.count.sent++
	c.loop.count.bytesSent += int64(size)
}

// pacer makes the messages of publishers with one period due, one after the other, evenly spread.
type pacer struct {
	pubs  []*publisher
	next  int   // whose turn it is
	round int64 // how often all have had theirs
}

// at is the time of the next turn.
func (p *pacer) at() int64 {
	return p.pubs[p.next].start + p.round*p.pubs[p.next].period
}

// begin spreads the publishers over their period.
func (p *pacer) begin(start int64) {
	for i, pub := range p.pubs {
		pub.start = start + pub.period*int64(i)/int64(len(p.pubs))
		pub.active = true
	}
}

// run makes due what is due.
func (p *pacer) run(l *loop) {
	for {
		at := p.at()
		if at > l.now {
			return
		}
		pub := p.pubs[p.next]
		if pub.active {
			pub.due++
			pub.wake(l)
			l.lateness.record(l.now-at, at)
		}
		if p.next++; p.next == len(p.pubs) {
			p.next, p.round = 0, p.round+1
		}
	}
}
