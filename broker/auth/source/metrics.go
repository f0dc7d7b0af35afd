package source

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"noctule/broker/auth"
	"noctule/broker/lookup"
	"noctule/internal/metric"
)

// metrics is what sources count.
type metrics struct {
	logins  *prometheus.CounterVec   // source, outcome
	lookups *prometheus.CounterVec   // source, about, outcome
	seconds *prometheus.HistogramVec // source, about
	cache   *prometheus.CounterVec   // source, about, outcome
	evicted *prometheus.CounterVec   // source, about
	waiting *prometheus.Desc
	answers *prometheus.Desc
	bytes   *prometheus.Desc
	clients *prometheus.Desc
}

const prefix = "noctule_auth_"

// Metrics are the metrics of sources, for those who register or document them.
func Metrics() []metric.Def {
	source := metric.Label{Name: "source", Help: "its name in auth.yaml; go-auth and its backends: " +
		"mosquitto-go-auth"}
	about := metric.Of("about", "login", "superuser", "rules", "acl")
	def := func(name string, kind metric.Kind, help string, labels ...metric.Label) metric.Def {
		return metric.Def{Name: prefix + name, Kind: kind, Help: help, Labels: labels}
	}
	return []metric.Def{
		def(
			"logins_total",
			metric.Counter,
			"What sources have said of logins. unknown: they do not know the user; failed: "+
				"nobody answered, and on_failure has decided.",
			source,
			metric.Of("outcome", "allow", "deny", "unknown", "ignored", "unanswered", "failed"),
		),
		def("lookups_total", metric.Counter,
			"Questions that were not answered from the cache, by what they are about and by how they ended.",
			source, about, metric.Of("outcome", lookup.Outcomes()...)),
		def(
			"lookup_seconds",
			metric.Histogram,
			"How long a source took to answer, in seconds.",
			source,
			about,
		),
		def(
			"cache_total",
			metric.Counter,
			"Answers looked for in the cache before a source is asked; of those that were not there, "+
				"those that another login was asking for already, and the old ones that were used since "+
				"asking failed.",
			source,
			about,
			metric.Of("outcome", "hit", "miss", "joined", "stale"),
		),
		def("cache_evictions_total", metric.Counter, "Answers that left the cache to make room for others.",
			source, about),
		def("cache_answers", metric.Gauge, "Answers that the cache holds.", source, about),
		def("cache_bytes", metric.Gauge, "Memory that the cache takes.", source, about),
		def(
			"lookups_waiting",
			metric.Gauge,
			"Questions that wait for their turn with the source.",
			source,
			about,
		),
		def("clients_with_rules", metric.Gauge,
			"Clients whose rules are asked for again while they are connected."),
	}
}

func newMetrics() *metrics {
	defs := map[string]metric.Def{}
	for _, d := range Metrics() {
		defs[strings.TrimPrefix(d.Name, prefix)] = d
	}
	counter := func(name string) *prometheus.CounterVec {
		d := defs[name]
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Names())
	}
	gauge := func(name string) *prometheus.Desc {
		d := defs[name]
		return prometheus.NewDesc(d.Name, d.Help, d.Names(), nil)
	}
	seconds := defs["lookup_seconds"]
	return &metrics{
		logins: counter("logins_total"), lookups: counter("lookups_total"),
		cache: counter("cache_total"), evicted: counter("cache_evictions_total"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: seconds.Name, Help: seconds.Help,
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}, seconds.Names()),
		waiting: gauge("lookups_waiting"), answers: gauge("cache_answers"), bytes: gauge("cache_bytes"),
		clients: gauge("clients_with_rules"),
	}
}

// events are those of a lookup.
func (m *metrics) events(name, about string, circuit func(name, now, was string)) lookup.Events {
	return lookup.Events{
		Ended:   func(outcome string) { m.lookups.WithLabelValues(name, about, outcome).Inc() },
		Cached:  func(outcome string) { m.cache.WithLabelValues(name, about, outcome).Inc() },
		Took:    func(d time.Duration) { m.seconds.WithLabelValues(name, about).Observe(d.Seconds()) },
		Evicted: func() { m.evicted.WithLabelValues(name, about).Inc() },
		Circuit: func(now, was string) { circuit(name+" ("+about+")", now, was) },
	}
}

// Watch are the events of a lookup of somebody else who is asked about logins, counted as those of sources.
func (e *Engine) Watch(source, about string) lookup.Events {
	return e.metrics.events(source, about, e.circuit)
}

// Count counts what somebody else has said of a login.
func (e *Engine) Count(source string, v auth.Verdict) {
	e.metrics.logins.WithLabelValues(source, outcomeOf(v)).Inc()
}

// outcomeOf is the label of a verdict.
func outcomeOf(v auth.Verdict) string {
	return [...]string{
		auth.Ignore: "ignored", auth.Defer: "unknown", auth.Deny: "deny", auth.Allow: "allow",
		auth.Ask: "unanswered",
	}[v]
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.logins, m.lookups, m.seconds, m.cache, m.evicted}
}

// Describe implements prometheus.Collector.
func (e *Engine) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range e.metrics.all() {
		c.Describe(ch)
	}
	m := e.metrics
	for _, d := range []*prometheus.Desc{m.waiting, m.answers, m.bytes, m.clients} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Sources of the same name, of several files, are one.
func (e *Engine) Collect(ch chan<- prometheus.Metric) {
	m := e.metrics
	for _, c := range m.all() {
		c.Collect(ch)
	}
	type place struct{ source, about string }
	type sum struct {
		waiting, answers int
		bytes            int64
	}
	sums := map[place]sum{}
	for _, r := range *e.current.Load() {
		for about, l := range r.lookups() {
			at := place{r.cfg.Name, about}
			s := sums[at]
			n, bytes := l.Cached()
			s.waiting, s.answers, s.bytes = s.waiting+l.Waiting(), s.answers+n, s.bytes+bytes
			sums[at] = s
		}
	}
	put := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for at, s := range sums {
		put(m.waiting, float64(s.waiting), at.source, at.about)
		put(m.answers, float64(s.answers), at.source, at.about)
		put(m.bytes, float64(s.bytes), at.source, at.about)
	}
	put(m.clients, float64(e.lives.table.len()))
}
