package broker

import (
	"maps"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// A client that was let in for a time, by a token for one, is ended when that is over. The time is the
// system's clock's, as those of tokens are, and that may be set; so the wheel has the time of the loop at
// which it will be over as things stand, and a client is looked at again now and then. Those whose time is
// over together are ended some a turn.

// Sizes of what is done when the time is over.
const (
	stayLook  = 64  // seconds after which it is looked at again at the latest
	leaveEach = 256 // clients that are ended in a turn
)

// stay is what is known of how long the client may be here, nil if nothing is.
func (c *client) stay() *auth.Stay {
	if r := c.rights(); r != nil {
		return r.Stay
	}
	return nil
}

// leavesAt is the second in which the time is over for which the client was let in, or before that one to
// look at it again; 0 means never.
func (c *client) leavesAt() int64 {
	st := c.stay()
	if st == nil || st.Expires == 0 {
		return 0
	}
	now := c.shard.loop.Now()
	left := st.Left(c.shard.b.clock.Source.Wall())
	return max(1, (now+min(left, stayLook*1000))/1000)
}

// outstayed reports whether the client's time is over.
func (c *client) outstayed() bool {
	st := c.stay()
	return st != nil && st.Left(c.shard.b.clock.Source.Wall()) <= 0
}

// expire has a client ended whose time is over.
func (s *shard) expire(cl *client) {
	s.loop.MustBeHere()
	s.expiring.Push(cl)
	if s.expiring.Len() == 1 {
		s.loop.Again(expiryTask{})
	}
}

// expiryTask ends the next ones whose time is over.
type expiryTask struct{}

// Run implements wsnet.Task.
func (t expiryTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	for range min(leaveEach, s.expiring.Len()) {
		cl := s.expiring.Pop()
		switch {
		case cl.conn == nil:
		case cl.outstayed():
			cl.kick(codec.MaximumConnectTime)
		default: // it has been renewed meanwhile
			cl.arm()
		}
	}
	if s.expiring.Len() > 0 {
		l.Again(t)
	}
}

// clockMoved looks again when the time of clients is over, since the system's clock was set.
func (s *shard) clockMoved() {
	s.loop.MustBeHere()
	look := func(cl *client) int {
		if st := cl.stay(); st != nil && st.Expires != 0 && cl.conn != nil {
			cl.arm()
		}
		return 0
	}
	s.loop.Again(reviewTask{auth.NewReview(maps.Values(s.sessions), look, nil, nil)})
}

// reviewTask looks again at many clients, in slices.
type reviewTask struct{ *auth.Review[*client] }

// Run implements wsnet.Task.
func (r reviewTask) Run(l *wsnet.Loop) {
	if !r.Step() {
		l.Again(r)
	}
}
