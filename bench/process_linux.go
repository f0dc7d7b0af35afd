package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process, its children included, has used and holds.
type Usage struct {
	CPU      time.Duration // user and system, since it began
	Kernel   time.Duration // of CPU, what the kernel used for it
	Resident int64         // bytes
	Threads  int
}

// clockTick is the unit of /proc/PID/stat, fixed by the kernel's interface.
const clockTick = 10 * time.Millisecond

// UsageOf reads the accounting of a process and of its descendants.
func UsageOf(pid int) (Usage, error) {
	u, err := usageOf(pid)
	if err != nil {
		return u, err
	}
	for _, child := range children(pid) {
		if c, err := UsageOf(child); err == nil { // it may have ended meanwhile
			u.CPU += c.CPU
			u.Kernel += c.Kernel
			u.Resident += c.Resident
			u.Threads += c.Threads
		}
	}
	return u, nil
}

func usageOf(pid int) (Usage, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("bench: %w", err)
	}
	_, rest, _ := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')')+1:]), " ")
	f := strings.Fields(rest) // from field 3, the state
	if len(f) < 22 {
		return Usage{}, fmt.Errorf("bench: /proc/%d/stat is not understood", pid)
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i-3], 10, 64) // the kernel wrote it
		return n
	}
	user, kernel := number(14)+number(16), number(15)+number(17) // its own, and of children it has reaped
	return Usage{
		CPU:      time.Duration(user+kernel) * clockTick,
		Kernel:   time.Duration(kernel) * clockTick,
		Threads:  int(number(20)),
		Resident: number(24) * int64(os.Getpagesize()),
	}, nil
}

func children(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var list []int
	for _, t := range tasks {
		raw, _ := os.ReadFile(t)
		for f := range strings.FieldsSeq(string(raw)) {
			if n, err := strconv.Atoi(f); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

// ownCPU is the processor time this process has used.
func ownCPU() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // cannot fail
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
