package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"noctule/broker"
)

// commitSeconds is the histogram of commits of persistent state.
func commitSeconds() *prometheus.Desc {
	const help = "Time of a commit of persistent state."
	return prometheus.NewDesc("noctule_store_commit_seconds", help, nil, nil)
}

// addStore adds what the committer of persistent state counts.
func addStore(gauge, count func(name, help string, f func(*broker.Metrics) int64)) {
	type m = broker.Metrics
	gauge("store_pending_bytes", "Changes of persistent state that wait for their commit.",
		func(m *m) int64 { return m.Store.Pending })
	gauge("store_failing", "1 while persistent state cannot be written.", func(m *m) int64 {
		if m.Store.Failing {
			return 1
		}
		return 0
	})
	count("store_posts_total", "Turns of loops that changed persistent state.",
		func(m *m) int64 { return m.Store.Posts })
	count("store_written_bytes_total", "Changes of persistent state.",
		func(m *m) int64 { return m.Store.Bytes })
	count("store_errors_total", "Commits that failed.", func(m *m) int64 { return m.Store.Errors })
}
