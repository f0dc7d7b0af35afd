//go:build linux

package bench

import "github.com/HdrHistogram/hdrhistogram-go"

// Histograms hold nanoseconds from 1 us to 10 minutes to three digits.
const (
	lowest  = 1000
	highest = 600_000_000_000
	digits  = 3
)

// recorder collects times on one loop: of the measured part of a run, and of the current second.
type recorder struct {
	from, to int64 // of the measured part, Unix ns; to 0: not known yet
	all, now *hdrhistogram.Histogram
	seconds  bool // keep now
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(lowest, highest, digits) }

func newRecorder() recorder {
	return recorder{all: newHistogram(), now: newHistogram(), seconds: true}
}

// record adds a time of ns that belongs to the moment at, Unix ns.
func (r *recorder) record(ns, at int64) {
	ns = min(max(ns, lowest), highest)
	if r.seconds {
		_ = r.now.RecordValue(ns) // in range
	}
	if at >= r.from && r.from > 0 && at < r.to {
		_ = r.all.RecordValue(ns) // in range
	}
}

// Percentiles are those of a histogram, in nanoseconds.
type Percentiles struct {
	Count int64   `json:"count"`
	Min   int64   `json:"min_ns"`
	Mean  float64 `json:"mean_ns"`
	P50   int64   `json:"p50_ns"`
	P90   int64   `json:"p90_ns"`
	P99   int64   `json:"p99_ns"`
	P999  int64   `json:"p999_ns"`
	Max   int64   `json:"max_ns"`
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	if h.TotalCount() == 0 {
		return Percentiles{}
	}
	return Percentiles{
		Count: h.TotalCount(), Min: h.Min(), Mean: h.Mean(), Max: h.Max(),
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90),
		P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9),
	}
}

// Quantile says that a share of the values, 0 to 1, is at most so many nanoseconds.
type Quantile struct {
	Share float64 `json:"share"`
	NS    int64   `json:"ns"`
}

// distribution is all quantiles that differ, in steps that halve what is left.
func distribution(h *hdrhistogram.Histogram) []Quantile {
	if h.TotalCount() == 0 {
		return nil
	}
	var list []Quantile
	for _, b := range h.CumulativeDistribution() {
		q := Quantile{Share: b.Quantile / 100, NS: b.ValueAt}
		if n := len(list); n > 0 && list[n-1].Share == q.Share {
			list[n-1] = q
			continue
		}
		list = append(list, q)
	}
	return list
}
