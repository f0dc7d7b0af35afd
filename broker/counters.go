package broker

import (
	"context"
	"sync"
)

// counters are one shard's share of Metrics, plain integers of its loop.
type counters struct {
	accepted, connects              int64
	refusedMemory                   int64
	refusedSubscriptions            int64
	connections, sessions, expired  int64
	subscriptions                   int64
	sharedSubscriptions             int64
	packetsIn, packetsOut           int64
	bytesIn, bytesOut               int64
	publishIn, publishOut           int64
	publishBytesIn, publishBytesOut int64
	dropped                         [DropReasons]int64
	disconnects                     [EndReasons]int64
	refused                         [RefusalReasons]int64
}

// addTo adds the shard's counters and gauges, in a time that does not depend on the number of sessions. On
// the shard's loop.
func (s *shard) addTo(m *Metrics) {
	s.loop.MustBeHere()
	c := &s.count
	m.Connections += c.connections
	m.Sessions += c.sessions
	given := s.grants.Count()
	m.Subscriptions += c.subscriptions + given.Plain
	m.SharedSubscriptions += c.sharedSubscriptions
	m.Granted += given.Topics
	m.PendingExpired += given.Expired
	m.Sets += given.Sets
	m.PacketsReceived += c.packetsIn
	m.PacketsSent += c.packetsOut
	m.BytesReceived += c.bytesIn
	m.BytesSent += c.bytesOut
	m.PublishReceived += c.publishIn
	m.PublishSent += c.publishOut
	m.PublishBytesReceived += c.publishBytesIn
	m.PublishBytesSent += c.publishBytesOut
	m.ConnectionsTotal += c.accepted
	m.Connects += c.connects
	m.MemoryRefused += c.refusedMemory
	m.SubscriptionsRefused += c.refusedSubscriptions
	m.SessionsExpired += c.expired
	for i, n := range c.dropped {
		m.Dropped[i] += n
	}
	for i, n := range c.disconnects {
		m.Disconnects[i] += n
	}
	for i, n := range c.refused {
		m.ConnectsRefused[i] += n
	}
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
	m.Admissions = b.desk.Stats()
	for {
		old := b.maxSessions.Load()
		if m.Sessions <= old || b.maxSessions.CompareAndSwap(old, m.Sessions) {
			break
		}
	}
	m.SessionsMaximum = b.maxSessions.Load()
}
