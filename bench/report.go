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

	Generator Generator `json:"generator"`
	Broker    BrokerUse `json:"broker"`
	Seconds   []Second  `json:"seconds,omitempty"`
	Warnings  []string  `json:"warnings,omitempty"`
	Error     string    `json:"error,omitempty"`
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
	CPUPerMessage     float64       `json:"cpu_us_per_message"` // delivered; published if none is delivered
	Resident          int64         `json:"resident_bytes"`
	ResidentPerClient float64       `json:"resident_bytes_per_client"` // growth while the clients connected
	ConnectCPU        time.Duration `json:"connect_cpu_ns"`
}

// Headline is the latency that a run is about: of messages, or of connections when no message was measured.
func (r *Report) Headline() Percentiles {
	if r.Latency.Count == 0 && r.Measured == 0 {
		return r.ConnectLatency
	}
	return r.Latency
}

// A generator this busy, or this late, measures itself.
const (
	busyCores = 0.9
	lateTimer = 5 * time.Millisecond
)

func (r *Report) warnings() []string {
	var w []string
	if limit := busyCores * float64(max(r.Plan.Threads, 1)); r.Generator.CPU > limit && r.Broker.CPU < busyCores {
		w = append(w, fmt.Sprintf("the generator used %.2f processors: it, not the broker, may be the bottleneck",
			r.Generator.CPU))
	}
	if late := time.Duration(r.Generator.Lateness.P99); late > lateTimer {
		w = append(w, fmt.Sprintf("the generator's timers were up to %v late (p99)", late))
	}
	if r.Lost > 0 {
		w = append(w, fmt.Sprintf("%d messages were lost", r.Lost))
	}
	return w
}
