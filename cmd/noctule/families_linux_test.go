package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMachineWithOneFamily starts in a network of its own where one address family is switched off.
func TestMachineWithOneFamily(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	unshare := program(t, "unshare")
	for _, name := range []string{"ip", "sysctl"} {
		program(t, name)
	}
	const (
		noSix  = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && sysctl -qw net.ipv6.conf.lo.disable_ipv6=1"
		noFour = "ip addr flush dev lo && ip -6 addr add ::1/128 dev lo"
	)
	for _, prepare := range []string{noSix, noFour} {
		if out, err := exec.Command(unshare, "-n", "sh", "-c", "ip link set lo up && "+prepare).CombinedOutput(); err != nil {
			t.Skipf("%v %s", err, out) // no right to, or no IPv6 at all
		}
	}
	const fourLine, sixLine = "is not open on 127.0.0.1: ", "is not open on ::1: "
	for _, tt := range []struct {
		name, prepare, conf string
		starts              bool
		want                string
	}{
		{"Debian's configuration without IPv6", noSix, "", true, sixLine},
		{"Debian's configuration without IPv4", noFour, "", true, fourLine},
		{"Debian's configuration with both", "true", "", true, ""},
		{"all addresses without IPv6", noSix, "listener 1883", true, ""},
		{"all addresses without IPv4", noFour, "listener 1883", true, ""},
		{"an IPv6 listener without IPv6", noSix, "listener 1883 ::1", false, ""},
		{"both named without IPv6", noSix, "listener 1883 127.0.0.1\nlistener 1883 ::1", false, ""},
		{"an IPv4 listener without IPv4", noFour, "listener 1883 127.0.0.1", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newBroker(t, "user root\nsys_interval 0\n"+tt.conf)
			script := "ip link set lo up && " + tt.prepare + ` && exec "$@"`
			p.cmd = exec.Command(unshare, append([]string{"-n", "sh", "-c", script, "sh"}, p.cmd.Args...)...)
			p.cmd.Stdout, p.cmd.Stderr = p, p
			if !tt.starts {
				p.launch(t, `terminating$`)
				if _ = p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != exitListener || !strings.Contains(p.lines(), "Error: ") {
					t.Errorf("%v\n%s", p.cmd.ProcessState, p.lines())
				}
				return
			}
			p.start(t)
			for _, line := range []string{fourLine, sixLine} {
				if strings.Contains(p.lines(), line) != (line == tt.want) {
					t.Errorf("%s in the log: %t\n%s", line, line != tt.want, p.lines())
				}
			}
			if tt.want == fourLine && !strings.Contains(p.lines(), "there is no http api") {
				t.Errorf("no word of the API\n%s", p.lines())
			}
		})
	}
}
