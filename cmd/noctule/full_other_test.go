//go:build !linux

package main

import (
	"math/rand/v2"
	"testing"
)

// starve does nothing where the limit of another process cannot be set.
func starve(*testing.T, *process, *rand.Rand) {}
