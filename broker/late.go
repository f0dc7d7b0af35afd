package broker

import "slices"

// late is an answer that waits for the disk, but not for long: UNSUBACK. A client that wants no more of
// something is not held up by a disk that is full or stands still; what it has had removed is removed from
// the store when that is possible. A kill before that brings the subscription back: the client gets what it
// does not want, and loses nothing.
type late struct {
	cl    *client
	raw   []byte
	post  uint64
	until int64 // milliseconds
}

// lateMost is how long such an answer waits, in milliseconds; up to a second more, as ticks come.
const lateMost = 1000

// sendLate is send for an answer that waits for the disk, and behind what waits, for no longer than that,
// and not while the store fails.
func (c *client) sendLate(p packet) error {
	s, j := c.shard, c.shard.journal
	gate := c.gate()
	changed := j.Changed() && j.Gates
	if gate == nil && !changed {
		return c.send(p)
	}
	n := p.Len(c.version)
	if err := c.fits(n); err != nil {
		return err
	}
	c.sent(n)
	if s.journal.Failing() {
		p.Append(c.reserveNow(n)[:0], c.version)
		return nil
	}
	l := late{cl: c, raw: p.Append(nil, c.version), until: s.loop.Now() + lateMost}
	if changed {
		l.post = j.Ticket().Number
	} else {
		l.post = gate.Last()
	}
	s.late = append(s.late, l)
	return nil
}

// answerLate lets out what need not wait any longer when all up to a post is durable.
func (s *shard) answerLate(post uint64, now int64) {
	s.loop.MustBeHere()
	if len(s.late) == 0 {
		return
	}
	all := s.journal.Failing()
	s.late = slices.DeleteFunc(s.late, func(l late) bool {
		if !all && l.post > post && l.until > now {
			return false
		}
		copy(l.cl.reserveNow(len(l.raw)), l.raw)
		return true
	})
}
