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
	"runtime"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"noctule/internal/version"
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
	Presub   presubCmd   `cmd:"" help:"Start noctule and a webservice with lists of topics, and connect clients that never subscribe."`
	Soak     soakCmd     `cmd:"" help:"Pairs for hours, beside clients that come and go."`
	Slow     slowCmd     `cmd:"" help:"Fan-out to subscribers of which some do not keep up."`
	Preset   presetCmd   `cmd:"" help:"A use case of the open MQTT benchmark suite."`

	Compare compareCmd `cmd:"" help:"Run brokers side by side and print the ratios."`
	Traffic trafficCmd `cmd:"" help:"Count packets and bytes against BOSH: the paper's tables 5 and 6."`
	Help    helpCmd    `cmd:"" help:"Show the help of a command."`
	Version versionCmd `cmd:"" help:"Show the version of this program."`
}

// settings are what kong is told of the commands.
func settings(ctx context.Context, o *output) []kong.Option {
	return []kong.Option{
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(o),
		kong.Vars{
			"url": "Broker: HOST:PORT, mqtt:// or tcp://, mqtts:// or ssl://, ws://, wss://HOST:PORT/PATH, " +
				"unix:///PATH; mqtt://127.0.0.1:1883 without.",
			"window": "Messages outstanding per publisher; with --rate, most unacknowledged ones.",
			"fail":   "Exit with 1 if it holds, e.g. 'p99>5ms', 'lost>0'. Repeatable.",
		},
	}
}

func line(stdout, stderr io.Writer) *lineReader {
	return &lineReader{
		Name: "noctule-bench", Summary: "Load test for MQTT brokers: open loop, every message accounted for.",
		Stdout: stdout, Stderr: stderr,
	}
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if slices.Equal(args, []string{"--version"}) { // no flag: of a command it is the version of MQTT
		args = []string{"version"}
	}
	o := &output{stdout: stdout, stderr: stderr, args: args}
	if len(args) > 0 {
		o.command = args[0]
	}
	err := line(stdout, stderr).Run(&commands{}, args, settings(ctx, o)...)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "noctule-bench: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "noctule-bench: %v\n", err)
		return exitFailed
	}
}

type versionCmd struct{}

// Examples shows how.
func (versionCmd) Examples() []string { return []string{"version"} }

// Run shows the version.
func (versionCmd) Run(o *output) error {
	i := version.Read()
	_, err := fmt.Fprintf(o.stdout, "noctule-bench %v, built with %s for %s/%s\n",
		i, i.Go, runtime.GOOS, runtime.GOARCH)
	return err
}

var errUsage = errors.New("bad option")
