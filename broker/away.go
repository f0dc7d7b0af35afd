package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/internal/ring"
	"noctule/wsnet"
)

// max_queued_memory. Above it messages in queues of stored sessions are only on disk (session/away.go). A
// session that wants some of them back is listed here; at the end of a turn, after the journal was posted, a
// goroutine reads for the first of the list, and a task on the loop hands over what it has found. One
// goroutine a loop, a part of each queue at a time: what is read bounds the memory, and nobody waits for
// somebody else's long queue.
type awayReader struct {
	// Set by openAway, then read-only:
	store store.Reader

	// Owned by the loop:
	wanting ring.Ring[*client] // oldest first, each once
	failed  []*client          // whose reads have failed; they are listed again in the next second
	reading int                // sessions for which a goroutine reads
	told    bool               // the failure was logged
}

// How much is read at a time: sessions, and messages and bytes (one message may exceed them) of each.
const (
	awaySessions = 8
	awayMessages = 128
	awayBytes    = 128 << 10
)

// awaySyncTime is how long a read waits for messages to become durable.
const awaySyncTime = time.Second

// openAway sets up what the bound in the options needs.
func (b *Broker) openAway() error {
	if b.opts.MaxQueuedMemory <= 0 || b.opts.Store == nil {
		return nil
	}
	if _, ok := b.opts.Store.(store.Reader); !ok {
		return fmt.Errorf("broker: MaxQueuedMemory needs a store.Reader, %T is none", b.opts.Store)
	}
	b.queueMemory = &session.Memory{Bound: b.opts.MaxQueuedMemory}
	return nil
}

// awayPart is what is read for one session.
type awayPart struct {
	cl   *client
	seqs []uint64
	of   []*message.Stored
	list []session.Supplied
	err  error
}

// awayRead is one read, on its way to the goroutine and back.
type awayRead struct {
	s     *shard
	parts []*awayPart
}

// readAway starts a read if messages are wanted.
func (s *shard) readAway() {
	s.loop.MustBeHere()
	a := s.away
	if a == nil || a.reading > 0 || a.wanting.Len() == 0 {
		return
	}
	r := &awayRead{s: s}
	for a.wanting.Len() > 0 && len(r.parts) < awaySessions {
		if p := s.awayPart(a.wanting.Pop()); p != nil {
			r.parts = append(r.parts, p)
		}
	}
	if len(r.parts) == 0 {
		return
	}
	a.reading = len(r.parts)
	s.b.asked.Go(func() { // Shutdown waits
		r.read(a.store)
		s.loop.MustPost(r) // one at a time
	})
}

// awayPart is what a client wants, nil if it wants nothing any more.
func (s *shard) awayPart(cl *client) *awayPart {
	if cl.over() {
		return nil
	}
	p := &awayPart{cl: cl}
	size := int64(0)
	if cl.conn != nil || cl.ended {
		cl.Wants(func(seq uint64, st *message.Stored) bool {
			p.seqs, p.of = append(p.seqs, seq), append(p.of, st)
			size += st.Size
			return len(p.seqs) < awayMessages && size < awayBytes
		})
	}
	if len(p.seqs) == 0 {
		cl.Supply(nil, s.loop.Now(), cl)
		return nil
	}
	return p
}

// over reports whether nothing of the client's session is left, no estate either.
func (c *client) over() bool { return c.ended && (c.rare == nil || c.rare.estate == nil) }

// read reads what the sessions want. What is not found may not be durable yet, so it is looked for once more
// when everything is.
func (r *awayRead) read(from store.Reader) {
	var missing []*awayPart
	for _, p := range r.parts {
		if p.err = p.read(from); p.err == nil && len(p.list) < len(p.seqs) {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return
	}
	err := r.s.b.awaySync()
	for _, p := range missing {
		if p.err = err; err == nil {
			p.err = p.read(from)
		}
		if n := len(p.list); p.err == nil && n < len(p.seqs) {
			p.err = fmt.Errorf("%w: message %d is not there", store.ErrCorrupt, p.of[n].ID)
		}
	}
}

// awaySync makes everything durable, or says why it is not.
func (b *Broker) awaySync() error {
	if b.committer.Failing() {
		return errors.New("they are not on disk yet, which cannot be written")
	}
	ctx, cancel := context.WithTimeout(context.Background(), awaySyncTime)
	defer cancel()
	if err := b.committer.Sync(ctx); err != nil {
		return fmt.Errorf("they are not on disk yet: %w", err)
	}
	return nil
}

// read reads up to the first message that is not found.
func (p *awayPart) read(from store.Reader) error {
	p.list = p.list[:0]
	ids := make([]uint64, len(p.of))
	for i, st := range p.of {
		ids[i] = st.ID
	}
	return from.ReadMessages(ids, func(i int, value []byte) error {
		if i != len(p.list) {
			return nil
		}
		m, err := state.Message(p.of[i], value)
		if err != nil {
			return err
		}
		p.list = append(p.list, session.Supplied{Seq: p.seqs[i], Message: m})
		return nil
	})
}

// Run implements wsnet.Task: it hands over what was read.
func (r *awayRead) Run(*wsnet.Loop) {
	s, a := r.s, r.s.away
	a.reading = 0
	for _, p := range r.parts {
		cl := p.cl
		switch {
		case cl.over():
		case cl.conn == nil && !cl.ended: // it will ask again
			cl.Supply(nil, s.loop.Now(), cl)
		case p.err != nil && len(p.list) == 0 && p.wanted():
			a.failed = append(a.failed, cl)
			s.awayFails(cl, p.err)
		default:
			if a.told && p.err == nil {
				a.told = false
				s.logf(LevelNotice, "Queued messages can be read again.")
			}
			cl.Supply(p.list, s.loop.Now(), cl)
			if cl.ended {
				s.loop.Again(estateTask{cl})
				continue
			}
			cl.updateFull()
		}
	}
}

// wanted reports whether the session still wants the first message that was not read. It may have left the
// queue meanwhile: it has expired, or was the client's own and its session has ended.
func (p *awayPart) wanted() bool {
	found := false
	p.cl.Wants(func(seq uint64, _ *message.Stored) bool {
		found = seq == p.seqs[0]
		return seq < p.seqs[0]
	})
	return found
}

// awayFails says once that a client's messages cannot be read.
func (s *shard) awayFails(cl *client, err error) {
	if !s.away.told {
		s.away.told = true
		s.logf(LevelError, "Error: Queued messages of %s cannot be read, it waits for them: %v", cl.id, err)
	}
}

// waiting is the number of sessions that wait for messages from disk.
func (a *awayReader) waiting() int {
	if a == nil {
		return 0
	}
	return a.wanting.Len() + len(a.failed) + a.reading
}

// retryAway lists those again whose reads have failed.
func (s *shard) retryAway() {
	if a := s.away; a != nil {
		for _, cl := range a.failed {
			a.wanting.Push(cl)
		}
		clear(a.failed)
		a.failed = a.failed[:0]
	}
}
