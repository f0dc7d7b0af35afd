package main

import (
	"fmt"
	"io"
	"log/slog"
)

func isDaemon() bool { return false }

func daemonise(stderr io.Writer) int {
	fmt.Fprintln(stderr, "Error: -d is not available on Windows.")
	return exitConfig
}

func dropPrivileges(string, *slog.Logger) error { return nil }
