package retained

import (
	"slices"
	"strings"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
)

// Topic is a plain topic that a client is subscribed to.
type Topic struct {
	ID             topictree.FilterID
	SubID          uint32 // Subscription Identifier; 0 none
	Options        fanout.Options
	RetainHandling uint8
	Had            bool // in a list of what is new: the client had it before, by whatever subscription
}

// ByFilter compares a topic with a filter, for a search in a sorted list.
func ByFilter(t Topic, filter string) int { return strings.Compare(t.ID.Filter(), filter) }

// Queue is what one client is still to be sent, oldest first. There is one Replay a filter at most, and one a
// list: whoever subscribes again and again without taking the messages begins anew and holds no more memory.
// The zero value is ready. It belongs to the client's loop.
type Queue struct {
	first, last *Replay
	of          map[topictree.FilterID]*Replay // those for single subscriptions

	// For who runs it:
	Booked bool // a further turn is booked

	fence  uint64 // the round of other loops' mail that it waits for since the session was resumed
	listed uint64 // the last round in whose list of clients it is

	// Resumed is the mark of the last CONNECT that found replays. Up to it, live messages of QoS 0 were
	// lost to a session without a connection, so the cursor has them too.
	Resumed uint64
}

// Replay is the retained messages for one subscription, or for a list of topics that others have given, sent
// piece by piece.
type Replay struct {
	prev, next *Replay
	cursor     *topictree.Cursor[*message.Message] // nil: it has not begun; of a list, between two topics
	mark       uint64                              // messages with a higher number come live
	fence      uint64                              // the round that must have passed before it begins
	skip       uint64                              // until it begins, live messages up to it are left out

	Topic // what it sends, as the subscription is now; of a list, the topic under way
	Wait  Behind

	list bool
	lots []lot // of a list: what is still to come
}

// Behind is what was under way on the loop when a Receiver was first asked about it.
type Behind struct {
	Slices   fanout.Barrier // of the topic's filter
	passages bool           // for passages under way, until this number of them are over
	until    uint32
}

// Passed reports whether the passages that were under way when b was first asked about are over. over is how
// many of the loop have ended ever, under how many have not. Then b is to be asked Again.
func (b *Behind) Passed(over uint32, under int) bool {
	if !b.passages {
		b.passages, b.until = true, over+uint32(under)
	}
	return int32(b.until-over) <= 0 // the number may wrap
}

// Again has b note what is under way anew.
func (b *Behind) Again() { b.passages = false }

// lot is topics that a list got at one time, by filter.
type lot struct {
	todo        []Topic // never written to: it may be a part of a set
	mark, fence uint64
}

// Due reports whether a subscription gets retained messages: MQTT 5 by Retain Handling [MQTT-3.3.1-9]
// [MQTT-3.3.1-10] [MQTT-3.3.1-11], 3.1.1 always, 3.1 only a new one.
func Due(v codec.Version, handling uint8, isNew bool) bool {
	switch v {
	case codec.V5:
		return handling == 0 || handling == 1 && isNew
	case codec.V31:
		return isNew
	default:
		return true
	}
}

// One is a replay for a subscription, new if the client did not have it before. It is added with Add.
func One(id topictree.FilterID, isNew bool) *Replay {
	return &Replay{Topic: Topic{ID: id, Had: !isNew}}
}

// List is a replay for what a client is given, which Give fills.
func List() *Replay { return &Replay{list: true} }

// IsList reports whether it is for a list.
func (r *Replay) IsList() bool { return r.list }

// Empty reports whether nothing is still to be sent.
func (q *Queue) Empty() bool { return q.first == nil }

// First is the oldest replay.
func (q *Queue) First() *Replay { return q.first }

// Of is the replay for a single subscription, nil if there is none.
func (q *Queue) Of(id topictree.FilterID) *Replay { return q.of[id] }

// Begin adds a replay for a subscription, in place of an earlier one for the same filter, with the mark
// and the round of now.
func (q *Queue) Begin(r *Replay, mark, fence uint64) {
	if r.mark, r.fence = mark, fence; !r.Had {
		r.skip = mark
	}
	if old := q.of[r.ID]; old != nil {
		if old.cursor == nil { // what has been left out live is still to come
			r.skip = max(r.skip, old.skip)
		}
		q.Remove(old)
	}
	if q.of == nil {
		q.of = make(map[topictree.FilterID]*Replay)
	}
	q.of[r.ID] = r
	q.Add(r)
}

