//go:build linux

package main

import (
	"encoding/csv"
	"os"
	"strconv"
	"time"

	"noctule/bench"
)

// csvColumns is the first row of --csv. Rates are per second, latencies in ms, memory in bytes.
var csvColumns = []string{
	"time_s", "phase", "connected", "failed", "sent_per_s", "received_per_s", "duplicated", "reordered",
	"p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "broker_cpu_cores", "broker_resident_bytes",
}

// table is the file of --csv. Each row is flushed, so that a run that is cut short leaves what it saw.
type table struct {
	file *os.File
	w    *csv.Writer
}

func newTable(path string) (*table, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	t := &table{file: f, w: csv.NewWriter(f)}
	_ = t.w.Write(csvColumns) // its error stays, and comes with close
	return t, nil
}

func (t *table) second(s bench.Second) {
	number := func(f float64, digits int) string { return strconv.FormatFloat(f, 'f', digits, 64) }
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	ms := func(ns int64) string {
		if s.Latency.Count == 0 {
			return "" // nothing arrived: no latency, not a latency of 0
		}
		return number(float64(ns)/1e6, 3)
	}
	_ = t.w.Write([]string{
		number(s.At.Seconds(), 3), s.Phase, whole(s.Connected), whole(s.Failed),
		number(perSecond(s.Sent, s.Length), 1), number(perSecond(s.Received, s.Length), 1),
		whole(s.Duplicated), whole(s.Reordered),
		ms(s.Latency.P50), ms(s.Latency.P90), ms(s.Latency.P99), ms(s.Latency.P999), ms(s.Latency.Max),
		number(s.CPU, 3), whole(s.Resident),
	})
	t.w.Flush()
}

func (t *table) close() error {
	t.w.Flush()
	if err := t.w.Error(); err != nil {
		_ = t.file.Close()
		return err
	}
	return t.file.Close()
}

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}
