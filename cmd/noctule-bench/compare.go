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
	"noctule/cmd/internal/cli"
)

type compareCmd struct {
	Brokers      string        `placeholder:"FILE" help:"File of brokers; by default those this program knows."`
	Only         []string      `placeholder:"NAME" help:"Names of the brokers to run; all by default."`
	Scenario     []string      `sep:"none" placeholder:"PART" help:"Run scenarios whose name contains one of these."`
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
	if brokers, err = c.chosen(brokers); err != nil {
		return err
	}
	suite, err := c.suite()
	if err != nil {
		return err
	}
	if c.Rounds < 1 || c.Duration <= 0 || c.Idle < 1 {
		return fmt.Errorf("%w: rounds, duration and idle clients must be positive", errUsage)
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

// chosen is the brokers that --only names, each of which there must be.
func (c *compareCmd) chosen(brokers []bench.Broker) ([]bench.Broker, error) {
	if len(c.Only) == 0 {
		return brokers, nil
	}
	names := make([]string, len(brokers))
	for i := range brokers {
		names[i] = brokers[i].Name
	}
	for _, name := range c.Only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("%w --only: no broker %q.%s There are %s", errUsage, name,
				cli.Guess(name, names), strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(brokers, func(b bench.Broker) bool {
		return !slices.Contains(c.Only, b.Name)
	}), nil
}

// suite is the scenarios that are to run; each part of a name in --scenario must be in one.
func (c *compareCmd) suite() ([]bench.Scenario, error) {
	suite := bench.Suite(c.Duration, c.Idle)
	if len(c.Scenario) == 0 {
		return suite, nil
	}
	names := make([]string, len(suite))
	for i := range suite {
		names[i] = suite[i].Key()
	}
	for _, part := range c.Scenario {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, part) }) {
			return nil, fmt.Errorf("%w --scenario: none has %q in its name. There are:\n  %s", errUsage, part,
				strings.Join(names, "\n  "))
		}
	}
	return slices.DeleteFunc(suite, func(s bench.Scenario) bool {
		named := func(part string) bool { return strings.Contains(s.Key(), part) }
		return !slices.ContainsFunc(c.Scenario, named)
	}), nil
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
