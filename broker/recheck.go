package broker

import (
	"iter"
	"maps"

	"noctule/codec"
	"noctule/wsnet"
)

// After a reload every session is looked at again: may its client stay, what may it do. With many sessions
// that takes long, so each loop does it in slices and serves its clients in between. Who connects meanwhile
// is held against the new settings from the start.

// recheckSlice is how many sessions and subscriptions one turn looks at.
const recheckSlice = 512

// recheck is the work under way on one loop.
type recheck struct {
	shard *shard
	next  func() (*client, bool) // sessions that were there when it began
	stop  func()
	cl    *client // the one being looked at
	left  int     // of its subscriptions, from the first, still to be looked at
	done  func()
	match func(*client) bool // of one for some only, which is in nobody's place; else nil
}

// recheck starts to look at all sessions, in place of what is under way; done is called at its end.
func (s *shard) recheck(done func()) {
	s.loop.MustBeHere()
	s.endRecheck()
	r := &recheck{shard: s, done: done}
	// The map may change between two steps: what is deleted is not seen, what is added need not be.
	r.next, r.stop = iter.Pull(maps.Values(s.sessions))
	s.checking = r
	r.Run(s.loop)
}

// recheckSome looks at the sessions that match, beside what is under way for all; done is called at its end.
func (s *shard) recheckSome(match func(*client) bool, done func()) {
	s.loop.MustBeHere()
	r := &recheck{shard: s, done: done, match: match}
	r.next, r.stop = iter.Pull(maps.Values(s.sessions))
	r.Run(s.loop)
}

// endRecheck gives up what is under way.
func (s *shard) endRecheck() {
	if r := s.checking; r != nil {
		s.checking = nil
		r.stop()
		r.done()
	}
}

// Run implements wsnet.Task: one slice.
func (r *recheck) Run(l *wsnet.Loop) {
	s := r.shard
	if r.match == nil && s.checking != r {
		return // given up
	}
	for budget := recheckSlice; budget > 0; budget-- {
		if r.left > 0 {
			// Backwards, since a removal meanwhile moves only what is behind it.
			n := min(r.left, budget)
			s.cover(r.cl, r.left-n, r.left)
			r.left -= n
			budget -= n
			continue
		}
		cl, ok := r.next()
		if !ok {
			r.end()
			return
		}
		if r.match != nil && !r.match(cl) {
			continue
		}
		if !s.renew(cl) {
			s.kick(cl, codec.NotAuthorized)
		}
		r.cl, r.left = cl, len(cl.subs)
	}
	l.Again(r)
}

// end is the end of all slices.
func (r *recheck) end() {
	if r.match == nil {
		r.shard.endRecheck()
		return
	}
	r.stop()
	r.done()
}
