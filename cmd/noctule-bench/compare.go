package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"noctule/bench"
)

type compareCmd struct {
	Brokers      string        `default:"bench/peers/brokers.toml" help:"File of brokers."`
	Only         []string      `help:"Names of the brokers to run; all by default."`
	Scenario     []string      `sep:"none" help:"Run scenarios whose name contains one of these."`
	Reference    string        `default:"mosquitto" help:"Broker that ratios are to."`
	Rounds       int           `default:"3" help:"Rounds, each with every broker in turn."`
	Duration     time.Duration `short:"d" default:"4s" help:"Length of each measurement."`
	Idle         int           `default:"15000" help:"Idle clients in the memory scenario."`
	BrokerCPU    int           `default:"0" help:"Processor of the broker; -1: any."`
	GeneratorCPU int           `default:"1" help:"Processor of the generator; -1: any."`
	Peers        string        `default:"bench/peers" help:"Directory of the peers' programs."`
	JSON         string        `name:"json" placeholder:"FILE" help:"Write the comparison as JSON."`
	Markdown     string        `placeholder:"FILE" help:"Write the table there too."`
}

// Run compares brokers.
func (c *compareCmd) Run(ctx context.Context, o *output) error {
	brokers, err := bench.ReadBrokers(c.Brokers)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if len(c.Only) > 0 {
		brokers = slices.DeleteFunc(brokers, func(b bench.Broker) bool { return !slices.Contains(c.Only, b.Name) })
	}
	suite := bench.Suite(c.Duration, c.Idle)
	if len(c.Scenario) > 0 {
		suite = slices.DeleteFunc(suite, func(s bench.Scenario) bool {
			return !slices.ContainsFunc(c.Scenario, func(part string) bool { return strings.Contains(s.Key(), part) })
		})
	}
	if len(brokers) == 0 || len(suite) == 0 {
		return fmt.Errorf("%w: nothing is left to compare", errUsage)
	}
	result, err := bench.Compare(ctx, brokers, suite, bench.CompareOptions{
		Reference: c.Reference, Rounds: c.Rounds, BrokerCPU: c.BrokerCPU, GeneratorCPU: c.GeneratorCPU,
		Peers: c.Peers, Log: func(line string) { fmt.Fprintln(o.stderr, line) },
	})
	if err != nil {
		return err
	}
	if c.JSON != "" {
		raw, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.JSON, append(raw, '\n'), 0o644); err != nil { //nolint:gosec // no secret
			return err
		}
	}
	if c.Markdown != "" {
		f, err := os.Create(c.Markdown)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // Markdown's error comes first
		if err := result.Markdown(f); err != nil {
			return err
		}
	}
	return result.Markdown(o.stdout)
}
