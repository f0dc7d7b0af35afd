//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"noctule/bench"
	"noctule/internal/metric"
)

// live serves --prometheus while the run lasts.
type live struct {
	// Set by newLive, then read-only:
	server *http.Server
	done   chan error // of the goroutine that serves
	rows   []liveRow
	descs  []*prometheus.Desc // of rows

	mu struct {
		sync.Mutex
		state liveState
	}
}

// liveState is what a run has come to.
type liveState struct {
	last                                  bench.Second // the sums below have it already
	sent, received, duplicated, reordered int64
	cpu                                   float64 // seconds
	latencies                             uint64
	latencySum                            float64 // seconds
}

// liveRow is one metric and the way it is read. read puts each value, or summary tells the one.
type liveRow struct {
	metric.Def
	read    func(s *liveState, put func(v float64, labels ...string))
	summary func(s *liveState) map[float64]float64 // quantiles
}

// liveTable is all metrics of a run.
func liveTable() []liveRow {
	row := func(
		name string, kind metric.Kind, help string, read func(*liveState, func(float64, ...string)),
		labels ...metric.Label,
	) liveRow {
		d := metric.Def{Name: "noctule_bench_" + name, Kind: kind, Help: help, Labels: labels}
		return liveRow{Def: d, read: read}
	}
	count := func(name, help string, value func(s *liveState) int64) liveRow {
		return row(name, metric.Counter, help,
			func(s *liveState, put func(float64, ...string)) { put(float64(value(s))) })
	}
	return []liveRow{
		row("clients", metric.Gauge, "Clients of the run that are connected, and that have failed for good.",
			func(s *liveState, put func(float64, ...string)) {
				put(float64(s.last.Connected), "connected")
				put(float64(s.last.Failed), "failed")
			}, metric.Of("state", "connected", "failed")),
		count("messages_sent_total", "Messages that the run has published.",
			func(s *liveState) int64 { return s.sent }),
		count("messages_received_total", "Messages that the run has received, once for each subscriber.",
			func(s *liveState) int64 { return s.received }),
		count("messages_duplicated_total", "Messages that a subscriber has received once more.",
			func(s *liveState) int64 { return s.duplicated }),
		count("messages_reordered_total",
			"Messages that a subscriber has received after a later one of the same publisher.",
			func(s *liveState) int64 { return s.reordered }),
		{
			Def: metric.Def{
				Name: "noctule_bench_latency_seconds", Kind: metric.Summary,
				Help: "Time from when a message was due to be published until it was received, in seconds: " +
					"quantiles over the last second, sum and count over the run.",
			},
			summary: func(s *liveState) map[float64]float64 {
				l := &s.last.Latency
				if l.Count == 0 {
					return nil // no latency, not the last one
				}
				return map[float64]float64{
					.5: float64(l.P50) / 1e9, .9: float64(l.P90) / 1e9, .99: float64(l.P99) / 1e9,
					.999: float64(l.P999) / 1e9, 1: float64(l.Max) / 1e9,
				}
			},
		},
		row("broker_cpu_seconds_total", metric.Counter,
			"Processor time that the broker of --pid has spent since the run began, in seconds.",
			func(s *liveState, put func(float64, ...string)) { put(s.cpu) }),
		row("broker_resident_bytes", metric.Gauge, "Resident memory of the broker of --pid, in bytes.",
			func(s *liveState, put func(float64, ...string)) { put(float64(s.last.Resident)) }),
	}
}

// newLive listens; stderr learns where.
func newLive(address string, stderr io.Writer) (*live, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--prometheus: %w", err)
	}
	l := &live{done: make(chan error, 1), rows: liveTable()}
	for _, r := range l.rows {
		l.descs = append(l.descs, prometheus.NewDesc(r.Name, r.Help, r.Names(), nil))
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(l)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	l.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { l.done <- l.server.Serve(ln) }() // ends with close
	fmt.Fprintf(stderr, "metrics: http://%s/metrics\n", ln.Addr())
	return l, nil
}

// second takes what a second of the run has brought.
func (l *live) second(s bench.Second) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.mu.state
	m.last = s
	m.sent += s.Sent
	m.received += s.Received
	m.duplicated += s.Duplicated
	m.reordered += s.Reordered
	m.cpu += max(s.CPU, 0) * s.Length.Seconds()
	m.latencies += uint64(s.Latency.Count)
	m.latencySum += s.Latency.Mean * float64(s.Latency.Count) / 1e9
}

// Describe implements prometheus.Collector.
func (l *live) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range l.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *live) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	s := l.mu.state
	l.mu.Unlock()
	for i := range l.rows {
		r, desc := &l.rows[i], l.descs[i]
		if r.summary != nil {
			ch <- prometheus.MustNewConstSummary(desc, s.latencies, s.latencySum, r.summary(&s))
			continue
		}
		kind := prometheus.GaugeValue
		if r.Kind == metric.Counter {
			kind = prometheus.CounterValue
		}
		r.read(&s, func(v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
		})
	}
}

func (l *live) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.server.Shutdown(ctx) // a scraper that hangs is no concern of the run
	<-l.done
	return nil
}
