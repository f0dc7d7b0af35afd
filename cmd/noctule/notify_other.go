//go:build !linux

package main

// reloading is for systemd, which is not here.
func reloading() string { return "RELOADING=1" }
