//go:build linux

package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scenario is one row of a comparison.
type Scenario struct {
	Name      string
	WebSocket bool
	Memory    bool   // the figure is bytes per client, else CPU microseconds per message
	Reference string // broker that this row's ratios are to; "": CompareOptions.Reference
	Plan      Plan
}

// Key names the row.
func (s *Scenario) Key() string {
	if s.WebSocket {
		return s.Name + ", WebSocket"
	}
	return s.Name + ", TCP"
}

// Suite is the standard comparison: each scenario over TCP and over WebSocket, and isolated messages over TCP
// once more beside the program that only copies bytes. duration is of each measurement; idle is the number of
// idle clients.
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
	const isolated = "1000 pairs, 5 messages/s each"
	rows := []Scenario{
		{Name: fmt.Sprintf("%d idle clients, a subscription each", idle), Memory: true, Plan: quiet},
		{Name: isolated, Plan: slow.Pairs(1000)},
		{Name: "100 pairs, 32 outstanding", Plan: closed.Pairs(100)},
		{Name: "100 pairs, QoS 1, 16 outstanding", Plan: qos(1).Pairs(100)},
		{Name: "100 pairs, QoS 2, 16 outstanding", Plan: qos(2).Pairs(100)},
		{Name: "1 to 1000, 50 messages/s", Plan: burst.Fanout(1, 1000)},
		{Name: "1 to 100, 32 outstanding", Plan: closed.Fanout(1, 100)},
		{Name: "100 to 1, 32 outstanding", Plan: closed.Fanin(100, 1)},
		{Name: "100 pairs, 200 messages/s each", Plan: steady.Pairs(100)},
	}
	all := make([]Scenario, 0, 2*len(rows)+1)
	for _, r := range rows {
		r.Plan.Drain = 3 * time.Second
		all = append(all, r)
		if r.Name == isolated {
			floor := r
			floor.Name, floor.Reference = r.Name+", beside the floor", FloorName
			all = append(all, floor)
		}
		r.WebSocket = true
		all = append(all, r)
	}
	return all
}

// FloorName is the peer that only copies bytes (bench/peers/floor): the least that isolated messages can
// cost.
const FloorName = "floor"

// Cell is what one broker did in one scenario.
type Cell struct {
	Rounds []int           `json:"rounds"` // that went well, counted from 1
	Values []float64       `json:"values"` // of these rounds
	Value  float64         `json:"value"`  // their median
	Ratio  float64         `json:"ratio"`  // median of the rounds' ratios to the reference; 0: none
	Low    float64         `json:"ratio_low"`
	High   float64         `json:"ratio_high"`
	P99    []time.Duration `json:"p99_ns"`
	Rate   []float64       `json:"received_per_second"`
	Lost   int64           `json:"lost"`
	Failed int             `json:"failed"`          // rounds
	Notes  []string        `json:"notes,omitempty"` // first of the rounds that failed
}

// Row is one scenario.
type Row struct {
	Key       string           `json:"scenario"`
	Memory    bool             `json:"memory"`
	Reference string           `json:"reference"` // broker that its ratios are to
	Cells     map[string]*Cell `json:"brokers"`   // none for a broker that the scenario is not for
}

// Comparison is the outcome of Compare.
type Comparison struct {
	Machine      Machine       `json:"machine"`
	Began        time.Time     `json:"began"`
	Took         time.Duration `json:"took_ns"`
	Reference    string        `json:"reference"`
	Rounds       int           `json:"rounds"`
	Duration     time.Duration `json:"duration_ns"` // of each measurement
	BrokerCPU    int           `json:"broker_processor"`
	GeneratorCPU int           `json:"generator_processor"`
	Versions     []Peer        `json:"brokers"`
	Rows         []Row         `json:"rows"`
}

// Peer is a broker as it was compared.
type Peer struct {
	Name        string            `json:"name"`
	Version     string            `json:"version,omitempty"`
	Hash        string            `json:"configuration_sha256,omitempty"`
	Missing     string            `json:"missing,omitempty"` // why it was left out
	Start       string            `json:"start"`
	Environment []string          `json:"environment,omitempty"`
	Files       map[string]string `json:"files,omitempty"`
}

