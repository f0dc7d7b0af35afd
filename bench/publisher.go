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

const magic = 0x6e6f6374

func readHeader(b []byte) (h header, ok bool) {
	if len(b) < HeaderSize || binary.BigEndian.Uint32(b) != magic {
		return h, false
	}
	return header{
		publisher: binary.BigEndian.Uint32(b[4:]),
		seq:       binary.BigEndian.Uint32(b[8:]),
		due:       int64(binary.BigEndian.Uint64(b[12:])),
	}, true
}

func (h header) put(b []byte) {
	binary.BigEndian.PutUint32(b, magic)
	binary.BigEndian.PutUint32(b[4:], h.publisher)
	binary.BigEndian.PutUint32(b[8:], h.seq)
	binary.BigEndian.PutUint64(b[12:], uint64(h.due))
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
	n := len(p.topic) + g.Size
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
	b = append(b, c.loop.engine.filler[:g.Size]...)
	if g.Size >= HeaderSize {
		header{publisher: p.number, seq: p.seq, due: due}.put(b[len(b)-g.Size:])
	}
	c.out = b
	p.seq++
	c.loop.count.sent++
	c.loop.count.bytesSent += int64(g.Size)
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
