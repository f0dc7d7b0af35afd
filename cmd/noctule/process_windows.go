package main

import (
	"errors"
	"os"
)

func tasks() []os.Signal { return nil }

func taskOf(os.Signal) task { return taskNone }

func notifyReopen(chan<- os.Signal) error { return nil }

func ignoreBrokenPipes() {}

func isDaemon() bool { return false }

func daemonise() error { return errors.New("-d is not available on Windows.") }

func setUmask() error { return nil }

// identity is the user to become: none.
type identity struct{ name string }

func identify(string) (identity, error) { return identity{}, nil }

func (identity) become() error { return nil }

// ownAs is for systems where a file has the owner of the process that has made it.
func ownAs(string, ...string) error { return nil }
