//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"noctule/bench"
)

type compareCmd struct {
	Brokers      string        `placeholder:"FILE" help:"File of brokers; by default those this program knows."`
	Only         []string      `help:"Names of the brokers to run; all by default."`
	Scenario     []string      `sep:"none" help:"Run scenarios whose name contains one of these."`
	Reference    string        `default:"mosquitto" help:"Broker that ratios are to."`
	Rounds       int           `default:"3" help:"Rounds, each with every broker in turn."`
	Budget       time.Duration `help:"Begin no further round of a scenario past its share of this time."`
	Duration     time.Duration `short:"d" default:"4s" help:"Length of each measurement."`
	Idle         int           `default:"15000" help:"Idle clients in the memory scenario."`
	BrokerCPU    int           `default:"0" help:"Processor of the broker; -1: any."`
	GeneratorCPU int           `default:"1" help:"Processor of the generator; -1: any."`
	Peers        string        `default:"bench/peers" help:"Directory of the peers' programs."`
	JSON         string        `name:"json" placeholder:"FILE" help:"Write the comparison as JSON."`
	Markdown     string        `placeholder:"FILE" help:"Write the table there too."`
	HTML         string        `name:"html" placeholder:"FILE" help:"Write a page with plots."`
}

// Run compares brokers.
func (c *compareCmd) Run(ctx context.Context, o *output) error {
	brokers, err := bench.ShippedBrokers()
	if c.Brokers != "" {
		brokers, err = bench.ReadBrokers(c.Brokers)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if len(c.Only) > 0 {
		brokers = slices.DeleteFunc(brokers, func(b bench.Broker) bool {
			return !slices.Contains(c.Only, b.Name)
		})
	}
	suite := bench.Suite(c.Duration, c.Idle)
	if len(c.Scenario) > 0 {
		suite = slices.DeleteFunc(suite, func(s bench.Scenario) bool {
			named := func(part string) bool { return strings.Contains(s.Key(), part) }
			return !slices.ContainsFunc(c.Scenario, named)
		})
	}
	if c.Rounds < 1 || c.Duration <= 0 || c.Idle < 1 {
		return fmt.Errorf("%w: rounds, duration and idle clients must be positive", errUsage)
	}
	if len(brokers) == 0 || len(suite) == 0 {
		return fmt.Errorf("%w: nothing is left to compare", errUsage)
	}
	result, err := bench.Compare(ctx, brokers, suite, bench.CompareOptions{
		Reference: c.Reference, Rounds: c.Rounds, Budget: c.Budget,
		BrokerCPU: c.BrokerCPU, GeneratorCPU: c.GeneratorCPU,
		Peers: c.Peers, Log: func(line string) { fmt.Fprintln(o.stderr, line) },
	})
	if result == nil {
		return err
	}
	return errors.Join(err, c.write(result), result.Markdown(o.stdout))
}

// write writes the files asked for, also of a comparison that was cut short.
func (c *compareCmd) write(result *bench.Comparison) error {
	var errs []error
	encode := func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(result)
	}
	for _, file := range []struct {
		path   string
		format func(io.Writer) error
	}{{c.JSON, encode}, {c.Markdown, result.Markdown}, {c.HTML, result.HTML}} {
		if file.path != "" {
			errs = append(errs, writeFile(file.path, file.format))
		}
	}
	return errors.Join(errs...)
}

func writeFile(path string, format func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(format(f), f.Close())
}
