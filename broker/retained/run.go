package retained

import "noctule/broker/message"

// Receiver is the client as its Queue sees it.
type Receiver interface {
	// Current is what the client has of a filter now, by a subscription of its own or by the list of r; false
	// when it has it no longer, or otherwise.
	Current(r *Replay, filter string) (Topic, bool)
	// Behind reports whether messages of this loop from before r has asked first may still come live for a
	// topic. Those of other loops have come with the round of r.
	Behind(r *Replay, t Topic) bool
	// Room reports whether a message of the topic under way can be sent Now.
	Room(r *Replay) Progress
	// Give sends one message of the topic under way; those above the mark come live.
	Give(r *Replay, m *message.Message, mark uint64)
}

// Progress is what has become of a replay in a turn.
type Progress uint8

// The values of Progress.
const (
	Now   Progress = iota
	Later          // in a later turn
	Waits          // for an acknowledgement, a round or the socket, which go on with it
	Over           // all is sent
)

// Steps is how many topics one turn looks at for one client.
const Steps = 500

// Run goes on with the oldest replay and takes what it looks at off left. passed is the last round that has
// passed. The receiver is asked once a call at least what the subscription is now: it, or what the client may
// read, may have changed since the last.
func (q *Queue) Run(x *Index, to Receiver, passed uint64, left *int) Progress {
	if q.fence > passed {
		return Waits
	}
	r := q.first
	give := func(_ string, m *message.Message) { to.Give(r, m, r.mark) }
	for current := false; *left > 0; current = true {
		if r.cursor == nil || !current && !r.refresh(to) {
			*left-- // looking costs something too
			if p := r.begin(x, to, passed); p != Now {
				return p
			}
			continue
		}
		if p := to.Room(r); p != Now {
			return p
		}
		*left--
		if r.cursor.Next(1, give) {
			if !r.list {
				return Over
			}
			r.cursor = nil
		}
	}
	return Later
}

// refresh reads what the subscription under way is now; false when the client has it no longer.
func (r *Replay) refresh(to Receiver) bool {
	t, ok := to.Current(r, r.ID.Filter())
	if ok {
		r.Topic = t
	}
	return ok
}

// begin makes the cursor, of a list for its next topic. If it cannot Now, it says why.
func (r *Replay) begin(x *Index, to Receiver, passed uint64) Progress {
	r.cursor = nil
	switch {
	case r.list:
		return r.nextTopic(x, to, passed)
	case !r.refresh(to):
		return Over
	case r.fence > passed:
		return Waits
	case to.Behind(r, r.Topic):
		return Later
	}
	r.cursor = x.Cursor([]byte(r.ID.Filter()))
	return Now
}

// nextTopic begins with the next topic of a list that the client still has by it. The topics may be of a list
// that has gone meanwhile, with ids that stand for nothing any more: what the client has now counts.
func (r *Replay) nextTopic(x *Index, to Receiver, passed uint64) Progress {
	for n := 0; len(r.lots) > 0; n++ {
		l := &r.lots[0]
		if len(l.todo) == 0 {
			l.todo = nil
			r.lots = r.lots[1:]
			continue
		}
		if n >= Steps {
			return Later // the rest
		}
		if l.fence > passed {
			return Waits
		}
		next := &l.todo[0]
		t, ok := to.Current(r, next.ID.Filter())
		ok = ok && next.RetainHandling != 2
		if ok && to.Behind(r, t) {
			return Later
		}
		l.todo = l.todo[1:]
		if ok {
			r.Topic, r.mark = t, l.mark
			r.cursor = x.Cursor([]byte(t.ID.Filter()))
			return Now
		}
	}
	return Over
}
