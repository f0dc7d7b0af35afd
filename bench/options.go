//go:build linux

package bench

import "time"

// Options are what Run does beside the plan.
type Options struct {
	PID  int          // the broker's process on this machine; 0: not watched
	Each func(Second) // called about once a second, in the caller's goroutine
	// Syscalls counts the broker's system calls with perf(1) in the measured part, which slows it down.
	Syscalls bool
	// AskVersion asks the broker for its version before the run, on a connection of its own, which takes up
	// to half a second where it does not tell.
	AskVersion bool
	// KeepSessions leaves the sessions of a persistent target behind; otherwise they are ended after the run.
	KeepSessions bool
}

// Second is the state of a run.
type Second struct {
	Phase     string        `json:"phase"` // connect, hold, warm-up, measure, drain
	At        time.Duration `json:"at_ns"` // its end, since the beginning
	Length    time.Duration `json:"length_ns"`
	Connected int64         `json:"connected"`
	Failed    int64         `json:"failed"`

	// Since the last:
	Sent       int64       `json:"sent"`
	Received   int64       `json:"received"`
	Duplicated int64       `json:"duplicated"`
	Reordered  int64       `json:"reordered"`
	Latency    Percentiles `json:"latency"`
	CPU        float64     `json:"broker_cpu_cores"`
	Resident   int64       `json:"broker_resident_bytes"`
}
