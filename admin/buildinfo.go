package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"noctule/internal/version"
)

// buildInfo is a metric that is always 1: its labels tell what runs.
func buildInfo() prometheus.Collector {
	i := version.Read()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "noctule_build_info",
		Help: "Always 1; the labels tell noctule's version and commit, and the Go that built it.",
		ConstLabels: prometheus.Labels{
			"version": i.Version, "commit": i.Commit, "goversion": i.Go,
		},
	}, func() float64 { return 1 })
}
