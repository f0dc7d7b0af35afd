package tally

import "noctule/broker/reason"

// Counters are one loop's share of Metrics: plain integers, which only its goroutine touches.
type Counters struct {
	Accepted, Connects              int64
	RefusedMemory                   int64
	RefusedSubscriptions            int64
	Connections, Sessions, Expired  int64
	Subscriptions                   int64
	SharedSubscriptions             int64
	PacketsIn, PacketsOut           int64
	BytesIn, BytesOut               int64
	PublishIn, PublishOut           int64
	PublishBytesIn, PublishBytesOut int64
	Dropped                         [reason.Drops]int64
	Disconnects                     [reason.Ends]int64
	Refused                         [reason.Refusals]int64
}

// AddTo adds them to a snapshot.
func (c *Counters) AddTo(m *Metrics) {
	m.Connections += c.Connections
	m.Sessions += c.Sessions
	m.Subscriptions += c.Subscriptions
	m.SharedSubscriptions += c.SharedSubscriptions
	m.PacketsReceived += c.PacketsIn
	m.PacketsSent += c.PacketsOut
	m.BytesReceived += c.BytesIn
	m.BytesSent += c.BytesOut
	m.PublishReceived += c.PublishIn
	m.PublishSent += c.PublishOut
	m.PublishBytesReceived += c.PublishBytesIn
	m.PublishBytesSent += c.PublishBytesOut
	m.ConnectionsTotal += c.Accepted
	m.Connects += c.Connects
	m.MemoryRefused += c.RefusedMemory
	m.SubscriptionsRefused += c.RefusedSubscriptions
	m.SessionsExpired += c.Expired
	for i, n := range c.Dropped {
		m.Dropped[i] += n
	}
	for i, n := range c.Disconnects {
		m.Disconnects[i] += n
	}
	for i, n := range c.Refused {
		m.ConnectsRefused[i] += n
	}
}
