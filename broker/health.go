package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"noctule/broker/message"
	"noctule/broker/sys"
	"noctule/broker/tally"
	"noctule/internal/version"
	"noctule/wsnet"
)

// What the broker tells of itself: numbers, as a snapshot and below $SYS (broker/sys), where shard 0 says
// when, and whether it lives.

// addTo adds the shard's counters and gauges, in a time that does not depend on the number of sessions. On
// the shard's loop.
func addTo(s *shard, m *Metrics) {
	s.loop.MustBeHere()
	s.count.AddTo(m)
	given := s.grants.Count()
	m.Subscriptions += given.Plain
	m.Granted += given.Topics
	m.PendingExpired += given.Expired
	m.Sets += given.Sets
	m.QueueReads += int64(s.away.Waiting())
	checkInvariants(s, true)
	m.QueuedMessages += s.totals.Queued
	m.QueuedBytes += s.totals.QueuedBytes
	m.QueuedDiskBytes += s.totals.AwayBytes
	m.InflightMessages += s.totals.Inflight
}

// Metrics asks every loop for its numbers. It may be called from any goroutine but a loop's; when ctx is
// done, or Shutdown has ended, it returns what was gathered until then.
func (b *Broker) Metrics(ctx context.Context) Metrics {
	var mu sync.Mutex
	var m Metrics
	_ = b.onEach(ctx, func(s *shard) {
		mu.Lock()
		defer mu.Unlock()
		addTo(s, &m)
	})
	mu.Lock()
	defer mu.Unlock()
	out := m
	b.fill(&out)
	return out
}

// fill adds what does not belong to one loop.
func (b *Broker) fill(m *Metrics) {
	m.Uptime = now().Sub(b.started).Seconds()
	m.Retained = int64(b.retained.Len())
	m.PendingRequests = b.grants.Waits()
	m.RetainedBytes = b.retained.Bytes()
	mem := b.memory.Numbers()
	m.MemoryUsed, m.MemoryLimit, m.MemoryShort = mem.Used, mem.Limit, mem.Short
	m.Heap, m.HeapMaximum = mem.Heap, mem.HeapMax
	m.SysDropped = b.sysDropped.Load()
	m.Net = b.net.Stats()
	m.Listeners = b.listeners.Metrics()
	if b.committer != nil {
		m.Store = b.committer.Stats()
	}
	m.Hashing = b.desk.Hashing()
	m.Denials = b.denials.Stats()
	m.Admissions = b.desk.Stats()
	for {
		old := b.maxSessions.Load()
		if m.Sessions <= old || b.maxSessions.CompareAndSwap(old, m.Sessions) {
			break
		}
	}
	m.SessionsMaximum = b.maxSessions.Load()
}

// reloadSys follows sys_interval.
func reloadSys(s *shard) {
	switch {
	case s.opts.SysInterval <= 0:
		s.sys = nil
	case s.sys == nil:
		startSys(s)
	default:
		s.sys.Interval = wholeSeconds(s.opts.SysInterval)
	}
}

func startSys(s *shard) {
	s.loop.MustBeHere()
	r := &sys.Reporter{
		Schedule: sys.Schedule{Interval: wholeSeconds(s.opts.SysInterval)},
		Tree:     sys.New(tally.LoadNames()...),
		Publish: func(x sys.Text) {
			s.publishMessage(message.New([]byte(x.Topic), []byte(x.Text), 2, true))
		},
	}
	r.Gather = func() { s.b.gather(s, r) }
	s.sys = r
	r.Say("version", "mosquitto version "+s.opts.Version)
	r.Say("noctule/version", version.Read().String())
	r.Ask(s.b.clock.Wall(s.loop.Now()) / 1000)
}

// gather asks for the numbers of all loops; when the last has answered, what has changed is worked out off
// the loops, and s publishes it.
func (b *Broker) gather(s *shard, r *sys.Reporter) {
	var mu sync.Mutex
	m := new(Metrics)
	left := len(b.shards)
	for _, o := range b.shards {
		o.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) {
			mu.Lock()
			defer mu.Unlock()
			addTo(o, m)
			if left--; left > 0 {
				return
			}
			now := l.Now()
			b.asked.Go(func() { // Shutdown waits
				b.fill(m)
				list := r.Tree.Update(now, m.SysValues(), m.Loads())
				s.post(func() { r.Found(list) }) // one an interval
			})
		}))
	}
}

// SysValue is one number of the $SYS tree.
type SysValue = sys.Value

// sysWaitingMax is how many messages of PublishSys may wait for the loop.
const sysWaitingMax = 1024

// PublishSys publishes what the program has to say below $SYS, in the order of the calls: QoS 2, not
// retained, with a Message Expiry Interval. It does not block: when the loop is behind, the message is
// dropped and counted, and nothing is logged, since logs may come this way. Any goroutine.
func (b *Broker) PublishSys(topic string, payload []byte, expiry time.Duration) {
	if b.sysWaiting.Add(1) > sysWaitingMax {
		b.sysWaiting.Add(-1)
		b.sysDropped.Add(1)
		return
	}
	s := b.shards[0]
	s.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) { // bounded by sysWaitingMax
		b.sysWaiting.Add(-1)
		m := message.New([]byte(topic), payload, 2, false)
		m.Expire(l.Now(), uint32(wholeSeconds(expiry)))
		s.publishMessage(m)
	}))
}

// hangLimit is how long a loop may not come to what waits for it before it counts as one that hangs. Turns
// are bounded to milliseconds, so this is no load but a fault, or a machine that does not run the process.
const hangLimit = 10 * time.Second

// Alive tells why the broker does not live any more: a loop hangs. nil as long as it lives, whatever it
// refuses meanwhile: who is to be restarted when it fails asks this. Any goroutine, and it answers at once.
func (b *Broker) Alive() error {
	if loop, d := b.net.Stalled(); d > b.hangAfter && !b.stopping.Load() {
		return fmt.Errorf("event loop %d has not turned for %v", loop, d.Round(time.Second))
	}
	return nil
}

// Ready tells why the broker does not do all of its work: it ends, a loop hangs, or persistent state cannot
// be written, so that durable sessions and what they are to get are refused. nil when all is well. Memory
// that is short, full queues and providers that fail are not its matter: another broker would not do better.
// Any goroutine, and it answers at once.
func (b *Broker) Ready() error {
	if b.stopping.Load() {
		return errors.New("the broker is shutting down")
	}
	if err := b.Alive(); err != nil {
		return err
	}
	if b.committer != nil && b.committer.Failing() {
		err := b.storeError.Load()
		if err == nil { // it fails since just now
			return errors.New("persistent state cannot be written")
		}
		return fmt.Errorf("persistent state cannot be written: %w", *err)
	}
	return nil
}
