package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"noctule/cmd/internal/cli"
	"noctule/internal/version"
)

// program is the commands: what the program does beside being the broker, whose flags are Mosquitto's.
func (c *command) program() *cli.Program {
	return &cli.Program{
		Name: "noctule", Summary: "An MQTT broker that takes mosquitto's place.", Stdout: c.stdout,
		Commands: []cli.Command{c.checkCommand(), c.dbCommand(), c.passwdCommand(), c.presubCommand()},
	}
}

// isCommand reports whether the command line begins with a command.
func (c *command) isCommand(args []string) bool {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return false
	}
	for _, cmd := range c.program().All() {
		if cmd.Name == args[0] {
			return true
		}
	}
	return false
}

// exit is the code that a command ends with.
type exit int

// Error implements error.
func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// ended is what a command returns.
func ended(code int) error {
	if code == exitOK {
		return nil
	}
	return exit(code)
}

// runCommand runs the command that the line begins with; it returns the exit code.
func (c *command) runCommand(args []string) int {
	if len(args) == 1 && args[0] == "help" {
		c.usage(c.stdout)
		return exitOK
	}
	err := c.program().Run(args)
	var code exit
	var usage *cli.UsageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case args[0] == "passwd" && errors.As(err, &usage):
		return c.badPasswd(usage)
	}
	fmt.Fprintf(c.stderr, "Error: %v\n", err)
	return exitConfig
}

// usage is -h. What is above the commands has the form of Mosquitto's.
func (c *command) usage(w io.Writer) {
	fmt.Fprintf(w, `mosquitto version %s
noctule %v is an MQTT v5.0/v3.1.1/v3.1 broker that takes mosquitto's place.

Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-v]
       noctule COMMAND ...

 -c, --config-file FILE : the configuration; may be repeated.
 -d, --daemon           : run in the background.
 -h, --help             : show this text.
 -p, --port PORT        : listen there on loopback addresses, if no configuration has a listener.
 -q, --quiet            : log nothing.
 -v, --verbose          : log everything, whatever the configuration says.
 --test-config          : only read the configuration.
 --tls-keylog FILE      : append the keys of TLS connections to a file, to decrypt captures with.
 --version              : show the version.

Commands, each with a --help of its own:

`, compatible, version.Read())
	for _, cmd := range c.program().All() {
		fmt.Fprintf(w, " %-22s : %s\n", cmd.Name, cmd.Summary)
	}
}
