package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// setClock is what runs in a kernel of its own, as its first process: a broker, a client that says everything it
// hears, one with a will that pings, and one with a will that stands still from when the clock is set back.
const setClock = `#!/bin/bash
cd %[1]q
mount -t proc proc /proc
ip link set lo up || ifconfig lo up
export GODEBUG=cpu.all=off,asyncpreemptoff=1 GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F
%[2]q -c conf >log 2>&1 &
for i in $(seq 100); do grep -q ' running$' log && break; sleep 0.1; done
%[3]q -p 1883 -k 600 -t '#' -F '%%t %%p' >heard 2>errors &
%[3]q -p 1883 -k 5 -i alive -t none --will-topic alive --will-payload gone 2>>errors &
%[3]q -p 1883 -k 5 -i dead -t none --will-topic dead --will-payload gone 2>>errors &
dead=$!
for i in $(seq 100); do [ "$(grep -c 'New client connected' log)" = 3 ] && break; sleep 0.1; done
sleep 1
say() { %[4]q -p 1883 -t test -m "$1" 2>>errors; }
say begin
date -s '+1 hour' >/dev/null
sleep 5
say forward
kill -STOP $dead
date -s '-2 hours' >/dev/null
sleep 12
say back
halt -f -p 2>/dev/null || poweroff -f 2>/dev/null || echo o >/proc/sysrq-trigger
`

// TestClockIsSet sets the clock of user-mode Linux, whose clock is its own: an hour forward, and no client is
// disconnected; two hours back, and one that has died is noticed.
func TestClockIsSet(t *testing.T) {
	asRoot(t)
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("user-mode Linux is there for amd64 only")
	}
	linux, sub, pub := program(t, "linux.uml"), program(t, "mosquitto_sub"), program(t, "mosquitto_pub")
	dir := t.TempDir()
	uml := filepath.Join(dir, "uml")
	if out, err := exec.Command("go", "build", "-o", uml, "./testdata/uml").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("conf", "listener 1883 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n")
	write("init", fmt.Sprintf(setClock, dir, binary, sub, pub))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	kernel := exec.CommandContext(ctx, uml, linux, "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw",
		"init="+filepath.Join(dir, "init"), "con=null", "con0=null,fd:1", "quiet")
	console, err := kernel.CombinedOutput()
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return string(raw)
	}
	const want = "test begin\ntest forward\ndead gone\ntest back\n"
	log := read("log")
	if got := read("heard"); got != want || !strings.Contains(log, "clock has moved by 1h0m0s") ||
		!strings.Contains(log, "clock has moved by -2h0m0s") {
		t.Errorf("heard\n%sinstead of\n%slog\n%serrors\n%sconsole\n%s\n%v", got, want, log, read("errors"), console, err)
	}
}
