package main

import (
	"errors"
	"fmt"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// exitCode is what a configuration's error ends the program with.
func exitCode(err error) int {
	var e *conf.Error
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return exitConfig
}

// check prints everything that is wrong with a configuration, and what its author may want to know.
func (c *command) check(file string) int {
	code := exitOK
	for _, n := range conf.Check([]string{file}, nil) {
		if n.Level >= broker.LevelError {
			code, n.Text = exitConfig, "Error: "+n.Text
		}
		fmt.Fprintln(c.stdout, n)
	}
	if cfg, err := conf.Parse([]string{file}, nil); err == nil && code == exitOK {
		if err := checkPresub(cfg); err != nil {
			code = exitConfig
			fmt.Fprintf(c.stdout, "Error: %v\n", err)
		}
	}
	if code == exitOK {
		fmt.Fprintln(c.stdout, "Configuration file is OK.")
	}
	return code
}
