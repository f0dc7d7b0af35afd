package main

import (
	"bufio"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The rows of --csv add up to the report, and the page holds plots and what is to be disclosed.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	table, page := filepath.Join(dir, "x.csv"), filepath.Join(dir, "x.html")
	r := report(t, "p2p", "-u", serve(t), "-c3", "--rate=100", "--warmup=0s", "--duration=2s", "-Psecret", "-Uuser",
		"--csv", table, "--html", page, "--pid", strconv.Itoa(os.Getpid()))
	f, err := os.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(r.Seconds)+1 || len(r.Seconds) < 3 {
		t.Errorf("%d rows, %d seconds", len(rows), len(r.Seconds))
	}
	measured := 0
	for _, row := range rows[1:] {
		if row[1] == "measure" && row[4] != "0.0" && row[10] != "" && row[14] != "0" {
			measured++
		}
	}
	if measured < 2 {
		t.Errorf("%d of the rows tell of the measurement: %v", measured, rows)
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{
		"messages per second", "Latency over time", "Distribution of latency", "Broker: processors", r.Machine.Kernel, r.Machine.Go, r.Target,
		"publishers: 3 clients", "-P***", "lost 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not tell of %q", want)
		}
	}
	for _, bad := range []string{"secret", "NaN", "src=", "<link", "url("} {
		if strings.Contains(text, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if n := strings.Count(text, "<svg"); n != 12 { // six, each wide and narrow
		t.Errorf("%d plots", n)
	}
	checkPictures(t, text)
}

// checkPictures asks that each picture is well-formed.
func checkPictures(t *testing.T, text string) {
	t.Helper()
	for {
		_, rest, ok := strings.Cut(text, "<svg")
		if !ok {
			return
		}
		picture, after, _ := strings.Cut(rest, "</svg>")
		d := xml.NewDecoder(strings.NewReader("<svg" + picture + "</svg>"))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		text = after
	}
}

func TestFilesThatCannotBeWritten(t *testing.T) {
	url := serve(t)
	missing := filepath.Join(t.TempDir(), "no", "x")
	for _, flag := range []string{"--csv=", "--html=", "--json="} {
		code, _, log := command(t, "conn", "-u", url, "-c1", "--quiet", flag+missing)
		if code != exitFailed || !strings.Contains(log, missing) {
			t.Errorf("%s: exit code %d: %s", flag, code, log)
		}
	}
	if code, _, log := command(t, "conn", "-u", url, "-c1", "--prometheus=x:y:z"); code != exitFailed {
		t.Errorf("exit code %d: %s", code, log)
	}
}

// Metrics can be scraped while the run lasts.
func TestPrometheus(t *testing.T) {
	r, w := io.Pipe()
	ctx, url := bounded(t), serve(t)
	code := make(chan int, 1)
	go func() { // ends with the run
		code <- run(ctx, []string{
			"p2p", "-u", url, "-c2", "--rate=100", "--warmup=0s", "--duration=3s",
			"--prometheus=127.0.0.1:0", "--pid", strconv.Itoa(os.Getpid()),
		}, io.Discard, w)
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	address, text := "", ""
	for lines.Scan() {
		if after, ok := strings.CutPrefix(lines.Text(), "metrics: "); ok {
			address = after
		}
		if strings.Contains(lines.Text(), "measure") && text == "" {
			text = scrape(t, address)
		}
	}
	for _, want := range []string{
		`noctule_bench_clients{state="connected"} 4`, "noctule_bench_messages_sent_total", "noctule_bench_messages_received_total",
		`noctule_bench_latency_seconds{quantile="0.99"}`, "noctule_bench_broker_resident_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
	if _, err := http.Get(address); err == nil {
		t.Error("metrics are served after the run")
	}
}

func scrape(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Error(fmt.Errorf("status %s: %w", resp.Status, err))
	}
	return string(raw)
}
