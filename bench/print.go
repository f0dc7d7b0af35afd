//go:build linux

package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("scenario", "%s", r.Name)
	row("broker", "%s", cmp.Or(r.BrokerVersion, "not asked"))
	row("clients", "%d connected of %d in %v, %d failed, %d ended", r.Connected, r.Clients,
		r.Connect.Round(time.Millisecond), r.Failed, r.Ended)
	row("connect latency", "%s", r.ConnectLatency)
	for _, text := range slices.Sorted(maps.Keys(r.Failures)) {
		row("", "%d times: %s", r.Failures[text], text)
	}
	if r.Stored > 0 {
		row("stored", "%d retained messages; latency is from SUBSCRIBE to the last of them", r.Stored)
	}
	r.Granted.print(row)
	if r.Measured > 0 {
		row("measured", "%v", r.Measured.Round(time.Millisecond))
		row("sent", "%d, %.0f/s", r.Sent, r.SentRate)
		row("received", "%d, %.0f/s", r.Received, r.ReceivedRate)
		row("latency", "%s", r.Latency)
		row("whole run", "sent %d, received %d", r.TotalSent, r.TotalReceived)
		row("", "lost %d, duplicated %d, reordered %d, foreign %d, refused %d, unacknowledged %d",
			r.Lost, r.Duplicated, r.Reordered, r.Foreign, r.Refused, r.Unacknowledged)
		row("generator", "%.2f processors, %.1f messages a read, %.1f a write, timers late %v (p99)",
			r.Generator.CPU, ratio(r.Received, r.Generator.Reads), ratio(r.Sent, r.Generator.Writes),
			time.Duration(r.Generator.Lateness.P99))
	}
	if b := r.Return; b != nil {
		row("cut", "%d clients, %d returned, %d did not, %d got their session back",
			b.Cut, b.Returned, b.Failed, b.Resumed)
		if b.Retried > 0 {
			row("tried again", "%d times", b.Retried)
		}
		if b.Time > 0 {
			row("all back", "after %v", b.Time.Round(time.Millisecond))
			row("time away", "%s", b.Away)
		}
		row("return latency", "%s", b.Latency)
	}
	if a := r.Aside; a != nil {
		row("apart", "%d clients received %d, %.0f B/s each, lost or not read %d", a.Clients, a.Received,
			a.BytesPerSecond, a.Lost)
		row("", "latency %s", a.Latency)
	}
	if r.Broker.Resident > 0 && r.Measured >= 3*time.Second { // fewer seconds have no slope
		line := fmt.Sprintf("%+.1f kB/s", r.Broker.Slope/1e3)
		if r.Measured >= time.Minute { // seconds tell nothing of an hour
			line += fmt.Sprintf(", %+.1f MB an hour", r.Broker.Slope*3600/1e6)
		}
		row("memory slope", "%s over %v", line, r.Measured.Round(time.Second))
	}
	if r.Broker.Resident > 0 {
		row("broker", "%.2f processors, %.3f us a message, %.1f MB resident", r.Broker.CPU,
			r.Broker.CPUPerMessage, float64(r.Broker.Resident)/1e6)
		line := fmt.Sprintf("%.0f %% of its time in the kernel", 100*r.Broker.KernelShare)
		if r.Broker.Syscalls > 0 {
			line += fmt.Sprintf(", %.2f system calls a message", r.Broker.Syscalls)
		}
		row("", "%s", line)
	}
	if r.Broker.ResidentPerClient != 0 {
		row("broker memory", "%.0f B a client, %.1f us to connect one", r.Broker.ResidentPerClient,
			float64(r.Broker.ConnectCPU.Microseconds())/float64(max(r.Connected, 1)))
	}
	for _, warning := range r.Warnings {
		row("warning", "%s", warning)
	}
	return t.Flush()
}

func ratio(a, b int64) float64 { return float64(a) / float64(max(b, 1)) }

// String gives the percentiles in a line.
func (p Percentiles) String() string {
	if p.Count == 0 {
		return "none"
	}
	d := func(ns int64) time.Duration { return time.Duration(ns).Round(time.Microsecond) }
	return fmt.Sprintf("min %v  p50 %v  p90 %v  p99 %v  p99.9 %v  max %v",
		d(p.Min), d(p.P50), d(p.P90), d(p.P99), d(p.P999), d(p.Max))
}

// String gives a second in a line.
func (s Second) String() string {
	line := fmt.Sprintf("%6.1fs  %-8s %7d clients  sent %8d  received %9d",
		s.At.Seconds(), s.Phase, s.Connected, s.Sent, s.Received)
	if s.Failed > 0 {
		line += fmt.Sprintf("  failed %d", s.Failed)
	}
	if s.Latency.Count > 0 {
		line += fmt.Sprintf("  p50 %v  p99 %v", time.Duration(s.Latency.P50).Round(time.Microsecond),
			time.Duration(s.Latency.P99).Round(time.Microsecond))
	}
	if s.Resident > 0 {
		line += fmt.Sprintf("  broker %.2f processors, %.1f MB", s.CPU, float64(s.Resident)/1e6)
	}
	return line
}
