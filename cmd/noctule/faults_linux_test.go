package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestDiskFaults lets system calls on the database fail while messages are published: what is acknowledged is there
// after a kill, in its order, and the broker goes on when the disk does.
func TestDiskFaults(t *testing.T) {
	strace, sub := program(t, "strace"), program(t, "mosquitto_sub")
	for _, fault := range []string{
		"pwrite64:error=EIO:when=5", "fdatasync:error=EIO:when=4", "pwrite64:error=ENOSPC:when=6",
	} {
		t.Run(fault[:strings.LastIndexByte(fault, ':')], func(t *testing.T) {
			port, dir := freePort(t), t.TempDir()
			session := []string{
				"-h", "127.0.0.1", "-p", fmt.Sprint(port), "-c", "-i", "keeper", "-q", "1", "-t", "faults",
			}
			conf := persistent(port, dir) + "max_queued_messages 0\n"
			p := startBroker(t, conf)
			runClient(t, sub, append(session, "-E")...)
			heal := injectFault(t, strace, p.cmd.Process.Pid, fault)
			acked := publishThroughFault(t, p, port)
			p.await(t, "Error: Persistent state cannot be written")
			p.await(t, "Persistent state can be written again")
			heal()
			p.stop(t, syscall.SIGKILL)

			startBroker(t, conf)
			got := runClient(t, sub, append(session, "-C", fmt.Sprint(len(acked)), "-W", "20")...)
			if want := strings.Join(acked, "\n") + "\n"; got != want {
				t.Errorf("%d messages are acknowledged, the session has %q, want %q", len(acked), got, want)
			}
		})
	}
}

// injectFault attaches strace to a process; heal detaches it.
func injectFault(t *testing.T, strace string, pid int, fault string) (heal func()) {
	t.Helper()
	name, _, _ := strings.Cut(fault, ":")
	cmd := exec.Command(strace, "-f", "-p", fmt.Sprint(pid), "-e", "trace="+name, "-e", "inject="+fault)
	tracer := &process{cmd: cmd, news: make(chan struct{}, 1)}
	cmd.Stderr = tracer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	heal = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	tracer.await(t, "attached")
	return heal
}

// publishThroughFault publishes until the broker has said that it can write again, and some more, and returns the
// payloads of those that are acknowledged. What is under way when the disk fails waits; what comes meanwhile is
// refused.
func publishThroughFault(t *testing.T, p *process, port int) (acked []string) {
	t.Helper()
	c := brokertest.Connect(t, fmt.Sprint("127.0.0.1:", port), "publisher", codec.V5, nil)
	deadline := time.Now().Add(patience)
	healed := false
	for i := 0; !healed || i%20 != 0; i++ {
		if i%20 == 0 {
			healed = strings.Contains(p.lines(), "Persistent state can be written again")
			if time.Now().After(deadline) {
				t.Fatalf("no fault was survived in %d messages:\n%s", i, p.lines())
			}
		}
		payload := fmt.Sprint("message ", i)
		c.Publish("faults", payload, 1, uint16(i%60000+1))
		var a codec.Ack
		a.Type = codec.PUBACK
		switch c.Want(codec.PUBACK, &a); a.Reason {
		case codec.Success:
			acked = append(acked, payload)
		case codec.QuotaExceeded: // [MQTT-4.3.2-4] it is not taken
		default:
			t.Fatalf("PUBACK %s", a.Reason)
		}
	}
	return acked
}
