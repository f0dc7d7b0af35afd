package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Files that are mounted by themselves cannot be renamed over, as in a container: all that replaces a file writes
// them in place, and leaves nothing beside them.
func TestMountedFiles(t *testing.T) {
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skip("needs unshare -m: ", err)
	}
	outside, inside := t.TempDir(), t.TempDir()
	theirs := sample(t, "debian-2.0.11-v6.db", inside)
	whole := filepath.Join(outside, "whole.db")
	if code, text := outcome(t, "db", "import", whole, theirs); code != exitOK {
		t.Fatal(text)
	}
	raw, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"noctule.db": {}, "full.db": raw, "mosquitto.db": []byte("old"), "copy.db": []byte("old"), "users": []byte("a:$7$x\n"),
	} {
		for dir, b := range map[string][]byte{outside: content, inside: {}} {
			if dir == inside && name == "mosquitto.db" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	script := `set -e
for f in noctule.db full.db copy.db users; do mount --bind "$OUT/$f" "$IN/$f"; done
"$N" db import "$IN/noctule.db" "$IN/mosquitto.db"
mount --bind "$OUT/mosquitto.db" "$IN/mosquitto.db"
"$N" db export "$IN/noctule.db" "$IN/mosquitto.db"
"$N" db compact "$IN/full.db"
"$N" db backup "$IN/full.db" "$IN/copy.db"
"$N" passwd -b "$IN/users" b secret
"$N" passwd -D "$IN/users" a`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "OUT="+outside, "IN="+inside, "N="+binary)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"noctule.db", "full.db", "copy.db"} {
		if code, text := outcome(t, "db", "check", filepath.Join(outside, name)); code != exitOK {
			t.Errorf("%s: %s", name, text)
		}
	}
	if code, text := outcome(t, "db", "import", filepath.Join(outside, "again.db"), filepath.Join(outside, "mosquitto.db")); code != exitOK || !strings.Contains(text, "3 sessions") {
		t.Error(text)
	}
	if users, err := os.ReadFile(filepath.Join(outside, "users")); err != nil || !strings.HasPrefix(string(users), "b:$") || strings.Contains(string(users), "a:") {
		t.Errorf("%q, %v", users, err)
	}
	for dir, want := range map[string]int{inside: 5, outside: 7} {
		if list, err := os.ReadDir(dir); err != nil || len(list) != want {
			t.Errorf("%v, %v", list, err)
		}
	}
}
