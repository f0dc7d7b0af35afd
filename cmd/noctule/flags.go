package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"noctule/cmd/internal/cli"
)

// flags are the command line.
type flags struct {
	files                        []string
	ports                        []int
	keyLog                       string
	daemon, verbose, quiet, test bool
	help, version                bool
}

// portsMax is how many -p there may be.
const portsMax = 10

// parseFlags reads the command line as Mosquitto does: options are separate words, the value follows.
func parseFlags(args []string) (flags, error) {
	var f flags
	for len(args) > 0 {
		name := args[0]
		args = args[1:]
		if set, short, what := f.value(name); set != nil {
			if len(args) == 0 {
				return f, fmt.Errorf("Error: %s argument given, but no %s specified.", short, what)
			}
			if err := set(args[0]); err != nil {
				return f, err
			}
			args = args[1:]
			continue
		}
		on := f.truth(name)
		if on == nil {
			return f, unknownOptionError(name)
		}
		*on = true
	}
	return f, nil
}

// truth is the field of an option without a value; nil if there is none.
func (f *flags) truth(name string) *bool { return f.truths()[name] }

func (f *flags) truths() map[string]*bool {
	return map[string]*bool{
		"-d": &f.daemon, "--daemon": &f.daemon, "-v": &f.verbose, "--verbose": &f.verbose,
		"-q": &f.quiet, "--quiet": &f.quiet, "-h": &f.help, "--help": &f.help,
		"--version": &f.version, "--test-config": &f.test,
	}
}

// unknownOptionError is the error for which the help text is shown.
type unknownOptionError string

// Error implements error.
func (o unknownOptionError) Error() string {
	return fmt.Sprintf("Error: Unknown option '%s'.", string(o))
}

// value is what sets an option with a value, with its short name and what Mosquitto calls the value; nil if
// there is no such option.
func (f *flags) value(name string) (set func(string) error, short, what string) {
	switch name {
	case "-c", "--config-file":
		return func(v string) error {
			f.files = append(f.files, v)
			return nil
		}, "-c", "config file"
	case "-p", "--port":
		return f.addPort, "-p", "port"
	case "--tls-keylog":
		return func(v string) error {
			f.keyLog = v
			return nil
		}, name, "file"
	}
	return nil, "", ""
}

// hint says what may have been meant by an option that there is not; it ends with a line feed, unless it is
// "".
func (c *command) hint(option string) string {
	var f flags
	words := []string{"--config-file", "--port", "--tls-keylog"}
	for name := range f.truths() {
		if len(name) > 2 {
			words = append(words, name)
		}
	}
	slices.Sort(words)
	for _, cmd := range c.program().All() {
		if cmd.Name == option {
			return "A command comes before all options: noctule " + option + " ...\n"
		}
		words = append(words, cmd.Name)
	}
	name, value, ok := strings.Cut(option, "=")
	if set, _, _ := f.value(name); ok && set != nil {
		return "The value is a word of its own: " + name + " " + value + "\n"
	}
	if st, err := os.Stat(option); err == nil && st.Mode().IsRegular() {
		return "A configuration comes after -c: noctule -c " + option + "\n"
	}
	if guess := cli.Guess(option, words); guess != "" {
		return guess[1:] + "\n"
	}
	return ""
}

func (f *flags) addPort(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("Error: Invalid port specified (%s).", v)
	}
	if len(f.ports) == portsMax {
		return fmt.Errorf("Error: Only %d ports can be specified on the command line.", portsMax)
	}
	f.ports = append(f.ports, n)
	return nil
}
