package tally

import "noctule/broker/sys"

// LoadNames are the counters of which the $SYS tree tells averages.
func LoadNames() []string {
	return []string{
		"messages/received", "messages/sent", "publish/dropped", "publish/received", "publish/sent",
		"bytes/received", "bytes/sent", "sockets", "connections",
	}
}

// Loads are the counters of which $SYS tells averages, as LoadNames has them.
func (m *Metrics) Loads() []int64 {
	return []int64{
		m.PacketsReceived, m.PacketsSent, m.DroppedTotal(), m.PublishReceived, m.PublishSent,
		m.BytesReceived, m.BytesSent, m.ConnectionsTotal, m.Connects,
	}
}

// SysValues are the whole numbers of the $SYS tree, in Mosquitto's order; the uptime is seconds.
func (m *Metrics) SysValues() []sys.Value {
	stored := m.Retained + m.QueuedMessages + m.InflightMessages
	values := []struct {
		name string
		n    int64
	}{
		{"uptime", int64(m.Uptime)},
		{"clients/total", m.Sessions},
		{"clients/maximum", m.SessionsMaximum},
		{"clients/disconnected", m.Sessions - m.Connections},
		{"clients/inactive", m.Sessions - m.Connections},
		{"clients/connected", m.Connections},
		{"clients/active", m.Connections},
		{"clients/expired", m.SessionsExpired},
		{"messages/stored", stored},
		{"store/messages/count", stored},
		{"store/messages/bytes", m.RetainedBytes + m.QueuedBytes},
		{"subscriptions/count", m.Subscriptions},
		{"shared_subscriptions/count", m.SharedSubscriptions},
		{"retained messages/count", m.Retained},
		{"heap/current", m.Heap},
		{"heap/maximum", m.HeapMaximum},
		{"messages/received", m.PacketsReceived},
		{"messages/sent", m.PacketsSent},
		{"bytes/received", m.BytesReceived},
		{"bytes/sent", m.BytesSent},
		{"publish/bytes/received", m.PublishBytesReceived},
		{"publish/bytes/sent", m.PublishBytesSent},
		{"packet/out/count", m.QueuedMessages},
		{"packet/out/bytes", m.QueuedBytes},
		{"connections/socket/count", m.ConnectionsTotal},
		{"publish/messages/dropped", m.DroppedTotal()},
		{"publish/messages/received", m.PublishReceived},
		{"publish/messages/sent", m.PublishSent},
	}
	list := make([]sys.Value, 0, len(values))
	for _, v := range values {
		list = append(list, sys.Value{Topic: sys.Prefix + v.name, Value: v.n})
	}
	return list
}
