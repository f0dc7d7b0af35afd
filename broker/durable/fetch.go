package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/internal/ring"
)

// Wanting is a stored session, some of whose queued messages are only on disk (session.Memory).
type Wanting interface {
	comparable
	// Wants names the messages that it wants back, as session.Session does.
	Wants(f func(seq uint64, st *message.Stored) bool)
	// Over reports whether nothing of it is left.
	Over() bool
	// Absent reports whether it takes nothing now: it asks again when its client is back.
	Absent() bool
}

// Fetcher reads for the sessions of one loop what they want back from disk: one Fetch at a time, off the
// loop, and of each queue a part. What is read bounds the memory, and nobody waits for somebody else's long
// queue. It belongs to the loop. A nil Fetcher is that of a broker that has all queues in memory.
type Fetcher[C Wanting] struct {
	// Set by NewFetcher, then read-only:
	from store.Reader
	to   *store.Committer // what wants to be read may not be on disk yet

	// Owned by the loop:
	wanting ring.Ring[C] // oldest first, each once
	failed  []C          // whose reads have failed, until Retry
	reading int          // sessions of the Fetch under way
	told    bool         // a failure was told
}

// How much is read at a time: sessions, and messages and bytes (one message may exceed them) of each.
const (
	fetchSessions = 8
	fetchMessages = 128
	fetchBytes    = 128 << 10
)

// fetchSyncTime is how long a read waits for messages to become durable.
const fetchSyncTime = time.Second

// NewFetcher is that of one loop.
func NewFetcher[C Wanting](from store.Reader, to *store.Committer) *Fetcher[C] {
	return &Fetcher[C]{from: from, to: to}
}

// Want lists a session that wants messages. It must not be listed.
func (f *Fetcher[C]) Want(c C) { f.wanting.Push(c) }

// Waiting is the number of sessions that wait for messages.
func (f *Fetcher[C]) Waiting() int {
	if f == nil {
		return 0
	}
	return f.wanting.Len() + len(f.failed) + f.reading
}

// Retry lists those again whose reads have failed.
func (f *Fetcher[C]) Retry() {
	if f == nil {
		return
	}
	for _, c := range f.failed {
		f.wanting.Push(c)
	}
	clear(f.failed)
	f.failed = f.failed[:0]
}

// Fetch is one read: Read runs off the loop, Fetcher.Done on it.
type Fetch[C Wanting] struct {
	of    *Fetcher[C]
	parts []*part[C]
}

// part is what is read for one session.
type part[C Wanting] struct {
	of   C
	seqs []uint64
	on   []*message.Stored
	list []session.Supplied
	err  error
}

// Next is what is to be read next, nil for nothing, and while a read is under way. nothing is called with
// sessions that were listed and want nothing any more, or not now.
func (f *Fetcher[C]) Next(nothing func(c C)) *Fetch[C] {
	if f == nil || f.reading > 0 || f.wanting.Len() == 0 {
		return nil
	}
	r := &Fetch[C]{of: f}
	for f.wanting.Len() > 0 && len(r.parts) < fetchSessions {
		c := f.wanting.Pop()
		if c.Over() {
			continue
		}
		if p := partOf(c); len(p.seqs) > 0 {
			r.parts = append(r.parts, p)
		} else {
			nothing(c)
		}
	}
	if len(r.parts) == 0 {
		return nil
	}
	f.reading = len(r.parts)
	return r
}

// partOf is what a session wants.
func partOf[C Wanting](c C) *part[C] {
	p, size := &part[C]{of: c}, int64(0)
	if !c.Absent() {
		c.Wants(func(seq uint64, st *message.Stored) bool {
			p.seqs, p.on = append(p.seqs, seq), append(p.on, st)
			size += st.Size
			return len(p.seqs) < fetchMessages && size < fetchBytes
		})
	}
	return p
}

// Read reads what the sessions want. What is not found may not be durable yet, so it is looked for once more
// when everything is.
func (r *Fetch[C]) Read() {
	var missing []*part[C]
	for _, p := range r.parts {
		if p.err = p.read(r.of.from); p.err == nil && len(p.list) < len(p.seqs) {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return
	}
	err := r.of.sync()
	for _, p := range missing {
		if p.err = err; err == nil {
			p.err = p.read(r.of.from)
		}
		if n := len(p.list); p.err == nil && n < len(p.seqs) {
			p.err = fmt.Errorf("%w: message %d is not there", store.ErrCorrupt, p.on[n].ID)
		}
	}
}

// sync makes everything durable, or says why it is not.
func (f *Fetcher[C]) sync() error {
	if f.to.Failing() {
		return errors.New("they are not on disk yet, which cannot be written")
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchSyncTime)
	defer cancel()
	if err := f.to.Sync(ctx); err != nil {
		return fmt.Errorf("they are not on disk yet: %w", err)
	}
	return nil
}

// read reads up to the first message that is not found.
func (p *part[C]) read(from store.Reader) error {
	p.list = p.list[:0]
	ids := make([]uint64, len(p.on))
	for i, st := range p.on {
		ids[i] = st.ID
	}
	return from.ReadMessages(ids, func(i int, value []byte) error {
		if i != len(p.list) {
			return nil
		}
		m, err := state.Message(p.on[i], value)
		if err != nil {
			return err
		}
		p.list = append(p.list, session.Supplied{Seq: p.seqs[i], Message: m})
		return nil
	})
}

// Fetched is what has become of what a session wants.
type Fetched[C Wanting] struct {
	Of C
	// List is for session.Session's Supply. It is empty for one that has become Absent, which asks again.
	List []session.Supplied
	// Err says that nothing was read, and the session waits until Retry: there is nothing to supply. News
	// says that this is the first failure, or without Err that reads succeed again.
	Err  error
	News bool
}

// Done is the end of a Fetch that was read: what has come of it, session by session. What one has got may
// change what the next wants, so it is carried out before that is asked for.
func (f *Fetcher[C]) Done(r *Fetch[C]) iter.Seq[Fetched[C]] {
	f.reading = 0
	return func(yield func(Fetched[C]) bool) {
		for _, p := range r.parts {
			if !p.of.Over() && !yield(f.fetched(p)) {
				return
			}
		}
	}
}

func (f *Fetcher[C]) fetched(p *part[C]) Fetched[C] {
	switch {
	case p.of.Absent():
		return Fetched[C]{Of: p.of}
	case p.err != nil && len(p.list) == 0 && p.wanted():
		f.failed = append(f.failed, p.of)
		news := !f.told
		f.told = true
		return Fetched[C]{Of: p.of, Err: p.err, News: news}
	}
	news := f.told && p.err == nil
	if news {
		f.told = false
	}
	return Fetched[C]{Of: p.of, List: p.list, News: news}
}

// wanted reports whether the session still wants the first message that was not read. It may have left the
// queue meanwhile: it has expired, or was the client's own and its session has ended.
func (p *part[C]) wanted() bool {
	found := false
	p.of.Wants(func(seq uint64, _ *message.Stored) bool {
		found = seq == p.seqs[0]
		return seq < p.seqs[0]
	})
	return found
}
