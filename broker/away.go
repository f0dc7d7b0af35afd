package broker

import (
	"fmt"

	"noctule/broker/durable"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/wsnet"
)

// max_queued_memory. Above it messages in queues of stored sessions are only on disk (session/away.go). A
// session that wants some of them back is listed; at the end of a turn, after the journal was posted, a
// goroutine reads for the first of the list, and a task on the loop hands over what it has found. What is
// read, and for whom, is for durable.Fetcher.

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

// newFetcher is that of one loop; nil without a bound.
func (b *Broker) newFetcher() *durable.Fetcher[*client] {
	if b.queueMemory == nil {
		return nil
	}
	return durable.NewFetcher[*client](b.opts.Store.(store.Reader), b.committer)
}

// Over implements durable.Wanting: no estate is left of the session either.
func (c *client) Over() bool { return c.ended && (c.rare == nil || c.rare.estate == nil) }

// Absent implements durable.Wanting.
func (c *client) Absent() bool { return c.conn == nil && !c.ended }

// readAway starts a read if messages are wanted.
func (s *shard) readAway() {
	s.loop.MustBeHere()
	r := s.away.Next(func(cl *client) { cl.Supply(nil, s.loop.Now(), cl) })
	if r == nil {
		return
	}
	s.b.asked.Go(func() { // Shutdown waits
		r.Read()
		s.loop.MustPost(awayTask{s, r}) // one at a time
	})
}

// awayTask hands over what was read.
type awayTask struct {
	s    *shard
	read *durable.Fetch[*client]
}

// Run implements wsnet.Task.
func (t awayTask) Run(l *wsnet.Loop) {
	s := t.s
	for x := range s.away.Done(t.read) {
		cl := x.Of
		if x.Err != nil {
			if x.News {
				s.logf(LevelError, "Error: Queued messages of %s cannot be read, it waits for them: %v",
					cl.id, x.Err)
			}
			continue
		}
		if x.News {
			s.logf(LevelNotice, "Queued messages can be read again.")
		}
		cl.Supply(x.List, l.Now(), cl)
		switch {
		case cl.Absent():
		case cl.ended:
			l.Again(estateTask{cl})
		default:
			cl.updateFull()
		}
	}
}