// Give adds topics, sorted, to what a list's replay still has to send.
func (r *Replay) Give(todo []Topic, mark, fence uint64) {
	if len(todo) > 0 {
		r.lots = append(r.lots, lot{todo: todo, mark: mark, fence: fence})
	}
}

// Add adds the replay of a list at the end. One for a subscription is added by Begin.
func (q *Queue) Add(r *Replay) {
	r.prev = q.last
	if q.last == nil {
		q.first = r
	} else {
		q.last.next = r
	}
	q.last = r
}

// Resume has it go on when the session has a connection again, with the mark and the round of now.
func (q *Queue) Resume(mark, fence uint64) { q.Resumed, q.fence = mark, fence }

// List notes that its client waits for a round; false if it does already.
func (q *Queue) List(round uint64) bool {
	if q.listed == round {
		return false
	}
	q.listed = round
	return true
}

// Live reports whether a message that a cursor has, whose mark is given, comes live and is not to be sent by
// the cursor too. lossy is that of QoS 0 which is not queued.
func (q *Queue) Live(m *message.Message, mark uint64, lossy bool) bool {
	return m.Number > mark && (!lossy || m.Number > q.Resumed)
}

// Remove forgets what a replay had still to send.
func (q *Queue) Remove(r *Replay) {
	if !r.list {
		delete(q.of, r.ID)
	}
	if r.prev == nil {
		q.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		q.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// Awaits reports whether a message that has come live for a single subscription is left out: the subscription
// was made after it was stored, and the replay, which has not begun, has it or a later one.
func (q *Queue) Awaits(id topictree.FilterID, m *message.Message) bool {
	r := q.of[id]
	return r != nil && r.cursor == nil && m.Number <= r.skip
}

// Awaits is that for a topic of a list.
func (r *Replay) Awaits(id topictree.FilterID, m *message.Message) bool {
	t, mark := r.toCome(id.Filter())
	return t != nil && !t.Had && m.Number <= mark
}

// ToCome reports whether the messages of a topic of a list have not begun.
func (r *Replay) ToCome(filter string) bool {
	t, _ := r.toCome(filter)
	return t != nil
}

// Owes reports whether the messages of a topic of a list are not all sent.
func (r *Replay) Owes(filter string) bool {
	return r.ToCome(filter) || r.cursor != nil && r.ID.Filter() == filter
}

// toCome finds a topic of a list whose messages have not begun, and its mark; nil if there is none.
func (r *Replay) toCome(filter string) (t *Topic, mark uint64) {
	for i := range r.lots {
		l := &r.lots[i]
		at, ok := slices.BinarySearchFunc(l.todo, filter, ByFilter)
		if ok && l.todo[at].RetainHandling != 2 {
			return &l.todo[at], l.mark
		}
	}
	return nil, 0
}

// Outdate takes topics, sorted, that a client gets after a gap off what is still to come of them. The marks
// there are from before the gap, and what was stored in it came to nobody live.
func (r *Replay) Outdate(topics []Topic) {
	stale := func(t Topic) bool {
		at, ok := slices.BinarySearchFunc(topics, t.ID.Filter(), ByFilter)
		return ok && !topics[at].Had
	}
	if r.cursor != nil && stale(r.Topic) {
		r.cursor = nil
	}
	for i := range r.lots {
		if l := &r.lots[i]; slices.ContainsFunc(l.todo, stale) {
			l.todo = slices.DeleteFunc(slices.Clone(l.todo), stale)
		}
	}
}

// owedMax is how many topics of a list are noted by name; with more, all of the list are.
const owedMax = 64

// Owed is the topics of a list that are still to come, for a store; all if they are too many to name, or if
// they are not fewer than the list has.
func (r *Replay) Owed(of int) (names []string, all bool) {
	if r == nil {
		return nil, false
	}
	if r.cursor != nil {
		names = append(names, r.ID.Filter())
	}
	for i := range r.lots {
		if len(names)+len(r.lots[i].todo) > owedMax {
			return nil, true
		}
		for j := range r.lots[i].todo {
			names = append(names, r.lots[i].todo[j].ID.Filter())
		}
	}
	return names, of > 0 && len(names) >= of
}
