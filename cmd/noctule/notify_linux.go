package main

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// reloading is what systemd wants to hear when a reload begins: with Type=notify-reload it takes the next
// READY=1 for its end only if that comes after the time told here.
func reloading() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return "RELOADING=1"
	}
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/1000, 10)
}
