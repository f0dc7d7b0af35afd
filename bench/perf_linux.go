package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// syscallEvent is perf's name of the beginning of any system call.
const syscallEvent = "raw_syscalls:sys_enter"

// trace counts system calls of a process from its start to its end.
type trace struct {
	cmd    *exec.Cmd
	output bytes.Buffer
}

// trace starts perf if that is asked for; nil if it is not, or cannot be, which is then reported.
func (r *runner) trace(ctx context.Context) *trace {
	if !r.opts.Syscalls || r.opts.PID == 0 {
		return nil
	}
	t := &trace{}
	pid := strconv.Itoa(r.opts.PID)
	t.cmd = exec.CommandContext(ctx, "perf", "stat", "-x,", "-e", syscallEvent, "-p", pid)
	t.cmd.Stderr = &t.output
	if err := t.cmd.Start(); err != nil {
		r.watched = errors.Join(r.watched, fmt.Errorf("bench: system calls are not counted: %w", err))
		return nil
	}
	return t
}

// traced ends perf and takes its count.
func (r *runner) traced(t *trace) {
	if t == nil {
		return
	}
	_ = t.cmd.Process.Signal(os.Interrupt)
	_ = t.cmd.Wait() // perf ends as the signal says
	n, err := parsePerf(t.output.String())
	if err != nil {
		r.watched = errors.Join(r.watched, err)
		return
	}
	messages := r.report.Received
	if messages == 0 {
		messages = r.report.Sent
	}
	r.report.Broker.Syscalls = ratio(n, messages)
}

// parsePerf finds the count in what perf stat -x, wrote.
func parsePerf(out string) (int64, error) {
	for line := range strings.Lines(out) {
		f := strings.Split(line, ",")
		if len(f) > 2 && f[2] == syscallEvent {
			n, err := strconv.ParseInt(f[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("bench: system calls are not counted: perf says %s", f[0])
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("bench: system calls are not counted: perf says %q", strings.TrimSpace(out))
}
