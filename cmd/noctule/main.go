// Command noctule is an MQTT broker that takes Mosquitto's place: same flags, configuration, signals and
// log lines.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"noctule/admin"
	"noctule/cmd/internal/conf"
	"noctule/cmd/internal/logs"
	"noctule/internal/version"
)

// compatible is the version of Mosquitto that tools are told.
const compatible = "2.1.2"

// Exit codes, as Mosquitto's.
const (
	exitOK       = 0
	exitListener = 1                // a listener cannot start
	exitConfig   = 3                // bad option or configuration, unknown user
	exitMissing  = conf.CodeMissing // a password or ACL file cannot be read, a plugin cannot be loaded
	exitPIDFile  = 14               // the pid file is not writable
)

// logExpiry is how long a line of log_dest topic may wait for a subscriber.
const logExpiry = 20 * time.Second

// crashPatience is how long the log may take to tell why the program crashes.
const crashPatience = time.Second

// adminPatience is how long HTTP requests may take at the end.
const adminPatience = 2 * time.Second

func main() {
	c := &command{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(c.run(os.Args[1:]))
}

// command is one run of the program.
type command struct {
	stdout, stderr io.Writer
	log            *slog.Logger  // to stderr until the configuration's takes over
	handler        *logs.Handler // of log
	background     bool          // the rest happens in another process
}

// run is the program; it returns the exit code.
func (c *command) run(args []string) int {
	c.openLog(conf.Log{Timestamp: true}, flags{}, 0)
	defer func() { c.handler.Close() }() // which openLog changes
	if c.isCommand(args) {
		return c.runCommand(args)
	}
	code := c.dispatch(args)
	if !c.background {
		c.info("mosquitto version %s terminating", compatible)
	}
	return code
}

// logQueue is how many lines may wait for a slow log destination.
const logQueue = 8192

// openLog makes the log that a configuration asks for.
func (c *command) openLog(cfg conf.Log, f flags, queue int) {
	h, err := logs.New(cfg, c.logOptions(f, queue))
	if err != nil {
		c.fail(err) // to the log that was
	}
	c.handler, c.log = h, slog.New(h)
}

// logOptions are what the command line says about the log.
func (c *command) logOptions(f flags, queue int) logs.Options {
	return logs.Options{
		Verbose: f.verbose, Quiet: f.quiet, Stdout: c.stdout, Stderr: c.stderr, Queue: queue,
		Colours: colours,
	}
}

func (c *command) info(format string, a ...any) { c.log.Info(fmt.Sprintf(format, a...)) }

// fail logs an error, in one line or several.
func (c *command) fail(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !strings.HasPrefix(line, "Error") {
			line = "Error: " + line
		}
		c.log.Error(line)
	}
}

// dispatch does what the command line asks for, which is Mosquitto's.
func (c *command) dispatch(args []string) int {
	f, err := parseFlags(args)
	switch unknown := unknownOptionError(""); {
	case errors.As(err, &unknown):
		fmt.Fprintf(c.stderr, "%v\n%s\n", err, c.hint(string(unknown)))
		c.usage(c.stdout)
		return exitConfig
	case err != nil:
		c.fail(err)
		return exitConfig
	case f.help:
		c.usage(c.stdout)
		return exitOK
	case f.version:
		c.tellVersion()
		return exitOK
	case f.test && len(f.files) == 0:
		c.log.Error("Please provide a configuration file to test.")
		return exitConfig
	}
	if f.quiet {
		c.openLog(conf.Log{Timestamp: true, Types: map[string]bool{"error": true}}, flags{}, 0)
	}
	cfg, err := conf.Parse(f.files, f.ports)
	if err != nil {
		c.fail(err)
		return exitCode(err)
	}
	if cfg.Log.JSON && !f.quiet { // lines that come before the log is opened, too
		c.openLog(conf.Log{Timestamp: true, JSON: true}, flags{}, 0)
	}
	for _, n := range cfg.Notes {
		c.log.Log(context.Background(), n.Level, n.Text)
	}
	if f.test {
		if err := checkPresub(cfg); err != nil {
			c.fail(err)
			return exitConfig
		}
		c.info("Configuration file is OK.")
		return exitOK
	}
	return c.start(f, cfg)
}

