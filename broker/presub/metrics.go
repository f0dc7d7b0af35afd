package presub

import "github.com/prometheus/client_golang/prometheus"

// metrics is what the engine counts.
type metrics struct {
	requests *prometheus.CounterVec   // door, outcome
	results  *prometheus.CounterVec   // state, code
	lookups  *prometheus.CounterVec   // provider, outcome
	latency  *prometheus.HistogramVec // provider; seconds
	cache    *prometheus.CounterVec   // provider, outcome
	size     *prometheus.HistogramVec // provider; topics of a list
	overload prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "noctule_presub_" + name, Help: help},
			labels,
		)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		o := prometheus.HistogramOpts{Name: "noctule_presub_" + name, Help: help, Buckets: buckets}
		return prometheus.NewHistogramVec(o, []string{"provider"})
	}
	return &metrics{
		requests: counter("requests_total", "Answers to entries, by door.", "door", "outcome"),
		results:  counter("results_total", "Topics of entries, by what became of them.", "state", "code"),
		lookups:  counter("lookups_total", "Lists asked for, by provider.", "provider", "outcome"),
		cache: counter(
			"cache_total",
			"Lists looked for in the cache, by provider.",
			"provider",
			"outcome",
		),
		latency: histogram("lookup_seconds", "Time until a provider has answered.",
			[]float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}),
		size: histogram("set_topics", "Topics of a list.", prometheus.ExponentialBuckets(1, 4, 8)),
		overload: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "noctule_presub_overload_total", Help: "Requests and lookups dropped, too many waited.",
		}),
	}
}

// Describe implements prometheus.Collector.
func (e *Engine) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range e.metrics.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (e *Engine) Collect(ch chan<- prometheus.Metric) {
	for _, c := range e.metrics.all() {
		c.Collect(ch)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.results, m.lookups, m.latency, m.cache, m.size, m.overload}
}
