package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Scenario is one row of a comparison.
type Scenario struct {
	Name      string
	WebSocket bool
	Memory    bool // the figure is bytes per client, else CPU microseconds per message
	Threads   int
	Plan      Plan
}

// Key names the row.
func (s *Scenario) Key() string {
	if s.WebSocket {
		return s.Name + ", WebSocket"
	}
	return s.Name + ", TCP"
}

// Suite is the standard comparison: each scenario over TCP and over WebSocket. duration is of each
// measurement; idle is the number of idle clients.
func Suite(duration time.Duration, idle int) []Scenario {
	l := Load{Size: DefaultSize, Warmup: min(duration/2, 2*time.Second), Duration: duration}
	with := func(f func(*Load)) Load {
		c := l
		f(&c)
		return c
	}
	slow := with(func(l *Load) { l.Rate = 5 })
	burst := with(func(l *Load) { l.Rate = 50 })
	closed := with(func(l *Load) { l.Window = 32 })
	qos := func(q uint8) Load { return with(func(l *Load) { l.Window, l.QoS = 16, q }) }
	steady := with(func(l *Load) { l.Rate = 200 })
	quiet := l.Idle(idle)
	quiet.Duration, quiet.Hold = 0, 2*time.Second
	rows := []Scenario{
		{Name: fmt.Sprintf("%d idle clients, a subscription each", idle), Memory: true, Plan: quiet},
		{Name: "1000 pairs, 5 messages/s each", Plan: slow.Pairs(1000)},
		{Name: "100 pairs, 32 outstanding", Plan: closed.Pairs(100)},
		{Name: "100 pairs, QoS 1, 16 outstanding", Plan: qos(1).Pairs(100)},
		{Name: "100 pairs, QoS 2, 16 outstanding", Plan: qos(2).Pairs(100)},
		{Name: "1 to 1000, 50 messages/s", Plan: burst.Fanout(1, 1000)},
		{Name: "1 to 100, 32 outstanding", Plan: closed.Fanout(1, 100)},
		{Name: "100 to 1, 32 outstanding", Plan: closed.Fanin(100, 1)},
		{Name: "100 pairs, 200 messages/s each", Plan: steady.Pairs(100)},
	}
	all := make([]Scenario, 0, 2*len(rows))
	for _, r := range rows {
		all = append(all, r)
		r.WebSocket = true
		all = append(all, r)
	}
	return all
}

// Cell is what one broker did in one scenario.
type Cell struct {
	Values []float64       `json:"values"` // a round each
	Value  float64         `json:"value"`  // their median
	Ratio  float64         `json:"ratio"`  // median of the rounds' ratios to the reference; 0: none
	Low    float64         `json:"ratio_low"`
	High   float64         `json:"ratio_high"`
	P99    []time.Duration `json:"p99_ns"`
	Rate   []float64       `json:"received_per_second"`
	Lost   int64           `json:"lost"`
	Notes  []string        `json:"notes,omitempty"`
}

// Row is one scenario.
type Row struct {
	Key    string           `json:"scenario"`
	Memory bool             `json:"memory"`
	Cells  map[string]*Cell `json:"brokers"`
}

// Comparison is the outcome of Compare.
type Comparison struct {
	Machine   Machine `json:"machine"`
	Reference string  `json:"reference"`
	Rounds    int     `json:"rounds"`
	Versions  []Peer  `json:"brokers"`
	Rows      []Row   `json:"rows"`
}

// Peer is a broker as it was compared.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Hash    string `json:"configuration_sha256,omitempty"`
	Missing string `json:"missing,omitempty"` // why it was left out
}

// CompareOptions say how.
type CompareOptions struct {
	Reference    string // name of the broker that ratios are to
	Rounds       int
	BrokerCPU    int // processor of the broker, -1: any
	GeneratorCPU int
	Peers        string       // directory of the peers' programs
	Log          func(string) // progress
}

// settle gives fresh medians to a cell.
func (c *Cell) settle(reference *Cell) {
	c.Value = median(c.Values)
	if reference == nil {
		return
	}
	var ratios []float64
	for i, v := range c.Values {
		if i < len(reference.Values) && reference.Values[i] > 0 {
			ratios = append(ratios, v/reference.Values[i])
		}
	}
	if len(ratios) > 0 {
		c.Ratio, c.Low, c.High = median(ratios), slices.Min(ratios), slices.Max(ratios)
	}
}

