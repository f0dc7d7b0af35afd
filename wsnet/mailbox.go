package wsnet

import (
	"sync"
	"sync/atomic"
)

// mailbox is a loop's queue of tasks from other goroutines. At most one wake is under way at a time.
type mailbox struct {
	mu struct {
		sync.Mutex
		tasks []Task
	}
	spare []Task // of the loop: the slice that the last drain emptied

	// Atomic:
	awake atomic.Bool // a wake has been sent and not yet answered
}

// Post queues t; false means that MailboxLimit tasks wait already. Any goroutine.
func (l *Loop) Post(t Task) bool { return l.post(t, l.server.cfg.MailboxLimit) }

// MustPost queues t whatever waits already: for tasks whose number is bounded by their cause. Any
// goroutine. Tasks for a loop that has stopped are dropped.
func (l *Loop) MustPost(t Task) { l.post(t, 0) }

func (l *Loop) post(t Task, limit int) bool {
	m := &l.mail
	m.mu.Lock()
	if limit > 0 && len(m.mu.tasks) >= limit {
		m.mu.Unlock()
		l.stats.mailboxRefused.Add(1)
		return false
	}
	m.mu.tasks = append(m.mu.tasks, t)
	m.mu.Unlock()
	if !m.awake.Swap(true) {
		l.poll.wake()
	}
	return true
}

// runMail runs what has been posted so far.
func (l *Loop) runMail() {
	m := &l.mail
	if !m.awake.Load() {
		return
	}
	m.awake.Store(false)
	m.mu.Lock()
	tasks := m.mu.tasks
	m.mu.tasks = m.spare
	m.mu.Unlock()
	for _, t := range tasks {
		l.serving = nil
		t.Run(l)
	}
	clear(tasks)
	m.spare = tasks[:0]
	if cap(m.spare) > 4096 {
		m.spare = nil
	}
}
