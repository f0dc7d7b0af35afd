package main

import (
	"bytes"
	"flag"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"noctule/bench"
	"noctule/internal/metric"
	"noctule/internal/testdoc"
)

var update = flag.Bool("update", false, "write the table of metrics in docs/bench.md")

// TestMetricsDocument holds docs/bench.md to the table of the code.
func TestMetricsDocument(t *testing.T) {
	var g metric.Group
	for _, r := range liveTable() {
		g.Defs = append(g.Defs, r.Def)
	}
	testdoc.Hold(t, "../../docs/bench.md", "go test ./cmd/noctule-bench -run TestMetricsDocument -update",
		metric.Markdown([]metric.Group{g})+"\n", *update)
}

// livePage is what --prometheus shows of two seconds, the second one quiet if it is to be.
func livePage(t *testing.T, quiet bool) string {
	t.Helper()
	var stderr bytes.Buffer
	l, err := newLive("127.0.0.1:0", &stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	address := strings.TrimSpace(strings.TrimPrefix(stderr.String(), "metrics: "))
	s := bench.Second{
		Length: time.Second, Connected: 3, Failed: 1, Sent: 10, Received: 8, Duplicated: 2, Reordered: 1, CPU: .5, Resident: 4096,
		Latency: bench.Percentiles{Count: 8, Mean: 2e6, P50: 1e6, P90: 3e6, P99: 4e6, P999: 5e6, Max: 6e6},
	}
	l.second(s)
	if quiet {
		s.Latency = bench.Percentiles{}
	}
	l.second(s)
	return scrape(t, address)
}

// TestLivePage: sums over the run, quantiles of the last second and none of an older one.
func TestLivePage(t *testing.T) {
	busy, quiet := livePage(t, false), livePage(t, true)
	for _, want := range []string{
		`clients{state="connected"} 3`, `clients{state="failed"} 1`, "messages_sent_total 20", "messages_received_total 16",
		"messages_duplicated_total 4", "messages_reordered_total 2", `latency_seconds{quantile="0.99"} 0.004`,
		"latency_seconds_count 16", "latency_seconds_sum 0.032", "broker_cpu_seconds_total 1", "broker_resident_bytes 4096",
	} {
		if !strings.Contains(busy, "\nnoctule_bench_"+want+"\n") {
			t.Errorf("no %s in\n%s", want, busy)
		}
	}
	if strings.Contains(quiet, "{quantile") || !strings.Contains(quiet, "\nnoctule_bench_latency_seconds_count 8\n") {
		t.Errorf("%s", quiet)
	}
	problems, err := promlint.New(strings.NewReader(busy)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestPromtool has Prometheus's own tool look at the page.
func TestPromtool(t *testing.T) {
	cmd := exec.Command(program(t, "promtool"), "check", "metrics")
	cmd.Stdin = io.NopCloser(strings.NewReader(livePage(t, false)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
