//go:build !linux

// Command noctule-bench puts load on an MQTT broker; its engine needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "noctule-bench: the load generator needs Linux (epoll)")
	os.Exit(1)
}
