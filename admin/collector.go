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
}

type row struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*broker.Metrics) float64
}

func newCollector(src Source) *collector {
	c := &collector{src: src, dropped: prometheus.NewDesc("noctule_messages_dropped_total",
		"Messages that one receiver did not get, by reason.", []string{"reason"}, nil)}
	gauge := func(name, help string, f func(*broker.Metrics) float64) {
		c.rows = append(c.rows, row{prometheus.NewDesc("noctule_"+name, help, nil, nil), prometheus.GaugeValue, f})
	}
	count := func(name, help string, f func(*broker.Metrics) float64) {
		c.rows = append(c.rows, row{prometheus.NewDesc("noctule_"+name, help, nil, nil), prometheus.CounterValue, f})
	}
	type m = broker.Metrics
	gauge("uptime_seconds", "Time since the start.", func(m *m) float64 { return m.Uptime })
	gauge("connections", "Connected clients.", func(m *m) float64 { return float64(m.Connections) })
	gauge("sockets", "Open sockets, before CONNECT as well.", func(m *m) float64 { return float64(m.Net.Open) })
	gauge("sessions", "Sessions, connected and offline.", func(m *m) float64 { return float64(m.Sessions) })
	gauge("subscriptions", "Subscriptions, shared ones excluded.", func(m *m) float64 { return float64(m.Subscriptions) })
	gauge("shared_subscriptions", "Memberships in shared subscriptions.",
		func(m *m) float64 { return float64(m.SharedSubscriptions) })
	gauge("retained_messages", "Retained messages, $SYS included.", func(m *m) float64 { return float64(m.Retained) })
	gauge("queued_messages", "Messages waiting in sessions.", func(m *m) float64 { return float64(m.QueuedMessages) })
	gauge("queued_bytes", "Their payloads.", func(m *m) float64 { return float64(m.QueuedBytes) })
	gauge("inflight_messages", "QoS 1 and 2 messages sent and unacknowledged.",
		func(m *m) float64 { return float64(m.InflightMessages) })
	gauge("loop_lag_seconds", "Longest turn of an event loop since the last scrape.",
		func(m *m) float64 { return m.Net.LoopLag.Seconds() })
	count("packets_received_total", "MQTT packets received.", func(m *m) float64 { return float64(m.PacketsReceived) })
	count("packets_sent_total", "MQTT packets sent.", func(m *m) float64 { return float64(m.PacketsSent) })
	count("received_bytes_total", "MQTT bytes received.", func(m *m) float64 { return float64(m.BytesReceived) })
	count("sent_bytes_total", "MQTT bytes sent.", func(m *m) float64 { return float64(m.BytesSent) })
	count("messages_received_total", "PUBLISH packets received.", func(m *m) float64 { return float64(m.PublishReceived) })
	count("messages_sent_total", "PUBLISH packets sent.", func(m *m) float64 { return float64(m.PublishSent) })
	count("message_received_bytes_total", "Payloads received.",
		func(m *m) float64 { return float64(m.PublishBytesReceived) })
	count("message_sent_bytes_total", "Payloads sent.", func(m *m) float64 { return float64(m.PublishBytesSent) })
	count("connections_accepted_total", "Sockets accepted.", func(m *m) float64 { return float64(m.Net.Accepted) })
	count("connections_refused_total", "Sockets refused by a limit.", func(m *m) float64 { return float64(m.Net.Refused) })
	count("sessions_expired_total", "Sessions ended by expiry.", func(m *m) float64 { return float64(m.SessionsExpired) })
	count("socket_reads_total", "Read calls.", func(m *m) float64 { return float64(m.Net.Reads) })
	count("socket_writes_total", "Write calls.", func(m *m) float64 { return float64(m.Net.Writes) })
	count("loop_turns_total", "Turns of all event loops.", func(m *m) float64 { return float64(m.Net.Turns) })
	count("handshakes_timed_out_total", "WebSocket upgrades that took too long.",
		func(m *m) float64 { return float64(m.Net.HandshakesTimedOut) })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range c.rows {
		ch <- r.desc
	}
	ch <- c.dropped
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	m := c.src.Metrics(ctx)
	for _, r := range c.rows {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(&m))
	}
	for i, n := range m.Dropped {
		ch <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(n), broker.DropReason(i).String())
	}
}
