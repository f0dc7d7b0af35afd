package main

import (
	"errors"
	"fmt"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/cmd/internal/conf"
)

// exitCode is what a configuration's error ends the program with.
func exitCode(err error) int {
	var e *conf.Error
	var f *auth.FileError
	switch {
	case errors.As(err, &e):
		return e.ExitCode()
	case errors.As(err, &f) && f.Unreadable():
		return exitMissing
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
	if code == exitOK && !c.checkFiles(file) {
		code = exitConfig
	}
	if code == exitOK {
		fmt.Fprintln(c.stdout, "Configuration file is OK.")
	}
	return code
}

// checkFiles looks into the files that a good configuration names.
func (c *command) checkFiles(file string) bool {
	cfg, err := conf.Parse([]string{file}, nil)
	if err != nil {
		fmt.Fprintln(c.stdout, err)
		return false
	}
	good := true
	if _, _, err := loadPolicies(cfg.Listeners); err != nil {
		fmt.Fprintln(c.stdout, err)
		good = false
	}
	for i := range cfg.Listeners {
		if _, err := cfg.Listeners[i].Load(); err != nil {
			fmt.Fprintf(c.stdout, "Error: listener %s: %v\n", cfg.Listeners[i].Name(), err)
			good = false
		}
	}
	if err := checkPresub(cfg); err != nil {
		fmt.Fprintf(c.stdout, "Error: %v\n", err)
		good = false
	}
	return good
}
