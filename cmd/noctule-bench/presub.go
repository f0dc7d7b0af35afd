//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"noctule/bench"
)

type presubCmd struct {
	Program   string        `name:"noctule" placeholder:"PATH" default:"noctule" help:"The broker's program; noctule of the PATH without."`
	Clients   int           `short:"c" default:"1000" help:"Clients that connect and never subscribe."`
	Transport string        `enum:"tcp,ws" default:"tcp" help:"tcp or ws."`
	Topics    int           `default:"50" help:"Topics of each list, of which there are a thousand."`
	Latency   time.Duration `default:"20ms" help:"Of the webservice."`
	Conns     int           `default:"64" help:"max_conns: connections to the webservice."`
	Batch     int           `placeholder:"N" help:"Clients in a request to the webservice; 0: one a request."`
	Timeout   time.Duration `help:"Of a request to the webservice; the broker's default without."`
	Provider  []string      `sep:"none" placeholder:"YAML" help:"A further setting of the provider in presub.yaml, such as 'on_failure: refuse'. Repeatable."`
	Broker    []string      `sep:"none" placeholder:"DIRECTIVE" help:"A further directive of noctule.conf. Repeatable."`
	Down      time.Duration `help:"The webservice is away so long from the first CONNECT on."`
	Logins    int           `placeholder:"N" help:"Logins on the connect topic within a second, once all have their lists."`
	Patience  time.Duration `default:"1m" help:"Longest wait for lists and answers once all are connected."`
	KeepAlive uint16        `short:"k" default:"300" help:"Keep Alive in seconds."`

	runFlags `group:"Run:"`
}

// Run starts the broker and a webservice, and connects the clients.
func (c *presubCmd) Run(ctx context.Context, o *output) error {
	switch {
	case c.Clients < 1, c.Topics < 1, c.Conns < 1, c.Batch < 0, c.Logins < 0:
		return fmt.Errorf("%w: presub wants clients, topics and connections, and nothing negative", errUsage)
	case c.PID != 0:
		return fmt.Errorf("%w --pid: it starts the broker itself", errUsage)
	}
	program, err := exec.LookPath(c.Program)
	if err == nil {
		program, err = filepath.Abs(program) // it is started in a directory of its own
	}
	if err != nil {
		return fmt.Errorf("--noctule: %w", err)
	}
	f := &flags{runFlags: c.runFlags}
	f.KeepAlive, f.Version, f.URL = c.KeepAlive, 5, "mqtt://127.0.0.1"
	run := bench.PresubRun{
		Program: program, Clients: c.Clients, WebSocket: c.Transport == "ws", Topics: c.Topics,
		Latency: c.Latency, Timeout: c.Timeout,
		Conns: c.Conns, Batch: c.Batch, Provider: strings.Join(c.Provider, "\n"),
		Broker: strings.Join(c.Broker, "\n"), Down: c.Down, Logins: c.Logins, Patience: c.Patience,
		Shape: c.shape(bench.Plan{}),
	}
	var shortfall error
	err = f.perform(ctx, o, c.Clients,
		func(ctx context.Context, t bench.Target, opts bench.Options) (*bench.Report, error) {
			r, err := bench.RunPresub(ctx, t, run, opts)
			if r != nil && r.Granted != nil {
				shortfall = r.Granted.Shortfall()
			}
			return r, err
		})
	return errors.Join(err, shortfall)
}

// Examples shows how.
func (presubCmd) Examples() []string {
	return []string{
		"presub -c 10000 --concurrent 10000 --latency 100ms", "presub -c 3000 -R 300 --down 10s",
		"presub -c 1000 --logins 6000", "presub -c 100000 --transport ws --batch 100",
	}
}
