package presub

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"noctule/broker/lookup"
	"noctule/internal/metric"
)

// metrics is what the engine counts.
type metrics struct {
	requests *prometheus.CounterVec   // door, outcome
	results  *prometheus.CounterVec   // state, code
	lookups  *prometheus.CounterVec   // provider, outcome
	latency  *prometheus.HistogramVec // provider; seconds
	cache    *prometheus.CounterVec   // provider, outcome
	size     *prometheus.HistogramVec // provider; topics of a list
	evicted  *prometheus.CounterVec   // provider
	skipped  *prometheus.CounterVec   // provider; topics
	denied   *prometheus.CounterVec   // provider, code; topics
	ended    *prometheus.CounterVec   // door, outcome
	expired  prometheus.Counter       // topics
	overload prometheus.Counter
	without  *prometheus.Desc // provider
	waiting  *prometheus.Desc // provider
	entries  *prometheus.Desc // provider
	bytes    *prometheus.Desc // provider
}

// Metrics are the engine's metrics, for those who register or document them.
func Metrics() []metric.Def {
	const prefix = "noctule_presub_"
	provider := metric.Label{Name: "provider", Help: "its name in presub.yaml"}
	def := func(name string, kind metric.Kind, help string, labels ...metric.Label) metric.Def {
		return metric.Def{Name: prefix + name, Kind: kind, Help: help, Labels: labels}
	}
	return []metric.Def{
		def("requests_total", metric.Counter,
			"Answers to requests to subscribe clients, one for each client of a request, by the door they "+
				"came through and by outcome.",
			metric.Of("door", string(MQTT), string(HTTP), string(Connect), string(Go)),
			metric.Of("outcome", "done", "failed", "refused", "denied")),
		def("results_total", metric.Counter,
			"Topics of requests to subscribe clients, by the state that they are in after it and MQTT's "+
				"reason code.",
			metric.Of("state", "new", "existing", "removed", "absent", "pending"),
			metric.Label{Name: "code", Help: "such as 0x87"}),
		def("lookups_total", metric.Counter,
			"Lists of topics that providers were asked for when clients connected, by how it ended.",
			provider, metric.Of("outcome", lookup.Outcomes()...)),
		def("lookup_seconds", metric.Histogram,
			"How long a provider took to answer for one list of topics, in seconds.", provider),
		def("cache_total", metric.Counter,
			"Lists of topics looked for in the cache before a provider is asked; of those that were not "+
				"there, those that another lookup was asking for already, and the old ones that were used "+
				"since asking failed.",
			provider, metric.Of("outcome", "hit", "miss", "joined", "stale")),
		def("cache_evictions_total", metric.Counter,
			"Lists that left the cache to make room for others.", provider),
		def("cache_lists", metric.Gauge,
			"Lists of topics that the cache holds, those that may be used only if asking fails too.",
			provider),
		def("cache_bytes", metric.Gauge, "Memory that the cache takes; what several lists share counts once.",
			provider),
		def("set_topics", metric.Histogram,
			"Topics of the lists that providers have answered with.", provider),
		def("topics_skipped_total", metric.Counter,
			"Topics of providers' lists that nobody may subscribe to.", provider),
		def("topics_refused_total", metric.Counter,
			"Topics of providers' lists that clients which connected were not given, by reason code.",
			provider, metric.Label{Name: "code", Help: "such as 0x87"}),
		def("pending_ended_total", metric.Counter,
			"Requests that were pending and have ended, by the door they came through: they took effect "+
				"when the client came, ran out before, or failed.",
			metric.Of("door", string(MQTT), string(HTTP), string(Connect), string(Go)),
			metric.Of("outcome", "effective", "expired", "failed")),
		def("topics_expired_total", metric.Counter,
			"Topics given to clients for a time that was over, one for each client that had it."),
		def("sessions_without_list", metric.Gauge,
			"Clients that are in without their list of topics, which the provider is still asked for.",
			provider),
		def("lookups_waiting", metric.Gauge,
			"Lookups of lists that wait for their turn with the provider.", provider),
		def("overload_total", metric.Counter,
			"Requests and lookups of lists dropped because too many waited."),
	}
}

func newMetrics() *metrics {
	defs := map[string]metric.Def{}
	for _, d := range Metrics() {
		defs[strings.TrimPrefix(d.Name, "noctule_presub_")] = d
	}
	counter := func(name string) *prometheus.CounterVec {
		d := defs[name]
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Names())
	}
	histogram := func(name string, buckets ...float64) *prometheus.HistogramVec {
		d := defs[name]
		o := prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: buckets}
		return prometheus.NewHistogramVec(o, d.Names())
	}
	gauge := func(name string) *prometheus.Desc {
		d := defs[name]
		return prometheus.NewDesc(d.Name, d.Help, d.Names(), nil)
	}
	return &metrics{
		without:  gauge("sessions_without_list"),
		waiting:  gauge("lookups_waiting"),
		entries:  gauge("cache_lists"),
		bytes:    gauge("cache_bytes"),
		requests: counter("requests_total"),
		results:  counter("results_total"),
		lookups:  counter("lookups_total"),
		cache:    counter("cache_total"),
		evicted:  counter("cache_evictions_total"),
		skipped:  counter("topics_skipped_total"),
		latency:  histogram("lookup_seconds", .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5),
		size:     histogram("set_topics", prometheus.ExponentialBuckets(1, 4, 8)...),
		denied:   counter("topics_refused_total"),
		ended:    counter("pending_ended_total"),
		expired:  counter("topics_expired_total").WithLabelValues(),
		overload: counter("overload_total").WithLabelValues(),
	}
}

// Describe implements prometheus.Collector.
func (e *Engine) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range e.metrics.all() {
		c.Describe(ch)
	}
	ch <- e.metrics.without
	ch <- e.metrics.waiting
	ch <- e.metrics.entries
	ch <- e.metrics.bytes
}

// Collect implements prometheus.Collector.
func (e *Engine) Collect(ch chan<- prometheus.Metric) {
	for _, c := range e.metrics.all() {
		c.Collect(ch)
	}
	m := e.metrics
	for _, p := range e.rules.Load().providers {
		value := func(d *prometheus.Desc, n int) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), p.cfg.Name)
		}
		value(m.without, p.chase.len())
		if p.ask != nil {
			value(m.waiting, p.ask.Waiting())
			lists, bytes := p.ask.Cached()
			value(m.entries, lists)
			value(m.bytes, int(bytes))
		}
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.requests, m.results, m.lookups, m.latency, m.cache, m.size, m.skipped, m.evicted,
		m.denied, m.ended, m.expired, m.overload,
	}
}
