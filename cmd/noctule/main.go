// Command noctule is an MQTT broker that takes Mosquitto's place: same flags, configuration, signals and
// log lines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"noctule/admin"
	"noctule/broker"
	"noctule/cmd/internal/conf"
	"noctule/cmd/internal/logs"
)

// Version of this program; compatible is the version of Mosquitto that tools are told.
const (
	version    = "0.1.0"
	compatible = "2.1.2"
)

// Exit codes, as Mosquitto's.
const (
	exitOK       = 0
	exitListener = 1  // a listener cannot start
	exitConfig   = 3  // bad option or configuration
	exitPIDFile  = 14 // the pid file is not writable
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// flags are the command line.
type flags struct {
	files                        []string
	ports                        []int
	daemon, verbose, quiet, test bool
	help, version                bool
}

// run is the program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return check(args[1:], stdout, stderr)
	}
	f, err := parseFlags(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "%v\n\n", err)
		usage(stdout)
		return exitConfig
	case f.help:
		usage(stdout)
		return exitOK
	case f.version:
		fmt.Fprintf(stdout, "noctule %s, compatible with mosquitto %s\nLicensed under the Apache License 2.0.\n",
			version, compatible)
		return exitOK
	case f.test && len(f.files) == 0:
		fmt.Fprintln(stderr, "Please provide a configuration file to test.")
		return exitConfig
	}
	cfg, err := conf.Parse(f.files, f.ports)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitConfig
	}
	for _, n := range cfg.Notes {
		fmt.Fprintln(stderr, n.Text)
	}
	if f.test {
		fmt.Fprintln(stdout, "Configuration file is OK.")
		return exitOK
	}
	if f.daemon && !isDaemon() {
		return daemonise(stderr)
	}
	return serve(f, cfg, stdout, stderr)
}

// check is the subcommand that only reads a configuration.
func check(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "Usage: noctule check FILE")
		return exitConfig
	}
	return run([]string{"--test-config", "-c", args[0]}, stdout, stderr)
}

func parseFlags(args []string) (flags, error) {
	var f flags
	set := flag.NewFlagSet("noctule", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	file := func(v string) error {
		f.files = append(f.files, v)
		return nil
	}
	port := func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 65535 || len(f.ports) == 10 {
			return fmt.Errorf("Error: Invalid port specified (%s).", v)
		}
		f.ports = append(f.ports, n)
		return nil
	}
	for _, n := range []string{"c", "config-file"} {
		set.Func(n, "", file)
	}
	for _, n := range []string{"p", "port"} {
		set.Func(n, "", port)
	}
	for v, names := range map[*bool][]string{
		&f.daemon: {"d", "daemon"}, &f.verbose: {"v", "verbose"}, &f.quiet: {"q", "quiet"},
		&f.help: {"h", "help"}, &f.version: {"version"}, &f.test: {"test-config"},
	} {
		for _, n := range names {
			set.BoolVar(v, n, false, "")
		}
	}
	if err := set.Parse(args); err != nil {
		return f, fmt.Errorf("Error: Unknown option or bad value: %w.", err)
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("Error: Unknown option '%s'.", set.Arg(0))
	}
	return f, nil
}

func usage(w io.Writer) {
	fmt.Fprintf(w, `mosquitto version %s
noctule %s is an MQTT v5.0/v3.1.1/v3.1 broker that takes mosquitto's place.

Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-v]
       noctule check FILE

 -c, --config-file FILE : the configuration; may be repeated.
 -d, --daemon           : run in the background.
 -h, --help             : show this text.
 -p, --port PORT        : listen there on the loopback addresses, if no configuration names a listener.
 -q, --quiet            : log nothing.
 -v, --verbose          : log everything, whatever the configuration says.
 --test-config          : only read the configuration.
 --version              : show the version.
`, compatible, version)
}

// serve runs the broker until a signal ends it.
func serve(f flags, cfg *conf.Config, stdout, stderr io.Writer) int {
	handler, err := logs.New(cfg.Log, logs.Options{
		Verbose: f.verbose, Quiet: f.quiet, Stdout: stdout, Stderr: stderr,
	})
	if err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
	}
	log := slog.New(handler)
	info := func(format string, a ...any) { log.Info(fmt.Sprintf(format, a...)) }
	if err := writePID(cfg.PIDFile); err != nil {
		fmt.Fprintf(stderr, "Error: Unable to write pid file: %v\n", err)
		return exitPIDFile
	}
	if cfg.PIDFile != "" {
		defer os.Remove(cfg.PIDFile) //nolint:errcheck // nothing depends on it
	}
	info("mosquitto version %s starting", compatible)
	if len(f.files) == 0 {
		info("Using default config.")
	}
	for _, name := range f.files {
		info("Config loaded from %s.", name)
	}
	info("TLS support available.")
	info("Websockets support available.")
	defer info("mosquitto version %s terminating", compatible)

	tune()
	cfg.Options.Log, cfg.Options.Version = log, compatible
	b, err := broker.New(cfg.Options)
	if err != nil {
		log.Error("Error: " + err.Error())
		return exitListener
	}
	code := operate(b, cfg, handler, log)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		log.Error("Error: " + err.Error())
	}
	return code
}

// operate opens the listeners and waits for signals.
func operate(b *broker.Broker, cfg *conf.Config, handler *logs.Handler, log *slog.Logger) int {
	signals := make(chan os.Signal, 4)
	if err := listen(b, cfg, log); err != nil {
		log.Error("Error: " + err.Error())
		return exitListener
	}
	if cfg.Admin != "" {
		s, err := admin.Start(cfg.Admin, b)
		if err != nil {
			log.Error("Error: " + err.Error())
			return exitListener
		}
		log.Info("Opening admin listen socket on " + s.Addr().String() + ".")
		defer s.Close(context.Background()) //nolint:errcheck // the program ends
	}
	if err := dropPrivileges(cfg.User, log); err != nil {
		log.Error("Error: " + err.Error())
		return exitConfig
	}
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	log.Info("mosquitto version " + compatible + " running")
	for s := range signals {
		if s != syscall.SIGHUP {
			break
		}
		if err := handler.Reopen(); err != nil {
			log.Error("Error: " + err.Error())
		}
		log.Warn("The log was reopened. Reloading the configuration is not supported yet.")
	}
	return exitOK
}

// listen opens all listeners, with a log line for each socket.
func listen(b *broker.Broker, cfg *conf.Config, log *slog.Logger) error {
	for i := range cfg.Listeners {
		sockets, err := cfg.Listeners[i].Sockets()
		if err != nil {
			return err
		}
		opened := 0
		var last error
		for _, o := range sockets {
			switch o.Net.Network {
			case "unix":
				log.Info("Opening unix listen socket on path " + o.Net.Address + ".")
			case "tcp6":
				log.Info(fmt.Sprintf("Opening ipv6 listen socket on port %d.", cfg.Listeners[i].Port))
			default:
				log.Info(fmt.Sprintf("Opening ipv4 listen socket on port %d.", cfg.Listeners[i].Port))
			}
			if _, err := b.Listen(o); err != nil {
				last = err
				if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
					continue // a machine without one of the families
				}
				return err
			}
			opened++
		}
		if opened == 0 {
			return last
		}
	}
	return nil
}

func writePID(name string) error {
	if name == "" {
		return nil
	}
	return os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())), 0o644)
}
