//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"noctule/bench"
	"noctule/cmd/internal/cli"
)

// preset is a use case of the open MQTT benchmark suite (github.com/emqx/mqttbs). All have QoS 1, payloads
// of 16 bytes, Keep Alive 300 and clean sessions.
type preset struct {
	name                    string
	kind                    presetKind
	publishers, subscribers int
	rate                    float64 // messages per second and publisher
	connrate                int     // connections per second; 0: --connrate
}

type presetKind uint8

const (
	presetConn presetKind = iota
	presetFanout
	presetP2P
	presetShared
)

// presets is the basic set, then that for large brokers.
var presets = []preset{
	{"conn-tcp-10k-100", presetConn, 0, 10_000, 0, 100},
	{"fanout-1-1k-1-1k", presetFanout, 1, 1000, 1, 0},
	{"p2p-1k-1k-1k-1k", presetP2P, 1000, 1000, 1, 0},
	{"sharedsub-1k-5-1k-1k", presetShared, 1000, 5, 1, 0},
	{"conn-tcp-1M-5K", presetConn, 0, 1_000_000, 0, 5000},
	{"fanout-5-1000-5-250K", presetFanout, 5, 1000, 50, 0},
	{"p2p-50K-50K-50K-50K", presetP2P, 50_000, 50_000, 1, 0},
	{"sharedsub-50K-500-50K-50K", presetShared, 50_000, 500, 1, 0},
}

// findPreset looks a name up as the suite and its reports write it.
func findPreset(name string) (preset, bool) {
	plain := func(s string) string {
		s = strings.TrimPrefix(strings.ToLower(s), "singlenode-")
		return strings.Replace(s, "sharesub-", "sharedsub-", 1)
	}
	for _, p := range presets {
		if plain(p.name) == plain(name) {
			return p, true
		}
	}
	return preset{}, false
}

func unknownPreset(name string) error {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.name
	}
	between := ";"
	if guess := cli.Guess(name, names); guess != "" {
		between = "." + guess
	}
	return fmt.Errorf("%w: no preset %q%s --list prints them", errUsage, name, between)
}

// String tells what it does.
func (p preset) String() string {
	switch p.kind {
	case presetConn:
		return fmt.Sprintf("%d clients, %d connections/s", p.subscribers, p.connrate)
	case presetFanout:
		return fmt.Sprintf("%d publishers, %g/s each, to %d subscribers", p.publishers, p.rate, p.subscribers)
	case presetP2P:
		return fmt.Sprintf("%d pairs, %g/s each", p.publishers, p.rate)
	case presetShared:
	}
	return fmt.Sprintf("%d publishers, %g/s each, to a group of %d", p.publishers, p.rate, p.subscribers)
}

// scaled is the preset with that share of its clients, and of its rate of connections.
func (p preset) scaled(factor float64) preset {
	n := func(i int) int {
		if i == 0 {
			return 0
		}
		return max(int(math.Round(float64(i)*factor)), 1)
	}
	p.publishers, p.subscribers, p.connrate = n(p.publishers), n(p.subscribers), n(p.connrate)
	return p
}

// plan makes the library's plan and the number of clients.
func (p preset) plan(l bench.Load) (plan bench.Plan, clients int) {
	l.QoS, l.Size, l.Rate, l.Window = 1, bench.HeaderSize, p.rate, 0
	switch p.kind {
	case presetConn:
		plan = l.Clients(p.subscribers)
		plan.Hold, plan.Duration = l.Duration, 0
	case presetFanout:
		plan = l.Fanout(p.publishers, p.subscribers)
	case presetP2P:
		plan = l.Pairs(p.publishers)
	case presetShared:
		plan = l.Shared(p.publishers, p.subscribers)
	}
	plan.Name = p.name
	return plan, p.publishers + p.subscribers
}

type presetCmd struct {
	targetFlags `group:"Broker:"`
	runFlags    `group:"Run:"`

	Name     string        `arg:"" optional:"" help:"Name of the preset."`
	List     bool          `help:"Print the presets."`
	Scale    float64       `default:"1" help:"Share of the clients, e.g. 0.1."`
	Topic    string        `default:"bench" help:"Root of the topics."`
	Warmup   time.Duration `default:"2s" help:"Publishing before the measurement."`
	Duration time.Duration `short:"d" default:"30m" help:"Length of the measurement, as in the suite."`
}

// Run runs a preset, or lists them.
func (c *presetCmd) Run(ctx context.Context, o *output) error {
	if c.List {
		t := tabwriter.NewWriter(o.stdout, 0, 0, 2, ' ', 0)
		for _, p := range presets {
			fmt.Fprintf(t, "%s\t%v\n", p.name, p)
		}
		return t.Flush()
	}
	p, ok := findPreset(c.Name)
	switch {
	case c.Name == "":
		return fmt.Errorf("%w: which preset? --list prints them", errUsage)
	case !ok:
		return unknownPreset(c.Name)
	case !(c.Scale > 0):
		return fmt.Errorf("%w --scale: it is more than 0", errUsage)
	}
	f := flags{targetFlags: c.targetFlags, runFlags: c.runFlags}
	if p.kind == presetShared && f.Version == 4 {
		f.Version = 5 // as in the suite: shared subscriptions came with MQTT 5
	}
	p = p.scaled(c.Scale)
	plan, clients := p.plan(bench.Load{Topic: c.Topic, Warmup: c.Warmup, Duration: c.Duration})
	if c.Scale != 1 {
		plan.Name += fmt.Sprintf(" x %g", c.Scale)
	}
	if f.Connrate == 0 {
		f.Connrate = p.connrate
	}
	if f.Hold == 0 {
		f.Hold = plan.Hold
	}
	return f.do(ctx, o, plan, clients)
}
