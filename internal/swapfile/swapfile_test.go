package swapfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// only checks that a directory holds one file, with that content.
func only(t *testing.T, path, content string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil || string(raw) != content {
		t.Errorf("%q, %v", raw, err)
	}
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"first", "second, and longer", "3"} {
		write(t, path+".new", content)
		if err := Replace(path+".new", path); err != nil {
			t.Fatal(err)
		}
		only(t, path, content)
	}
	for _, content := range []string{"in place, longer than before", "4", ""} {
		write(t, path+".new", content)
		if err := overwrite(path+".new", path); err != nil {
			t.Fatal(err)
		}
		only(t, path, content)
	}
}

// However far a Replace in place has come, Recover leaves the old content or the new.
func TestRecover(t *testing.T) {
	const old, fresh = "old content", "the new content"
	for _, tt := range []struct {
		name, path, redo, before, want string
	}{
		{"nothing to do", old, "", "", old},
		{"cut off in the copy of the old", old, "", "old c", old},
		{"cut off in the write", "the new", fresh, old, fresh},
		{"cut off behind the write", fresh, fresh, old, fresh},
		{"cut off while copies go", fresh, "", old, fresh},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			write(t, path, tt.path)
			if tt.redo != "" {
				write(t, redoName(path), tt.redo)
			}
			if tt.before != "" {
				write(t, beforeName(path), tt.before)
			}
			if err := Recover(path); err != nil {
				t.Fatal(err)
			}
			only(t, path, tt.want)
		})
	}
}

// An error leaves what was there, and no copies.
func TestFailedReplace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "f")
	write(t, path, "old")
	if err := Replace(path+".new", path); err == nil {
		t.Error("a file that is not there has been taken")
	}
	only(t, path, "old")
	write(t, path+".new", "new")
	if err := Replace(path+".new", filepath.Join(dir, "no", "f")); err == nil || !strings.Contains(err.Error(), "no") {
		t.Error(err)
	}
	only(t, path, "old")
}
