package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noctule/bench"
)

const patience = time.Minute

// binaries builds the two programs.
func binaries(t *testing.T) (load, broker string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"noctule-bench", "noctule"} {
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), "noctule/cmd/"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return filepath.Join(dir, "noctule-bench"), filepath.Join(dir, "noctule")
}

// program finds a program that is not ours. Without it the test is skipped, but not in CI, where it must be
// installed.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// startProgram starts a program that is killed at the end of the test, and returns its lines.
func startProgram(t *testing.T, args ...string) *bufio.Scanner {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	return bufio.NewScanner(out)
}

// startSystem starts the real broker on a Unix socket, and returns that.
func startSystem(t *testing.T, broker string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	socket, conf := filepath.Join(dir, "s"), filepath.Join(dir, "conf")
	text := fmt.Sprintf("user root\nallow_anonymous true\nmax_queued_messages 0\n%s\nlistener 0 %s\n",
		strings.Join(options, "\n"), socket)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := startProgram(t, broker, "-c", conf)
	var log []string
	for lines.Scan() {
		if log = append(log, lines.Text()); strings.HasSuffix(lines.Text(), " running") {
			go func() { // ends with the broker
				for lines.Scan() { // its log must not block it
				}
			}()
			return socket
		}
	}
	t.Fatalf("the broker does not run:\n%s", strings.Join(log, "\n"))
	return ""
}

// The load's counts are those of a client that is not ours.
func TestCountsAgreeWithMosquittoSub(t *testing.T) {
	stdbuf, sub, pub := program(t, "stdbuf"), program(t, "mosquitto_sub"), program(t, "mosquitto_pub")
	load, broker := binaries(t)
	for _, qos := range []string{"0", "1", "2"} {
		t.Run("QoS "+qos, func(t *testing.T) {
			socket := startSystem(t, broker)
			lines := startProgram(t, stdbuf, "-oL", sub, "--unix", socket, "-q", qos, "-F", "%t %l", "-t", "load/#", "-t", "mark/#")
			say := func(topic string) {
				if out, err := exec.CommandContext(t.Context(), pub, "--unix", socket, "-q", "1", "-t", topic, "-m", "x").
					CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			}
			awaitMark(t, lines, say)
			file := filepath.Join(t.TempDir(), "report.json")
			out, err := exec.CommandContext(t.Context(), load, "p2p", "--url=unix://"+socket, "-c4", "-q", qos,
				"--rate=500", "--size=100", "--topic=load", "--warmup=200ms", "--duration=1s", "--quiet", "--json="+file,
				"--fail=lost>0", "--fail=duplicated>0", "--fail=reordered>0", "--fail=failed>0").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			say("mark/end")
			r := readReport(t, file)
			if n := countLines(lines); n != r.TotalSent || r.TotalReceived != r.TotalSent || n < 2000 {
				t.Errorf("mosquitto_sub counts %d, sent %d, received %d", n, r.TotalSent, r.TotalReceived)
			}
		})
	}
}

// The load's counts are those of the broker's own $SYS topics, ours and Mosquitto's.
func TestCountsAgreeWithSysTopics(t *testing.T) {
	sub := program(t, "mosquitto_sub")
	load, ours := binaries(t)
	mosquitto := "/usr/sbin/mosquitto"
	if _, err := os.Stat(mosquitto); err != nil {
		mosquitto = program(t, "mosquitto")
	}
	for name, broker := range map[string]string{"noctule": ours, "mosquitto": mosquitto} {
		t.Run(name, func(t *testing.T) {
			socket := startSystem(t, broker, "sys_interval 1")
			file := filepath.Join(t.TempDir(), "report.json")
			out, err := exec.CommandContext(t.Context(), load, "p2p", "--url=unix://"+socket, "-c4", "-q", "1", "--rate=500",
				"--warmup=0s", "--duration=500ms", "--quiet", "--json="+file, "--fail=lost>0").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := fmt.Sprint(readReport(t, file).TotalSent)
			got := ""
			for end := time.Now().Add(patience / 2); got != want && time.Now().Before(end); {
				raw, _ := exec.CommandContext(t.Context(), sub, "--unix", socket, "-C", "1", "-W", "5",
					"-t", "$SYS/broker/publish/messages/received").Output() // asked again if it failed
				got = strings.TrimSpace(string(raw))
			}
			if got != want {
				t.Errorf("$SYS says %s, sent %s", got, want)
			}
		})
	}
}

// awaitMark waits until the subscription stands: messages of mark/start are sent until one is there.
func awaitMark(t *testing.T, lines *bufio.Scanner, say func(string)) {
	t.Helper()
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			say("mark/start")
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	ok := lines.Scan()
	close(stop)
	<-ended
	if !ok || !strings.HasPrefix(lines.Text(), "mark/start") {
		t.Fatalf("mosquitto_sub says %q", lines.Text())
	}
}

// countLines counts the load's messages, as wc -l does, up to the mark of the end.
func countLines(lines *bufio.Scanner) (n int64) {
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "mark/end") {
		if strings.HasPrefix(lines.Text(), "load/") && strings.HasSuffix(lines.Text(), " 100") {
			n++
		}
	}
	return n
}

func readReport(t *testing.T, file string) *bench.Report {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}
