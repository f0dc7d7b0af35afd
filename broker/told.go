package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"noctule/broker/crash"
	"noctule/broker/line"
	"noctule/broker/message"
	"noctule/broker/sys"
	"noctule/broker/tally"
	"noctule/internal/memguard"
	"noctule/internal/version"
	"noctule/wsnet"
)

// What the broker tells of itself: numbers, as a snapshot and below $SYS, what it sees of memory and the
// system's clock, whether it lives, and whose packet it was when something panics.

// watchClock looks whether the system's clock has been set. Shard 0 only.
func (s *shard) watchClock() {
	moved, note := s.b.clock.Watch()
	if moved != 0 {
		s.logf(LevelNotice,
			"The system's clock has moved by %s (set, or asleep); intervals go on as they were.",
			moved.Round(time.Second))
		for _, o := range s.b.shards {
			o.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { o.clockMoved() }))
		}
	}
	if note {
		s.noteClock()
	}
}

// noteClock tells the store what the time is. Shard 0 only.
func (s *shard) noteClock() {
	r := s.b.clock.Record()
	if s.journal != nil {
		s.journal.Batch.PutClock(r)
	}
}

// openMemory begins to watch.
func (b *Broker) openMemory() {
	b.memory.Measure, b.memory.Go = b.opts.MemoryUsed, b.asked.Go // Shutdown waits
	b.memory.SetLimit(b.opts.MemoryLimit)
}

// watchMemory measures under load, at the end of a turn; whichever loop comes first does.
func (s *shard) watchMemory() {
	s.loop.MustBeHere()
	if s.b.memory.Due(s.loop.Now()) {
		s.sampleMemory()
	}
}

// sampleMemory looks whether memory is short.
func (s *shard) sampleMemory() {
	s.loop.MustBeHere()
	g := &s.b.memory
	turn := g.Sample(&s.probe, s.loop.Now())
	switch n := g.Numbers(); turn {
	case memguard.Short:
		s.logf(LevelWarning, "Warning: memory_limit: %d of %d bytes are used. New clients are refused "+
			"and messages are not queued.", n.Used, n.Limit)
	case memguard.Enough:
		s.logf(LevelNotice, "memory_limit: %d of %d bytes are used. Clients and messages are taken "+
			"again.", n.Used, n.Limit)
	case memguard.Same:
	}
}

// addTo adds the shard's counters and gauges, in a time that does not depend on the number of sessions. On
// the shard's loop.
func (s *shard) addTo(m *Metrics) {
	s.loop.MustBeHere()
	s.count.AddTo(m)
	given := s.grants.Count()
	m.Subscriptions += given.Plain
	m.Granted += given.Topics
	m.PendingExpired += given.Expired
	m.Sets += given.Sets
	m.QueueReads += int64(s.away.Waiting())
	s.checkInvariants(true)
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
		s.addTo(&m)
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

// The $SYS tree, as Mosquitto's (broker/sys): retained, QoS 2. Shard 0 says when, and publishes; what is
// new is worked out off the loops.

// sysTree is shard 0's part of it.
type sysTree struct {
	s        *shard
	schedule sys.Schedule
	asked    bool      // an answer is awaited
	tree     *sys.Tree // while one is, its goroutine's
}

// reloadSys follows sys_interval.
func (s *shard) reloadSys() {
	switch {
	case s.opts.SysInterval <= 0:
		s.sys = nil
	case s.sys == nil:
		s.startSys()
	default:
		s.sys.schedule.Interval = wholeSeconds(s.opts.SysInterval)
	}
}

func (s *shard) startSys() {
	s.loop.MustBeHere()
	t := &sysTree{
		s: s, schedule: sys.Schedule{Interval: wholeSeconds(s.opts.SysInterval)},
		tree: sys.New(tally.LoadNames()...),
	}
	s.sys = t
	t.publish(t.tree.Say(nil, sys.Prefix+"version", "mosquitto version "+s.opts.Version))
	t.publish(t.tree.Say(nil, sys.Prefix+"noctule/version", version.Read().String()))
	t.ask()
}

// tick starts an update when its time has come.
func (t *sysTree) tick(now int64) {
	if !t.asked && t.schedule.Due(t.s.b.clock.Wall(now)/1000) {
		t.ask()
	}
}

// ask gathers the numbers of all loops and updates the tree when the last has answered.
func (t *sysTree) ask() {
	t.asked = true
	t.schedule.Begin(t.s.b.clock.Wall(t.s.loop.Now()) / 1000)
	var mu sync.Mutex
	m := new(Metrics)
	left := len(t.s.b.shards)
	for _, s := range t.s.b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) {
			mu.Lock()
			defer mu.Unlock()
			s.addTo(m)
			if left--; left == 0 {
				now := l.Now()
				s.b.asked.Go(func() { t.update(m, now) }) // Shutdown waits
			}
		}))
	}
}

