//go:build linux

package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"noctule/bench"
)

// errGate is a condition of --fail that holds.
var errGate = errors.New("gate")

// gate is one condition of --fail.
type gate struct {
	text, metric, op string
	limit            float64 // ns of a latency
}

var gateForm = regexp.MustCompile(`^\s*([a-z0-9]+)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*$`)

// latencyOf are the metrics that are times.
var latencyOf = map[string]func(*bench.Percentiles) int64{
	"p50":  func(p *bench.Percentiles) int64 { return p.P50 },
	"p90":  func(p *bench.Percentiles) int64 { return p.P90 },
	"p99":  func(p *bench.Percentiles) int64 { return p.P99 },
	"p999": func(p *bench.Percentiles) int64 { return p.P999 },
	"max":  func(p *bench.Percentiles) int64 { return p.Max },
}

// numberOf are the others.
var numberOf = map[string]func(*bench.Report) float64{
	"lost":       func(r *bench.Report) float64 { return float64(r.Lost) },
	"duplicated": func(r *bench.Report) float64 { return float64(r.Duplicated) },
	"reordered":  func(r *bench.Report) float64 { return float64(r.Reordered) },
	"failed":     func(r *bench.Report) float64 { return float64(r.Unwell()) },
	"rate":       func(r *bench.Report) float64 { return rateOf(r) },
	"cpu":        func(r *bench.Report) float64 { return r.Broker.CPU },
}

// rateOf is messages received per second, or sent when the run has nobody to receive them.
func rateOf(r *bench.Report) float64 {
	if r.Received > 0 || r.Sent == 0 {
		return r.ReceivedRate
	}
	return r.SentRate
}

func parseGate(text string) (gate, error) {
	m := gateForm.FindStringSubmatch(text)
	if m == nil {
		const form = "%w --fail: %q is not METRIC, one of > >= < <= == !=, and a value"
		return gate{}, fmt.Errorf(form, errUsage, text)
	}
	g := gate{text: strings.TrimSpace(text), metric: m[1], op: m[2]}
	if _, ok := latencyOf[g.metric]; ok {
		d, err := time.ParseDuration(m[3])
		if err != nil {
			const form = "%w --fail: %q: %s is a time and wants a unit, like 5ms"
			return g, fmt.Errorf(form, errUsage, text, g.metric)
		}
		g.limit = float64(d)
		return g, nil
	}
	if _, ok := numberOf[g.metric]; !ok {
		names := slices.Sorted(maps.Keys(latencyOf))
		names = append(names, slices.Sorted(maps.Keys(numberOf))...)
		all := strings.Join(names, ", ")
		return g, fmt.Errorf("%w --fail: no metric %q; there are %s", errUsage, g.metric, all)
	}
	n, err := strconv.ParseFloat(m[3], 64)
	if err != nil || n != n {
		return g, fmt.Errorf("%w --fail: %q: %q is not a number", errUsage, text, m[3])
	}
	g.limit = n
	return g, nil
}

// gates parses --fail before anything runs: a typing error must not cost an hour.
func (f *runFlags) gates() ([]gate, error) {
	var list []gate
	for _, text := range f.Fail {
		g, err := parseGate(text)
		if err != nil {
			return nil, err
		}
		if g.metric == "cpu" && f.PID == 0 {
			return nil, fmt.Errorf("%w --fail: cpu wants --pid", errUsage)
		}
		list = append(list, g)
	}
	return list, nil
}

// check returns an error when the condition holds, and when it cannot be judged: a gate that was not
// looked at must not let anything pass.
func (g gate) check(r *bench.Report) error {
	var value float64
	var shown string
	if f, ok := latencyOf[g.metric]; ok {
		p := r.Headline()
		if p.Count == 0 {
			return fmt.Errorf("%w %s: no latency was measured", errGate, g.text)
		}
		value = float64(f(&p))
		shown = time.Duration(value).String()
	} else {
		value = numberOf[g.metric](r)
		shown = strconv.FormatFloat(value, 'f', -1, 64)
	}
	holds := false
	switch g.op {
	case ">":
		holds = value > g.limit
	case ">=":
		holds = value >= g.limit
	case "<":
		holds = value < g.limit
	case "<=":
		holds = value <= g.limit
	case "==":
		holds = value == g.limit
	case "!=":
		holds = value != g.limit
	}
	if holds {
		return fmt.Errorf("%w %s: it is %s", errGate, g.text, shown)
	}
	return nil
}

func checkAll(list []gate, r *bench.Report) error {
	var errs []error
	for _, g := range list {
		errs = append(errs, g.check(r))
	}
	return errors.Join(errs...)
}
