package main

import (
	"fmt"
	"io"
	"strconv"

	"noctule/internal/version"
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
func (f *flags) truth(name string) *bool {
	return map[string]*bool{
		"-d": &f.daemon, "--daemon": &f.daemon, "-v": &f.verbose, "--verbose": &f.verbose,
		"-q": &f.quiet, "--quiet": &f.quiet, "-h": &f.help, "--help": &f.help,
		"--version": &f.version, "--test-config": &f.test,
	}[name]
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

func usage(w io.Writer) {
	fmt.Fprintf(w, `mosquitto version %s
noctule %v is an MQTT v5.0/v3.1.1/v3.1 broker that takes mosquitto's place.

Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-v]
       noctule check FILE

 -c, --config-file FILE : the configuration; may be repeated.
 -d, --daemon           : run in the background.
 -h, --help             : show this text.
 -p, --port PORT        : listen there on the loopback addresses, if no configuration names a listener.
 -q, --quiet            : log nothing.
 -v, --verbose          : log everything, whatever the configuration says.
 --test-config          : only read the configuration.
 --tls-keylog FILE      : append the keys of TLS connections to a file, to decrypt captured traffic with.
 --version              : show the version.
`, compatible, version.Read())
}
