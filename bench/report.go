//go:build linux

package bench

import (
	"fmt"
	"time"
)

// Report is the outcome of a run.
type Report struct {
	Name    string   `json:"name"`
	Plan    Plan     `json:"-"`
	Target  string   `json:"target"`
	Groups  []string `json:"groups"` // what its clients do, in words
	Machine Machine  `json:"machine"`

	// BrokerVersion is what the broker says of itself, or UnknownVersion; "" if it was not asked.
	BrokerVersion string `json:"broker_version,omitempty"`

	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took_ns"` // of the whole run

	// Connections:
	Clients        int              `json:"clients"`
	Connected      int64            `json:"connected"`
	Failed         int64            `json:"failed"` // before they were ready
	Ended          int64            `json:"ended"`  // after that, not by us
	Connect        time.Duration    `json:"connect_ns"`
	ConnectLatency Percentiles      `json:"connect_latency"`
	Failures       map[string]int64 `json:"failures,omitempty"`

	// The measured part:
	Measured      time.Duration `json:"measured_ns"`
	Sent          int64         `json:"sent"`
	Received      int64         `json:"received"`
	Acknowledged  int64         `json:"acknowledged"`
	SentRate      float64       `json:"sent_per_second"`
	ReceivedRate  float64       `json:"received_per_second"`
	BytesSent     int64         `json:"payload_bytes_sent"`
	BytesReceived int64         `json:"payload_bytes_received"`
	Latency       Percentiles   `json:"latency"`

	// The whole run:
	TotalSent      int64 `json:"total_sent"`
	TotalReceived  int64 `json:"total_received"`
	Lost           int64 `json:"lost"`
	Duplicated     int64 `json:"duplicated"`
	Reordered      int64 `json:"reordered"`
	Foreign        int64 `json:"foreign"`        // messages of another run, or that nobody asked for
	Refused        int64 `json:"refused"`        // acknowledged with a reason code that says no
	Unacknowledged int64 `json:"unacknowledged"` // at the end
	Pings          int64 `json:"pings"`          // PINGREQ of silent clients

	Return *Return `json:"return,omitempty"` // of clients that were cut
	Aside  *Aside  `json:"aside,omitempty"`  // of groups that are counted apart
	Stored int64   `json:"stored,omitempty"` // retained messages

	Granted *Granted `json:"granted,omitempty"` // lists of clients that never subscribe

	// Distribution is the whole of what Headline tells the percentiles of.
	Distribution []Quantile `json:"distribution,omitempty"`

	Generator Generator `json:"generator"`
	Broker    BrokerUse `json:"broker"`
	Seconds   []Second  `json:"seconds,omitempty"`
	Warnings  []string  `json:"warnings,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// Return is how clients that were cut came back.
type Return struct {
	Cut      int64         `json:"cut"`
	Returned int64         `json:"returned"`
	Failed   int64         `json:"failed"`
	Retried  int64         `json:"retried"` // tries that failed and were followed by another
	Resumed  int64         `json:"resumed"` // got their session back
	Time     time.Duration `json:"time_ns"` // of a storm: until the last was back
	Latency  Percentiles   `json:"latency"` // from the time a connection was due until it was ready
	Away     Percentiles   `json:"away"`    // from the cut

	At           time.Duration `json:"at_ns"`                  // the cut of a storm, since the beginning
	Distribution []Quantile    `json:"distribution,omitempty"` // of Away
}

// Aside is what groups got that are counted apart, in the whole run.
type Aside struct {
	Clients        int         `json:"clients"`
	Received       int64       `json:"received"`
	BytesPerSecond float64     `json:"payload_bytes_per_second_and_client"`
	Lost           int64       `json:"lost"` // or not read in time
	Latency        Percentiles `json:"latency"`
}

// Unwell is how many clients did not connect, were cut off, or did not come back.
func (r *Report) Unwell() int64 {
	n := r.Failed + r.Ended
	if r.Return != nil {
		n += r.Return.Failed
	}
	return n
}

// Generator is how the generator itself fared in the measured part.
type Generator struct {
	CPU      float64     `json:"cpu_cores"`
	Reads    int64       `json:"reads"`
	Writes   int64       `json:"writes"`
	Lateness Percentiles `json:"lateness"` // of timers: messages were sent this long after they were due
}

// BrokerUse is what the broker's process used; all is 0 when no process was given.
type BrokerUse struct {
	CPU               float64       `json:"cpu_cores"`
	CPUPerMessage     float64       `json:"cpu_us_per_message"`   // delivered; published if none is delivered
	KernelShare       float64       `json:"kernel_share"`         // of CPU, 0 to 1
	Syscalls          float64       `json:"syscalls_per_message"` // 0: not counted
	Resident          int64         `json:"resident_bytes"`
	ResidentPerClient float64       `json:"resident_bytes_per_client"` // growth while the clients connected
	ConnectCPU        time.Duration `json:"connect_cpu_ns"`
	Slope             float64       `json:"resident_slope_bytes_per_second"` // over the measured part
}

// Headline is the latency that a run is about: of messages; without them of clients that
// return, or of connections.
func (r *Report) Headline() Percentiles {
	switch {
	case r.Latency.Count > 0 || r.Measured > 0:
		return r.Latency
	case r.Return != nil:
		return r.Return.Latency
	}
	return r.ConnectLatency
}

// A generator this busy, or this late, measures itself.
const (
	busyCores = 0.9
	lateTimer = 5 * time.Millisecond
)

func (r *Report) warnings() []string {
	var w []string
	limit := busyCores * float64(max(r.Plan.Threads, 1))
	if cpu := r.Generator.CPU; cpu > limit && r.Broker.CPU < busyCores {
		w = append(w,
			fmt.Sprintf("the generator used %.2f processors: it, not the broker, may be the bottleneck", cpu))
	}
	if late := time.Duration(r.Generator.Lateness.P99).Round(10 * time.Microsecond); late > lateTimer {
		w = append(w, fmt.Sprintf("the generator's timers were up to %v late (p99)", late))
	}
	if r.Lost > 0 {
		w = append(w, fmt.Sprintf("%d messages were lost", r.Lost))
	}
	return w
}
