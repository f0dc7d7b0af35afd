//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// brokersFile is a file with one broker, which does not run.
func brokersFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "brokers.toml")
	text := "[[broker]]\nname = \"absent\"\nstart = \"/nowhere/at/all\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCompareUsage(t *testing.T) {
	file := brokersFile(t)
	for name, args := range map[string][]string{
		"no file":     {"--brokers", file + ".none"},
		"no broker":   {"--brokers", file, "--only", "other"},
		"no scenario": {"--brokers", file, "--scenario", "other"},
		"no round":    {"--brokers", file, "--rounds", "0"},
		"no time":     {"--brokers", file, "-d", "0s"},
		"no clients":  {"--brokers", file, "--idle", "0"},
		"bad flag":    {"--nonsense"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), append([]string{"compare"}, args...), &stdout, &stderr)
		if code != exitUsage || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %s", name, code, &stderr)
		}
	}
}

// All reports are written, also when every broker is left out.
func TestCompareWrites(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	args := []string{
		"compare", "--brokers", brokersFile(t), "--broker-cpu=-1", "--generator-cpu=-1",
		"--json", path("c.json"), "--markdown", path("c.md"), "--html", path("c.html"),
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d, %s", code, &stderr)
	}
	for _, name := range []string{"c.json", "c.md", "c.html"} {
		raw, err := os.ReadFile(path(name))
		if err != nil || !strings.Contains(string(raw), "/nowhere/at/all") {
			t.Errorf("%s: %v\n%s", name, err, raw)
		}
		if name == "c.json" && !json.Valid(raw) {
			t.Errorf("%s is no JSON", name)
		}
		if name == "c.md" && string(raw) != stdout.String() {
			t.Errorf("%s is not what was printed:\n%s", name, &stdout)
		}
	}
	args[len(args)-1] = path("none/c.html")
	if code := run(context.Background(), args, &stdout, &stderr); code != exitFailed {
		t.Errorf("exit code %d with a file that cannot be written", code)
	}
}
