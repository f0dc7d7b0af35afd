// Package tally is what a broker counts: a snapshot over all loops, and what the $SYS tree has of it.
package tally

import (
	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/auth/deny"
	"noctule/broker/listener"
	"noctule/broker/reason"
	"noctule/broker/store"
	"noctule/wsnet"
)

// Metrics is a snapshot of a broker's counters and gauges, summed over its loops. Counters start at 0
// with the process.
type Metrics struct {
	Uptime float64 // seconds

	// Gauges.
	Connections         int64 // clients that have sent a valid CONNECT and are connected
	Sessions            int64 // connected and offline
	SessionsMaximum     int64 // highest value of Sessions so far
	Subscriptions       int64 // without shared ones
	SharedSubscriptions int64
	Granted             int64 // subscriptions made on behalf of sessions
	Sets                int64 // different lists of them, each loop's for itself
	PendingRequests     int64 // requests on behalf of clients that are not connected
	Retained            int64 // messages, $SYS included
	QueuedMessages      int64 // waiting behind the windows of all sessions
	QueuedBytes         int64 // their payload bytes
	QueuedDiskBytes     int64 // those of them that are not in memory
	QueueReads          int64 // sessions that wait for such messages to be read
	InflightMessages    int64 // QoS 1 and 2 messages sent and not yet acknowledged
	RetainedBytes       int64 // payloads of retained messages
	MemoryUsed          int64 // bytes, as memory_limit counts them; sampled once a second
	MemoryLimit         int64 // bytes; 0 none
	MemoryShort         bool  // connections and messages are refused because of the limit
	Heap, HeapMaximum   int64 // bytes of the heap's objects; sampled once a second

	// Counters.
	PacketsReceived, PacketsSent           int64 // MQTT packets of every type
	BytesReceived, BytesSent               int64 // MQTT bytes, without WebSocket and TLS
	PublishReceived, PublishSent           int64 // PUBLISH packets
	PublishBytesReceived, PublishBytesSent int64 // their payloads
	ConnectionsTotal                       int64 // accepted sockets
	Connects                               int64 // valid CONNECT packets
	SessionsExpired                        int64
	PendingExpired                         int64 // requests whose client has not come
	MemoryRefused                          int64 // sockets closed because of memory_limit
	SubscriptionsRefused                   int64 // by MaxSubscriptions, or because of memory_limit
	SysDropped                             int64 // messages that PublishSys did not take
	Dropped                                [reason.Drops]int64
	Disconnects                            [reason.Ends]int64
	ConnectsRefused                        [reason.Refusals]int64

	// Store is what the committer of persistent state counted; zero without one.
	Store store.Stats
	// Hashing is what checking passwords took.
	Hashing auth.PoolStats
	// Denials are the table of who may not be here.
	Denials deny.Stats
	// Admissions are the CONNECTs that wait for an answer.
	Admissions admit.Stats
	// Net is what the event loops counted.
	Net wsnet.Stats
	// Listeners is what each listening address counted, in the order in which they were opened.
	Listeners []listener.Metrics
}

// DroppedTotal is the sum over all reasons but DropDenied: the $SYS tree does not count what is as it should
// be.
func (m *Metrics) DroppedTotal() int64 {
	var n int64
	for r, v := range m.Dropped {
		if reason.Drop(r) != reason.DropDenied {
			n += v
		}
	}
	return n
}
