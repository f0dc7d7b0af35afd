//go:build linux

// Command noctule-bench puts load on an MQTT broker and tells honestly what came of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the run failed, or a limit of --fail was passed
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr)) //nolint:gocritic // stop only matters while run runs
}

// commands is the command line.
type commands struct {
	Conn   connCmd   `cmd:"" help:"Connect clients, a subscription each, and hold them."`
	Pub    pubCmd    `cmd:"" help:"Publish to whoever listens."`
	Sub    subCmd    `cmd:"" help:"Subscribe and count."`
	P2p    pairsCmd  `cmd:"" name:"p2p" help:"Publishers with one subscriber each."`
	Fanout fanoutCmd `cmd:"" help:"Few publishers, many subscribers."`
	Fanin  faninCmd  `cmd:"" help:"Many publishers, few subscribers."`
	Shared sharedCmd `cmd:"" help:"Publishers, and a group that shares a subscription."`

	Retained retainedCmd `cmd:"" help:"Store retained messages, then let clients collect them by a wildcard."`
	Storm    stormCmd    `cmd:"" help:"Cut all clients and let them come back."`
	Lists    listsCmd    `cmd:"" help:"Connect clients with long lists of topics, subscribed by themselves or by the broker."`
	Soak     soakCmd     `cmd:"" help:"Pairs for hours, beside clients that come and go."`
	Slow     slowCmd     `cmd:"" help:"Fan-out to subscribers of which some do not keep up."`
	Preset   presetCmd   `cmd:"" help:"A use case of the open MQTT benchmark suite."`

	Compare compareCmd `cmd:"" help:"Run brokers side by side and print the ratios."`
	Traffic trafficCmd `cmd:"" help:"Count packets and bytes against BOSH: the paper's tables 5 and 6."`
}

// newParser makes the parser of the command line.
func newParser(
	c *commands, stdout, stderr io.Writer, exit func(int), more ...kong.Option,
) (*kong.Kong, error) {
	return kong.New(c, append(more, kong.Name("noctule-bench"), kong.UsageOnError(),
		kong.Description("Load test for MQTT brokers: open loop, every message accounted for."),
		kong.Writers(stdout, stderr), kong.Exit(exit),
		kong.Vars{
			"url": "Broker: HOST:PORT, mqtt:// or tcp://, mqtts:// or ssl://, ws://, wss://HOST:PORT/PATH, " +
				"unix:///PATH.",
			"window": "Messages outstanding per publisher; with --rate, most unacknowledged ones.",
			"fail":   "Exit with 1 if it holds, e.g. 'p99>5ms', 'lost>0'. Repeatable.",
		})...)
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c commands
	exit := -1
	parser, err := newParser(&c, stdout, stderr, func(code int) { exit = code },
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	k, err := parser.Parse(args)
	switch {
	case exit >= 0: // --help
		return exit
	case err != nil:
		fmt.Fprintf(stderr, "noctule-bench: %v\n", err)
		return exitUsage
	}
	command, _, _ := strings.Cut(k.Command(), " ")
	o := output{stdout: stdout, stderr: stderr, args: args, command: command}
	switch err := k.Run(&o); {
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "noctule-bench: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "noctule-bench: %v\n", err)
		return exitFailed
	}
	return exitOK
}

var errUsage = errors.New("bad option")
