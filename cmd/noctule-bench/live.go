//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"noctule/bench"
)

// live serves --prometheus while the run lasts.
type live struct {
	server *http.Server
	done   chan error // of the goroutine that serves

	clients                                    *prometheus.GaugeVec
	sent, received, duplicated, reordered, cpu prometheus.Counter
	latency                                    *prometheus.GaugeVec
	resident                                   prometheus.Gauge
}

// newLive listens; stderr learns where.
func newLive(address string, stderr io.Writer) (*live, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--prometheus: %w", err)
	}
	reg := prometheus.NewRegistry()
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "noctule_bench", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		opts := prometheus.GaugeOpts{Namespace: "noctule_bench", Name: name, Help: help}
		g := prometheus.NewGaugeVec(opts, labels)
		reg.MustRegister(g)
		return g
	}
	l := &live{
		done:       make(chan error, 1),
		clients:    gauges("clients", "Clients by state.", "state"),
		sent:       counter("messages_sent_total", "Messages published."),
		received:   counter("messages_received_total", "Messages received."),
		duplicated: counter("messages_duplicated_total", "Messages received again."),
		reordered:  counter("messages_reordered_total", "Messages received after a later one."),
		cpu:        counter("broker_cpu_seconds_total", "Processor time of the broker during the run."),
		latency:    gauges("latency_seconds", "Latency over the last second, from the time due.", "quantile"),
		resident:   gauges("broker_resident_bytes", "Resident memory of the broker.").WithLabelValues(),
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	l.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { l.done <- l.server.Serve(ln) }() // ends with close
	fmt.Fprintf(stderr, "metrics: http://%s/metrics\n", ln.Addr())
	return l, nil
}

func (l *live) second(s bench.Second) {
	l.clients.WithLabelValues("connected").Set(float64(s.Connected))
	l.clients.WithLabelValues("failed").Set(float64(s.Failed))
	l.sent.Add(float64(s.Sent))
	l.received.Add(float64(s.Received))
	l.duplicated.Add(float64(s.Duplicated))
	l.reordered.Add(float64(s.Reordered))
	l.cpu.Add(max(s.CPU, 0) * s.Length.Seconds())
	l.resident.Set(float64(s.Resident))
	if s.Latency.Count == 0 {
		l.latency.Reset() // no latency, not the last one
		return
	}
	for q, ns := range map[string]int64{
		"0.5": s.Latency.P50, "0.9": s.Latency.P90, "0.99": s.Latency.P99, "0.999": s.Latency.P999,
		"1": s.Latency.Max,
	} {
		l.latency.WithLabelValues(q).Set(float64(ns) / 1e9)
	}
}

func (l *live) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.server.Shutdown(ctx) // a scraper that hangs is no concern of the run
	<-l.done
	return nil
}
