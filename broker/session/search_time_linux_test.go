package session

import (
	"syscall"
	"time"
)

// busy is the processor time that this process has taken: what else the machine does makes a search no less deep.
func busy() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
