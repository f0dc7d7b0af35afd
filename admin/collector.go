package admin

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"noctule/broker"
	"noctule/internal/metric"
)

// scrapeTimeout bounds how long a scrape waits for the loops.
const scrapeTimeout = 5 * time.Second

// sample is what one scrape reads, once, before any of its metrics is made of it.
type sample struct {
	broker.Metrics
	program Program
}

// row is one metric: what it is, and how it is read from a sample. The tables in table.go are all there are
// beside pre-subscription's and those of Go's own collectors.
type row struct {
	metric.Def
	read      func(s *sample, put put)       // of gauges and counters
	histogram func(s *sample) (h histograms) // of histograms
}

// put gives a value, with the values of its labels in their order.
type put func(v float64, labels ...string)

// histograms is the content of a histogram.
type histograms struct {
	count   uint64
	sum     float64
	buckets map[float64]uint64 // cumulative, by upper bound
}

// prefix is what all names begin with.
const prefix = "noctule_"

// group is rows about one thing, under the title that the document has for them.
type group struct {
	title string
	rows  []row
}

// one is a metric without labels.
func one(name string, kind metric.Kind, help string, value func(s *sample) int64) row {
	return row{
		Def:  metric.Def{Name: prefix + name, Kind: kind, Help: help},
		read: func(s *sample, put put) { put(float64(value(s))) },
	}
}

// gauge is one that goes up and down.
func gauge(name, help string, value func(s *sample) int64) row {
	return one(name, metric.Gauge, help, value)
}

// counter is one that only grows.
func counter(name, help string, value func(s *sample) int64) row {
	return one(name, metric.Counter, help, value)
}

// labelled is a metric with labels.
func labelled(
	name string, kind metric.Kind, help string, labels []metric.Label, read func(*sample, put),
) row {
	return row{Def: metric.Def{Name: prefix + name, Kind: kind, Help: help, Labels: labels}, read: read}
}

// bit is a gauge's 0 or 1.
func bit(on bool) int64 {
	if on {
		return 1
	}
	return 0
}

// collector turns a sample into Prometheus metrics, at each scrape.
type collector struct {
	source  func() (Source, bool)
	program func() Program
	rows    []row
	descs   []*prometheus.Desc // of rows
}

func newCollector(source func() (Source, bool), program func() Program) *collector {
	c := &collector{source: source, program: program}
	for _, g := range tables() {
		for _, r := range g.rows {
			c.rows = append(c.rows, r)
			c.descs = append(c.descs, prometheus.NewDesc(r.Name, r.Help, r.Names(), nil))
		}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	src, ok := c.source()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := &sample{Metrics: src.Metrics(ctx), program: c.program()}
	for i := range c.rows {
		r, desc := &c.rows[i], c.descs[i]
		if r.histogram != nil {
			h := r.histogram(s)
			ch <- prometheus.MustNewConstHistogram(desc, h.count, h.sum, h.buckets)
			continue
		}
		kind := prometheus.GaugeValue
		if r.Kind == metric.Counter {
			kind = prometheus.CounterValue
		}
		r.read(s, func(v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
		})
	}
}
