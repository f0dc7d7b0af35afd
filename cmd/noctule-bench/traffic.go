//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"noctule/bench/traffic"
)

type trafficCmd struct {
	Noctule string   `placeholder:"FILE" help:"Our broker's program; built with go by default."`
	Only    []string `help:"Of prosody, ejabberd, mosquitto, noctule and net/http; all by default."`
	Real    bool     `help:"Compress no time: ten minutes and more."`
	JSON    string   `name:"json" placeholder:"FILE" help:"Write the counts as JSON."`
}

// Run measures the paper's tables 5 and 6.
func (c *trafficCmd) Run(ctx context.Context, o *output) error {
	program := c.Noctule
	if program == "" {
		dir, err := os.MkdirTemp("", "noctule-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
		program = filepath.Join(dir, "noctule")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "noctule/cmd/noctule").
			CombinedOutput(); err != nil {
			fmt.Fprintf(o.stderr, "cannot build noctule: %v\n%s", err, out)
		}
	}
	result, err := traffic.Measure(ctx, traffic.Options{
		Noctule: program, Only: c.Only, Real: c.Real, Now: time.Now,
		Log: func(line string) { fmt.Fprintln(o.stderr, line) },
	})
	if result == nil {
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
	return errors.Join(err, result.Markdown(o.stdout))
}
