//go:build !windows

package logs

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// TestSyslog reads what arrives at a syslog socket: facility and severity, name, and the timestamped line.
func TestSyslog(t *testing.T) {
	address := filepath.Join(t.TempDir(), "log")
	conn, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for facility, base := range map[int]int{-1: 3 << 3, 0: 16 << 3, 7: 23 << 3} {
		h, _, stderr := open(t, conf.Log{None: true, Timestamp: true}, Options{Verbose: true})
		if h.now.Load().system, err = dialSyslog("unixgram", address, facility); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			level    slog.Level
			severity int
		}{
			{broker.LevelError, 3},
			{broker.LevelWarning, 4},
			{broker.LevelNotice, 5},
			{broker.LevelInfo, 6},
			{broker.LevelSubscribe, 5},
			{broker.LevelUnsubscribe, 5},
			{broker.LevelDebug, 7},
		} {
			say(t, h, tt.level, "hello")
			b := make([]byte, 2000)
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`^<%d>.* mosquitto\[\d+\]: 1709215505: hello\n$`, base+tt.severity)
			if !regexp.MustCompile(want).Match(b[:n]) {
				t.Errorf("level %d: %q, want %s", tt.level, b[:n], want)
			}
		}
		if stderr.Len() > 0 {
			t.Errorf("stderr: %q", stderr)
		}
	}
}