// CompareOptions say how.
type CompareOptions struct {
	Reference    string // name of the broker that ratios are to
	Rounds       int
	Budget       time.Duration // for all; a scenario begins no further round past its share; 0: no limit
	BrokerCPU    int           // processor of the broker, -1: any
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
		j := slices.Index(reference.Rounds, c.Rounds[i])
		if j >= 0 && reference.Values[j] > 0 {
			ratios = append(ratios, v/reference.Values[j])
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

// present are the brokers that were not left out.
func (c *Comparison) present() []Peer {
	return slices.DeleteFunc(slices.Clone(c.Versions), func(p Peer) bool { return p.Missing != "" })
}

// Markdown writes the comparison as a table.
func (c *Comparison) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", c.summary())
	for _, p := range c.Versions {
		if p.Missing != "" {
			fmt.Fprintf(&b, "* %s: left out: %s\n", p.Name, p.Missing)
			continue
		}
		fmt.Fprintf(&b, "* %s: %s (configuration %.12s)\n", p.Name, p.Version, p.Hash)
	}
	fmt.Fprintf(&b, "\n%s\n\n| scenario |", c.legend())
	present := c.present()
	for _, p := range present {
		fmt.Fprintf(&b, " %s |", p.Name)
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(present)))
	escape := strings.NewReplacer("|", "\\|", "\n", " ")
	for _, r := range c.Rows {
		fmt.Fprintf(&b, "| %s, %s |", r.Key, r.Unit())
		for _, p := range present {
			fmt.Fprintf(&b, " %s |", escape.Replace(r.Cells[p.Name].text(r.Memory)))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Comparison) legend() string {
	var text strings.Builder
	const form = "Medians; in brackets the median ratio to %s in the same round, and p99 latency."
	fmt.Fprintf(&text, form, c.Reference)
	for _, r := range c.Rows {
		if r.Reference != c.Reference {
			fmt.Fprintf(&text, " The ratios of %q are to %s.", r.Key, r.Reference)
		}
	}
	return text.String()
}

// summary is how it was done, in a line or two.
func (c *Comparison) summary() string {
	return fmt.Sprintf("%s. Up to %d rounds of %v each; broker on processor %s, generator on %s.",
		c.Machine, c.Rounds, c.Duration, cpuName(c.BrokerCPU), cpuName(c.GeneratorCPU))
}

func cpuName(n int) string {
	if n < 0 {
		return "any"
	}
	return strconv.Itoa(n)
}

// Unit is that of the row's values.
func (r Row) Unit() string {
	if r.Memory {
		return "B/client"
	}
	return "us/message"
}

// text is the cell in the table.
func (c *Cell) text(memory bool) string {
	if c == nil || len(c.Values) == 0 {
		if c != nil && len(c.Notes) > 0 {
			return c.Notes[0]
		}
		return "-"
	}
	text := fmt.Sprintf("%.3g (%.3f; %v)", c.Value, c.Ratio, median(c.P99).Round(10*time.Microsecond))
	if memory {
		text = fmt.Sprintf("%.0f (%.2f)", c.Value, c.Ratio)
	}
	if c.Lost > 0 {
		text += fmt.Sprintf(" lost %d", c.Lost)
	}
	if c.Failed > 0 {
		text += fmt.Sprintf(" failed %d times: %s", c.Failed, c.Notes[0])
	}
	return text
}

// Compare runs each scenario on each broker in turn, several rounds, each time in a fresh process. A broker
// that fails is noted in its cell. The comparison is valid, as far as it goes, also with an error.
func Compare(
	ctx context.Context, brokers []Broker, scenarios []Scenario, o CompareOptions,
) (*Comparison, error) {
	c := &Comparison{
		Machine: ThisMachine(), Reference: o.Reference, Rounds: o.Rounds, Began: time.Now(),
		BrokerCPU: o.BrokerCPU, GeneratorCPU: o.GeneratorCPU,
	}
	for _, s := range scenarios {
		c.Duration = max(c.Duration, s.Plan.Duration)
	}
	var err error
	if o.Peers, err = filepath.Abs(o.Peers); err != nil { // brokers start in directories of their own
		return nil, fmt.Errorf("bench: %w", err)
	}
	h := host{opts: o}
	if err := h.pin(); err != nil {
		return nil, err
	}
	var present []Broker
	for _, b := range brokers {
		p := h.describe(ctx, b)
		if ctx.Err() != nil { // not the broker's fault
			return c, ctx.Err()
		}
		c.Versions = append(c.Versions, p)
		if p.Missing == "" {
			present = append(present, b)
		} else {
			o.Log(fmt.Sprintf("%s is left out: %s", p.Name, p.Missing))
		}
	}
	defer func() { c.Took = time.Since(c.Began) }()
	began := time.Now()
	for i := range scenarios {
		var end time.Time
		if o.Budget > 0 {
			end = began.Add(o.Budget * time.Duration(i+1) / time.Duration(len(scenarios)))
		}
		row, err := h.row(ctx, &scenarios[i], present, end)
		if err != nil {
			return c, err
		}
		c.Rows = append(c.Rows, row)
	}
	return c, nil
}

// row does one scenario. Past the first round it begins none that would end after end, if that is set.
func (h *host) row(ctx context.Context, s *Scenario, brokers []Broker, end time.Time) (Row, error) {
	row := Row{
		Key: s.Key(), Memory: s.Memory, Cells: map[string]*Cell{},
		Reference: cmp.Or(s.Reference, h.opts.Reference),
	}
	brokers = slices.DeleteFunc(slices.Clone(brokers), func(b Broker) bool { return !b.takes(s) })
	for _, b := range brokers {
		row.Cells[b.Name] = &Cell{}
	}
	var longest time.Duration
	for round := 1; round <= h.opts.Rounds; round++ {
		began := time.Now()
		if round > 1 && !end.IsZero() && began.Add(longest).After(end) {
			break
		}
		for _, b := range brokers {
			if err := h.cell(ctx, s, b, round, row.Cells[b.Name]); err != nil {
				return row, err
			}
		}
		longest = max(longest, time.Since(began))
	}
	for _, cell := range row.Cells {
		cell.settle(row.Cells[row.Reference])
	}
	return row, nil
}

// cell does one round of a scenario on one broker; the error is that of ctx.
func (h *host) cell(ctx context.Context, s *Scenario, b Broker, round int, cell *Cell) error {
	if s.WebSocket && !b.WebSocket {
		cell.Notes = []string{"no WebSocket"}
		return nil
	}
	if round > 1 && len(cell.Values) == 0 { // it would fail again
		return nil
	}
	r, err := h.once(ctx, b, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	where := fmt.Sprintf("%s, round %d, %s", s.Key(), round, b.Name)
	if err != nil {
		cell.Notes = slices.Insert(cell.Notes, cell.Failed, err.Error())
		cell.Failed++
		h.opts.Log(fmt.Sprintf("%s: %v", where, err))
		return nil
	}
	cell.take(round, r, s.Memory)
	h.opts.Log(fmt.Sprintf("%s: %.3g, p99 %v, %.0f/s, lost %d", where,
		cell.Values[len(cell.Values)-1], time.Duration(r.Latency.P99), r.ReceivedRate, r.Lost))
	return nil
}

func (c *Cell) take(round int, r *Report, memory bool) {
	v := r.Broker.CPUPerMessage
	if memory {
		v = r.Broker.ResidentPerClient
	}
	c.Rounds = append(c.Rounds, round)
	c.Values = append(c.Values, v)
	c.P99 = append(c.P99, time.Duration(r.Latency.P99))
	c.Rate = append(c.Rate, r.ReceivedRate)
	c.Lost += r.Lost
	c.Notes = append(c.Notes, r.Warnings...)
}

// unusable says why a run's figures are no result.
func (r *Report) unusable(memory bool) error {
	cause := ""
	for _, text := range slices.Sorted(maps.Keys(r.Failures)) {
		cause = ": " + text
		break
	}
	switch {
	case r.Failed > 0:
		return fmt.Errorf("%d of %d clients could not connect%s", r.Failed, r.Clients, cause)
	case r.Ended > 0:
		return fmt.Errorf("%d of %d connections were ended%s", r.Ended, r.Clients, cause)
	case !memory && r.Received == 0:
		return errors.New("no message was delivered")
	}
	return nil
}