// update works out what has changed, and has it published. Off the loops.
func (t *sysTree) update(m *Metrics, now int64) {
	t.s.b.fill(m)
	list := t.tree.Update(now, m.SysValues(), m.Loads())
	t.s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // one an interval
		t.asked = false
		t.publish(list)
	}))
}

// publish says what is new. On the loop.
func (t *sysTree) publish(list []sys.Text) {
	for _, x := range list {
		t.s.publishMessage(message.New([]byte(x.Topic), []byte(x.Text), 2, true))
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

// What a loop knows of whose packet it was when something panics; broker/crash reports it.

// crashed is wsnet's OnCrash.
func (b *Broker) crashed(c wsnet.Crash) {
	loop := crash.OffLoops
	if c.Loop != nil {
		loop = c.Loop.Index()
	}
	b.crash.Report(loop, func() string {
		if c.Loop == nil {
			return "in a handshake or the transport of " + line.Addr(c.Peer, "")
		}
		return c.Loop.Handler().(*shard).doing(c.Conn)
	}, c.Value, c.Stack)
}

// Crashed tells the log and stderr of a panic that the caller's goroutine has recovered from and is about to
// go on with: what says what it was doing. The loops stop for good. Any goroutine but a loop's may call it.
func (b *Broker) Crashed(what string, value any, stack []byte) {
	b.crash.Report(crash.OffLoops, func() string { return what }, value, stack)
}

// stopLoops has each loop but one stop for good before its next task.
func (b *Broker) stopLoops(except int) {
	for _, s := range b.shards {
		if s.index != except {
			s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { select {} }))
		}
	}
}

// doing says what the loop is doing for a client, c being the connection that it serves, if it does.
func (s *shard) doing(c *wsnet.Conn) string {
	x := crash.Scene{Handling: s.handling, Topic: s.pub.Topic, Message: s.router.Live.Message()}
	if x.Conn != nil {
		x.Who = s.who(x.Conn)
		_, x.Known = x.Conn.Attachment.(*client)
	}
	x.FromWhom = func() string { return s.b.whose(s, x.Message.Publisher) }
	switch text := x.String(); {
	case text != "":
		return text
	case c != nil:
		return "while serving " + s.who(c)
	}
	return "in no client's packet"
}

// who is the client of a connection.
func (s *shard) who(c *wsnet.Conn) string {
	switch a := c.Attachment.(type) {
	case *client:
		return crash.Client(a.id, line.Peer(c))
	case *greeting:
		if a.waits != nil {
			return crash.Client(a.waits.ClientID, line.Peer(c))
		}
	}
	if name := s.departed.Find(0, c.ID()); name != "" {
		return name
	}
	return fmt.Sprintf("a client before CONNECT [%s]", line.Peer(c))
}

// whose names the session that has a number; it may be of any loop. Shard s asks.
func (b *Broker) whose(s *shard, number uint64) string {
	if number == 0 {
		return "no client"
	}
	if name := s.named(number); name != "" {
		return name
	}
	answers := make(chan string, len(b.shards))
	for _, o := range b.shards {
		if o != s {
			o.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { answers <- o.named(number) }))
		}
	}
	end := time.NewTimer(crash.AskPatience)
	defer end.Stop()
	for range len(b.shards) - 1 {
		select {
		case name := <-answers:
			if name != "" {
				return name
			}
		case <-end.C:
			return "a client whose loop does not answer"
		}
	}
	return "a client whose session has ended"
}

// named is the client of a session of this loop; "" if it has none of that number.
func (s *shard) named(number uint64) string {
	for _, cl := range s.sessions {
		if cl.number == number && cl.conn != nil {
			return s.who(cl.conn)
		}
	}
	if name := s.departed.Find(number, 0); name != "" {
		return name
	}
	for _, cl := range s.sessions {
		if cl.number == number {
			return fmt.Sprintf("client %q, which is offline", cl.id)
		}
	}
	return ""
}
