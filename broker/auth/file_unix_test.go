//go:build unix

package auth

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNamedPipeIsNotOpened: nobody may ever write into it, and the caller would wait.
func TestNamedPipeIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	for name, load := range map[string]func(string) error{
		"passwords": func(p string) error { _, err := LoadPasswords(p); return err },
		"ACL":       func(p string) error { _, err := LoadACL(p); return err },
	} {
		if err := load(path); err == nil || !strings.HasSuffix(err.Error(), "not a regular file.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExposedFilesAreWarnedOf(t *testing.T) {
	path := writeFile(t, "a:"+made16)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPasswords(path)
	if err != nil {
		t.Fatal(err)
	}
	if w := p.Warnings(); len(w) != 1 || !strings.Contains(w[0], "world readable permissions") {
		t.Errorf("%q", w)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	if err := os.Chown(path, 1, 1); err != nil {
		t.Fatal(err)
	}
	if p, err = LoadPasswords(path); err != nil || len(p.Warnings()) != 3 {
		t.Errorf("%v %q", err, p.Warnings())
	}
	if _, err := SetPassword(path, "b", "$6$x"); err != nil { // the owner stays
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if w := exposure(path, st); len(w) != 3 {
		t.Errorf("after a change: %q", w)
	}
}
