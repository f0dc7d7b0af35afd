package broker

import (
	"maps"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// After a reload every session is looked at again: may its client stay, what may it do. Each loop does it in
// slices (auth.Review) and serves its clients in between. Who connects meanwhile is held against the new
// settings from the start.

// recheck is the work under way on one loop.
type recheck struct {
	*auth.Review[*client]
	current **recheck // the one for all sessions that is under way; nil of one for some only
	done    func()
}

// recheck starts to look at all sessions, in place of what is under way; done is called at its end.
func (s *shard) recheck(done func()) {
	s.checking.end()
	r := s.newRecheck(nil, done)
	r.current, s.checking = &s.checking, r
	r.Run(s.loop)
}

// newRecheck makes one of the sessions that match, all with nil; done is called at its end.
func (s *shard) newRecheck(match func(*client) bool, done func()) *recheck {
	s.loop.MustBeHere()
	look := func(cl *client) int {
		if match != nil && !match(cl) {
			return 0
		}
		if !s.renew(cl) {
			s.kick(cl, codec.NotAuthorized)
		}
		return len(cl.subs)
	}
	return &recheck{Review: auth.NewReview(maps.Values(s.sessions), look, s.cover), done: done}
}

// Run implements wsnet.Task: one slice.
func (r *recheck) Run(l *wsnet.Loop) {
	switch {
	case r.current != nil && *r.current != r: // given up
	case r.Step():
		r.end()
	default:
		l.Again(r)
	}
}

// end is the end of all slices, or gives up what is left; r may be nil.
func (r *recheck) end() {
	if r == nil {
		return
	}
	if r.current != nil {
		*r.current = nil
	}
	r.End()
	r.done()
}