func median[T cmp.Ordered](v []T) T {
	var zero T
	if len(v) == 0 {
		return zero
	}
	s := slices.Sorted(slices.Values(v))
	return s[(len(s)-1)/2]
}

// Markdown writes the comparison as a table.
func (c *Comparison) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d rounds, broker and generator on a processor each.\n\n", c.Machine, c.Rounds)
	var names []string
	for _, p := range c.Versions {
		if p.Missing != "" {
			fmt.Fprintf(&b, "* %s: left out: %s\n", p.Name, p.Missing)
			continue
		}
		names = append(names, p.Name)
		fmt.Fprintf(&b, "* %s: %s (configuration %.12s)\n", p.Name, p.Version, p.Hash)
	}
	fmt.Fprintf(&b, "\nMedians; in brackets the ratio to %s in the same round, and p99 latency.\n\n| scenario |", c.Reference)
	for _, n := range names {
		fmt.Fprintf(&b, " %s |", n)
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(names)))
	for _, r := range c.Rows {
		unit := "us/message"
		if r.Memory {
			unit = "B/client"
		}
		fmt.Fprintf(&b, "| %s, %s |", r.Key, unit)
		for _, n := range names {
			fmt.Fprintf(&b, " %s |", r.Cells[n].text(r.Memory))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Cell) text(memory bool) string {
	if c == nil || len(c.Values) == 0 {
		if c != nil && len(c.Notes) > 0 {
			return c.Notes[0]
		}
		return "-"
	}
	if memory {
		return fmt.Sprintf("%.0f (%.2f)", c.Value, c.Ratio)
	}
	text := fmt.Sprintf("%.3g (%.3f; %v)", c.Value, c.Ratio, median(c.P99).Round(10*time.Microsecond))
	if c.Lost > 0 {
		text += fmt.Sprintf(" lost %d", c.Lost)
	}
	return text
}

// Compare runs each scenario on each broker in turn, several rounds, each time in a fresh process.
func Compare(ctx context.Context, brokers []Broker, scenarios []Scenario, o CompareOptions) (*Comparison, error) {
	c := &Comparison{Machine: ThisMachine(), Reference: o.Reference, Rounds: o.Rounds}
	h := host{opts: o}
	if err := h.pin(); err != nil {
		return nil, err
	}
	var present []Broker
	for _, b := range brokers {
		p := h.describe(ctx, b)
		c.Versions = append(c.Versions, p)
		if p.Missing == "" {
			present = append(present, b)
		}
	}
	for i := range scenarios {
		row, err := h.row(ctx, &scenarios[i], present)
		if err != nil {
			return c, err
		}
		c.Rows = append(c.Rows, row)
	}
	return c, nil
}

// row does one scenario.
func (h *host) row(ctx context.Context, s *Scenario, brokers []Broker) (Row, error) {
	row := Row{Key: s.Key(), Memory: s.Memory, Cells: map[string]*Cell{}}
	for round := range h.opts.Rounds {
		for _, b := range brokers {
			cell := row.Cells[b.Name]
			if cell == nil {
				cell = &Cell{}
				row.Cells[b.Name] = cell
			}
			if s.WebSocket && !b.WebSocket || round > 0 && len(cell.Values) == 0 {
				continue
			}
			r, err := h.once(ctx, b, s)
			if ctx.Err() != nil {
				return row, ctx.Err()
			}
			if err != nil {
				cell.Notes = append(cell.Notes, err.Error())
				h.opts.Log(fmt.Sprintf("%s, round %d, %s: %v", row.Key, round+1, b.Name, err))
				continue
			}
			cell.take(r, s.Memory)
			h.opts.Log(fmt.Sprintf("%s, round %d, %s: %.3g, p99 %v, %.0f/s, lost %d", row.Key, round+1, b.Name,
				cell.Values[len(cell.Values)-1], time.Duration(r.Latency.P99), r.ReceivedRate, r.Lost))
		}
	}
	for _, cell := range row.Cells {
		cell.settle(row.Cells[h.opts.Reference])
	}
	return row, nil
}

func (c *Cell) take(r *Report, memory bool) {
	v := r.Broker.CPUPerMessage
	if memory {
		v = r.Broker.ResidentPerClient
	}
	c.Values = append(c.Values, v)
	c.P99 = append(c.P99, time.Duration(r.Latency.P99))
	c.Rate = append(c.Rate, r.ReceivedRate)
	c.Lost += r.Lost
	c.Notes = append(c.Notes, r.Warnings...)
}
