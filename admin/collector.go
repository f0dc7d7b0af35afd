package admin

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"noctule/broker"
)

// scrapeTimeout bounds how long a scrape waits for the loops.
const scrapeTimeout = 5 * time.Second

// collector turns broker.Metrics into Prometheus metrics, at each scrape.
type collector struct {
	src     Source
	rows    []row
	dropped *prometheus.Desc
	commits *prometheus.Desc
	lag     *prometheus.Desc
}

type row struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*broker.Metrics) float64
}

func newCollector(src Source) *collector {
	c := &collector{src: src, commits: commitSeconds()}
	c.lag = prometheus.NewDesc("noctule_loop_lag_seconds",
		"How long what was ready has waited for an event loop, by probes.", nil, nil)
	c.dropped = prometheus.NewDesc("noctule_messages_dropped_total",
		"Messages that one receiver did not get, or denied to all, by reason.", []string{"reason"}, nil)
	add := func(kind prometheus.ValueType, name, help string, f func(*broker.Metrics) float64) {
		c.rows = append(c.rows, row{prometheus.NewDesc("noctule_"+name, help, nil, nil), kind, f})
	}
	gauge := func(name, help string, f func(*broker.Metrics) int64) {
		add(prometheus.GaugeValue, name, help, func(m *broker.Metrics) float64 { return float64(f(m)) })
	}
	count := func(name, help string, f func(*broker.Metrics) int64) {
		add(prometheus.CounterValue, name, help, func(m *broker.Metrics) float64 { return float64(f(m)) })
	}
	type m = broker.Metrics
	add(prometheus.GaugeValue, "uptime_seconds", "Time since the start.",
		func(m *m) float64 { return m.Uptime })
	gauge("connections", "Connected clients.", func(m *m) int64 { return m.Connections })
	gauge("sockets", "Open sockets, before CONNECT as well.", func(m *m) int64 { return m.Net.Open })
	gauge("sessions", "Sessions, connected and offline.", func(m *m) int64 { return m.Sessions })
	gauge("retained_messages", "Retained messages, $SYS included.", func(m *m) int64 { return m.Retained })
	gauge("retained_bytes", "Their payloads.", func(m *m) int64 { return m.RetainedBytes })
	gauge("memory_used_bytes", "Memory of the process as memory_limit counts it.",
		func(m *m) int64 { return m.MemoryUsed })
	gauge("memory_limit_bytes", "The value of memory_limit, 0 without.",
		func(m *m) int64 { return m.MemoryLimit })
	add(prometheus.GaugeValue, "memory_short", "1 while memory_limit refuses connections and messages.",
		func(m *m) float64 {
			if m.MemoryShort {
				return 1
			}
			return 0
		})
	gauge("queued_messages", "Messages waiting in sessions.", func(m *m) int64 { return m.QueuedMessages })
	gauge("queued_bytes", "Their payloads.", func(m *m) int64 { return m.QueuedBytes })
	gauge("queued_disk_bytes", "Not in memory of them.", func(m *m) int64 { return m.QueuedDiskBytes })
	gauge("queue_reads_waiting", "Sessions that read them.", func(m *m) int64 { return m.QueueReads })
	gauge("inflight_messages", "QoS 1 and 2 messages sent and unacknowledged.",
		func(m *m) int64 { return m.InflightMessages })
	count("packets_received_total", "MQTT packets received.", func(m *m) int64 { return m.PacketsReceived })
	count("packets_sent_total", "MQTT packets sent.", func(m *m) int64 { return m.PacketsSent })
	count("received_bytes_total", "MQTT bytes received.", func(m *m) int64 { return m.BytesReceived })
	count("sent_bytes_total", "MQTT bytes sent.", func(m *m) int64 { return m.BytesSent })
	count("messages_received_total", "PUBLISH packets received.",
		func(m *m) int64 { return m.PublishReceived })
	count("messages_sent_total", "PUBLISH packets sent.", func(m *m) int64 { return m.PublishSent })
	count("message_received_bytes_total", "Payloads received.",
		func(m *m) int64 { return m.PublishBytesReceived })
	count("message_sent_bytes_total", "Payloads sent.", func(m *m) int64 { return m.PublishBytesSent })
	count("connections_accepted_total", "Sockets accepted.", func(m *m) int64 { return m.Net.Accepted })
	count("connections_refused_total", "Sockets refused by a limit.",
		func(m *m) int64 { return m.Net.Refused })
	count("connections_refused_memory_total", "Sockets closed because of memory_limit.",
		func(m *m) int64 { return m.MemoryRefused })
	count("connects_total", "Well-formed CONNECT packets.", func(m *m) int64 { return m.Connects })
	count("sys_messages_dropped_total", "Log lines for topics that came too fast to be published.",
		func(m *m) int64 { return m.SysDropped })
	count("sessions_expired_total", "Sessions ended by expiry.",
		func(m *m) int64 { return m.SessionsExpired })
	count("socket_reads_total", "Read calls.", func(m *m) int64 { return m.Net.Reads })
	count("socket_writes_total", "Write calls.", func(m *m) int64 { return m.Net.Writes })
	count("loop_turns_total", "Turns of all event loops.", func(m *m) int64 { return m.Net.Turns })
	count("handshakes_timed_out_total", "TLS handshakes and WebSocket upgrades that took too long.",
		func(m *m) int64 { return m.Net.HandshakesTimedOut })
	addHashing(gauge, count)
	addSubscriptions(gauge, count)
	addStore(gauge, count)
	return c
}

// addSubscriptions is about subscriptions, those made on behalf of sessions too.
func addSubscriptions(gauge, count func(name, help string, f func(*broker.Metrics) int64)) {
	type m = broker.Metrics
	gauge("subscriptions", "Subscriptions, shared ones excluded.",
		func(m *m) int64 { return m.Subscriptions })
	gauge("shared_subscriptions", "Memberships in shared subscriptions.",
		func(m *m) int64 { return m.SharedSubscriptions })
	gauge("granted_subscriptions", "Subscriptions made on behalf of sessions.",
		func(m *m) int64 { return m.Granted })
	gauge("subscription_sets", "Different lists of them, on all loops.", func(m *m) int64 { return m.Sets })
	gauge("pending_requests", "Requests on behalf of clients that are not connected.",
		func(m *m) int64 { return m.PendingRequests })
	count("pending_requests_expired_total", "Requests whose client has not come.",
		func(m *m) int64 { return m.PendingExpired })
	count("subscriptions_refused_total", "Filters refused because of max_subscriptions or memory_limit.",
		func(m *m) int64 { return m.SubscriptionsRefused })
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range c.rows {
		ch <- r.desc
	}
	ch <- c.dropped
	ch <- c.commits
	ch <- c.lag
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	m := c.src.Metrics(ctx)
	for _, r := range c.rows {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(&m))
	}
	lag := &m.Net.LoopLag
	ch <- prometheus.MustNewConstHistogram(c.lag, lag.Total(), lag.Sum, lag.Cumulative())
	st := &m.Store
	ch <- prometheus.MustNewConstHistogram(c.commits, uint64(st.Commits), st.Seconds, st.Latency())
	for i, n := range m.Dropped {
		reason := broker.DropReason(i).String()
		ch <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(n), reason)
	}
}
