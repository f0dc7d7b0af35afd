package main

import (
	"os"
	"slices"
	"syscall"
	"testing"
)

// TestSortOfSignals: the first signal that ends the program is told at once, what comes behind it is not done.
func TestSortOfSignals(t *testing.T) {
	in, out := make(chan os.Signal, 8), make(chan os.Signal, 2)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.Signal(34), syscall.SIGHUP, syscall.SIGTERM, syscall.SIGHUP} {
		in <- s
	}
	ended := false
	sort(in, out, func() { ended = true })
	var got []os.Signal
	for s := range out {
		got = append(got, s)
	}
	if !ended || !slices.Equal(got, []os.Signal{syscall.SIGHUP, syscall.Signal(34)}) {
		t.Errorf("%t %v", ended, got)
	}
}