// start makes the process what it is to be: its user, its umask, its place in the background.
func (c *command) start(f flags, cfg *conf.Config) int {
	who, err := identify(cfg.User)
	if err != nil {
		c.fail(err)
		return exitConfig
	}
	if f.daemon && !isDaemon() {
		if err := daemonise(); err != nil {
			c.fail(err)
			return exitListener
		}
		c.background = true
		return exitOK
	}
	if err := who.become(); err != nil {
		c.fail(err)
		return exitConfig
	}
	if who.name != "" {
		c.info("Info: running mosquitto as user: %s.", who.name)
	}
	if os.Geteuid() == 0 {
		c.log.Warn("Warning: Mosquitto should not be run as root/administrator.")
	}
	if err := setUmask(); err != nil {
		c.fail(err)
		return exitConfig
	}
	if err := writePID(cfg.PIDFile); err != nil {
		c.fail(fmt.Errorf("Unable to write pid file: %w", err))
		return exitPIDFile
	}
	if cfg.PIDFile != "" {
		defer os.Remove(cfg.PIDFile) //nolint:errcheck // nothing depends on it
	}
	return c.serve(f, cfg)
}

// serve runs the broker until a signal ends it.
func (c *command) serve(f flags, cfg *conf.Config) int {
	signals := make(chan os.Signal, 16)
	ignoreBrokenPipes()
	signal.Notify(signals, append(tasks(), os.Interrupt, syscall.SIGTERM)...)
	notLinux := notifyReopen(signals)
	c.openLog(cfg.Log, f, logQueue)
	if notLinux != nil {
		c.fail(notLinux)
	}
	c.tellStart(f.files)
	keys, err := c.openKeyLog(f.keyLog)
	if err != nil {
		c.fail(err)
		return exitListener
	}
	if keys != nil {
		defer keys.Close() //nolint:errcheck // the program ends
	}

	sources := newLogins(c.log)
	defer sources.close()
	policies, err := c.startPolicies(cfg, sources)
	if err != nil {
		c.fail(err)
		return exitCode(err)
	}
	limitMemory(cfg.Options.MemoryLimit)
	cfg.Options.Log, cfg.Options.Version = c.log, compatible
	cfg.Options.FlushLog = func() { c.handler.Flush(crashPatience) }
	pre, err := c.loadPresub(cfg)
	if err != nil {
		c.fail(err)
		return exitConfig
	}
	defer pre.close()
	ops, err := c.openOperators(cfg.Admin, append(pre.parts(), admin.Counts(sources.engine)))
	if err != nil {
		c.fail(err)
		return exitListener
	}
	defer ops.close()
	up, ended := c.bringUp(cfg, signals)
	if ended {
		return exitOK
	}
	if up.db != nil {
		defer up.db.Close() //nolint:errcheck // all is on disk
	}
	if up.err != nil {
		c.fail(up.err)
		return up.code
	}
	if up.db != nil {
		defer c.serveBackups(up.db, up.path)()
	}
	b := up.b
	tune() // not before: a start makes much that is gone at its end
	c.handler.PublishTo(func(topic string, line []byte) { b.PublishSys(topic, line, logExpiry) })
	svc := &service{
		command: c, flags: f, cfg: cfg, b: b, keys: keys, pre: pre, database: c.newFileWatch(up.path),
		operators: ops, sources: sources,
	}
	code := svc.operate(policies, signals)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		c.fail(err)
	}
	return code
}

// tellVersion is --version. The first line is what scripts take for Mosquitto's.
func (c *command) tellVersion() {
	i := version.Read()
	fmt.Fprintf(c.stdout, "mosquitto %[1]s\nnoctule %[2]v, compatible with mosquitto %[1]s\n"+
		"Built with %[3]s for %[4]s/%[5]s. Licensed under the Apache License 2.0.\n",
		compatible, i, i.Go, runtime.GOOS, runtime.GOARCH)
}

// tellStart logs what starts, with which configuration, and what is built in, as Mosquitto does.
func (c *command) tellStart(files []string) {
	c.info("mosquitto version %s starting", compatible)
	i := version.Read()
	c.info("noctule %v speaks as mosquitto %s, built with %s.", i, compatible, i.Go)
	if len(files) == 0 {
		c.info("Using default config.")
	}
	for _, name := range files {
		c.info("Config loaded from %s.", name)
	}
	c.info("Bridge support NOT available.")
	c.info("Persistence support available.")
	c.info("TLS support available.")
	c.info("TLS-PSK support NOT available.")
	c.info("Websockets support available.")
}

// openKeyLog opens the file of --tls-keylog; nil without.
func (c *command) openKeyLog(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("Unable to open TLS key log: %w", err)
	}
	c.log.Warn("TLS keys are written to " + name + ": who reads it can decrypt all TLS connections.")
	return f, nil
}

func writePID(name string) error {
	if name == "" {
		return nil
	}
	return os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())), 0o644)
}
