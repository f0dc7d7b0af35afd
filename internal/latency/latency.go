// Package latency counts durations by upper bounds, for histograms that are read from outside.
package latency

import (
	"sync/atomic"
	"time"
)

// Histogram counts durations. Its methods may be called from any goroutine.
type Histogram struct {
	// Set by New, then read-only:
	limits []time.Duration

	// Atomic:
	counts []atomic.Int64 // by limit; the last is above all limits
	sum    atomic.Int64   // ns
}

// New makes a histogram with upper bounds, the least first.
func New(limits ...time.Duration) *Histogram {
	return &Histogram{limits: limits, counts: make([]atomic.Int64, len(limits)+1)}
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(h.limits) && d > h.limits[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Counts is what a Histogram has counted up to a moment.
type Counts struct {
	Limits []float64 // upper bounds in seconds
	Each   []int64   // durations by bound, not cumulative; the last is above all bounds
	Sum    float64   // of all durations, in seconds
}

// Counts returns what was counted so far.
func (h *Histogram) Counts() Counts {
	c := Counts{Limits: make([]float64, len(h.limits)), Each: make([]int64, len(h.counts))}
	c.Sum = time.Duration(h.sum.Load()).Seconds()
	for i, l := range h.limits {
		c.Limits[i] = l.Seconds()
	}
	for i := range h.counts {
		c.Each[i] = h.counts[i].Load()
	}
	return c
}

// Total is how many durations were counted.
func (c *Counts) Total() uint64 {
	var n int64
	for _, e := range c.Each {
		n += e
	}
	return uint64(n)
}

// Cumulative is the durations by upper bound in seconds, each with those below.
func (c *Counts) Cumulative() map[float64]uint64 {
	m := make(map[float64]uint64, len(c.Limits))
	var n int64
	for i, limit := range c.Limits {
		n += c.Each[i]
		m[limit] = uint64(n)
	}
	return m
}
