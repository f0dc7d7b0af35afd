package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestColours runs the program on a terminal, and beside one.
func TestColours(t *testing.T) {
	const red = "\x1b[31m"
	log := filepath.Join(t.TempDir(), "log")
	bad := confFile(t, "user root\nlog_dest stderr\nlog_dest file "+log+"\nlistener 1883 192.0.2.1\n")
	clean := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NO_COLOR=") || strings.HasPrefix(v, "TERM=")
	})
	for _, tt := range []struct {
		name string
		env  []string
		pipe bool
		want bool
	}{
		{"terminal", []string{"TERM=xterm"}, false, true},
		{"NO_COLOR", []string{"TERM=xterm", "NO_COLOR=1"}, false, false},
		{"empty NO_COLOR", []string{"TERM=xterm", "NO_COLOR="}, false, true},
		{"dumb", []string{"TERM=dumb"}, false, false},
		{"no TERM", nil, false, false},
		{"pipe", []string{"TERM=xterm"}, true, false},
	} {
		for _, args := range [][]string{{"-c", bad}, {"check", bad}} {
			cmd := exec.Command(binary, args...)
			cmd.Env = append(slices.Clone(clean), tt.env...)
			var out []byte
			if tt.pipe {
				out, _ = cmd.CombinedOutput()
			} else {
				master, slave := terminal(t)
				cmd.Stdout, cmd.Stderr = slave, slave
				_ = cmd.Run() // it fails
				_ = slave.Close()
				for b := make([]byte, 4096); ; {
					n, err := master.Read(b)
					out = append(out, b[:n]...)
					if err != nil {
						break
					}
				}
			}
			if !strings.Contains(string(out), "assign requested address") || strings.Contains(string(out), red) != tt.want ||
				strings.Contains(string(out), "\x1b") != tt.want {
				t.Errorf("%s %s: %q", tt.name, args[0], out)
			}
		}
	}
	if text := readFile(t, log); strings.Contains(text, "\x1b") || !strings.Contains(text, "Error: ") {
		t.Errorf("the log file has %q", text)
	}
}
