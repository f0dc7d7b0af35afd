//go:build !windows

package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Only regular files are opened, by whatever name; what is none is named in the error, and not waited for.
func TestRegular(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(at("file"), []byte("x"), 0o600), os.Symlink("file", at("link")), os.Mkdir(at("dir"), 0o700),
		syscall.Mkfifo(at("pipe"), 0o600), os.Symlink("pipe", at("pipelink")),
	); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"file": nil, "link": nil, "none": fs.ErrNotExist,
		"pipe": ErrNotRegular, "pipelink": ErrNotRegular, "dir": ErrNotRegular,
	} {
		f, err := Open(at(name))
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), at(name)) {
			t.Errorf("Open(%s): %v", name, err)
		}
		if f != nil {
			f.Close()
		}
		raw, err := ReadFile(at(name))
		if !errors.Is(err, want) || want == nil && string(raw) != "x" {
			t.Errorf("ReadFile(%s): %q, %v", name, raw, err)
		}
	}
}
