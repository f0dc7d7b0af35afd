// Package testcrash runs a test once more, in a process of its own that is to crash.
package testcrash

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// in is set in that process, to a folder for what it leaves.
const in = "NOCTULE_TEST_CRASH"

// Child is the folder for what the process leaves, in the process that is to crash; "" in the test itself.
func Child() string { return os.Getenv(in) }

// Run runs the test t again, for which Child is not "" then. It must end as Go ends a panic. What it has
// written to stderr is returned, and the folder.
func Run(t *testing.T) (stderr, dir string) {
	t.Helper()
	dir = t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), exe, "-test.run="+run, "-test.timeout=1m")
	cmd.Env = append(os.Environ(), in+"="+dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Fatalf("it ended with %v, not as Go ends a panic\n%s%s", err, out.String(), errs.String())
	}
	return errs.String(), dir
}

// Log makes the child's log.
func Log(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(Child(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ReadLog is the child's log, of a folder that Run has returned.
func ReadLog(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
