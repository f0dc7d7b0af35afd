package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func contentOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEditPasswordFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	if err := CreatePasswords(path, "a", "1"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
	for _, c := range []struct {
		do      func() (bool, error)
		updated bool
		want    string
	}{
		{func() (bool, error) { return SetPassword(path, "b", "2") }, false, "a:1\nb:2\n"},
		{func() (bool, error) { return SetPassword(path, "a", "3") }, true, "a:3\nb:2\n"},
		{func() (bool, error) { return false, DeletePassword(path, "a") }, false, "b:2\n"},
		{func() (bool, error) {
			return false, HashPlain(path, func(p string) (string, error) { return "h" + p, nil })
		}, false, "b:h2\n"},
		{func() (bool, error) { return false, CreatePasswords(path, "c", "4") }, false, "c:4\n"},
	} {
		updated, err := c.do()
		if got := contentOf(t, path); err != nil || updated != c.updated || got != c.want {
			t.Errorf("%q, updated %v, %v; want %q", got, updated, err, c.want)
		}
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestEditKeepsTheRest changes one line among others, through a symbolic link.
func TestEditKeepsTheRest(t *testing.T) {
	path := writeFile(t, "# comment\r\n\n a : 1 \nb:2:x\nb:3") // no end of line
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	if updated, err := SetPassword(link, "b", "new"); err != nil || !updated {
		t.Fatal(updated, err)
	}
	if _, err := SetPassword(link, "c", "4"); err != nil {
		t.Fatal(err)
	}
	if got, want := contentOf(t, path), "# comment\n\n a : 1 \nb:new\nb:3\nc:4\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
}

func TestEditErrors(t *testing.T) {
	path := writeFile(t, "a:1\nno colon\n")
	_, err := SetPassword(path, "a", "2")
	var e *FileError
	if !errors.As(err, &e) || e.Line != 2 || contentOf(t, path) != "a:1\nno colon\n" {
		t.Errorf("%v, %q", err, contentOf(t, path))
	}
	path = writeFile(t, "a:1\n")
	if err := DeletePassword(path, "b"); !errors.Is(err, ErrNoUser) {
		t.Errorf("%v", err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := SetPassword(missing, "a", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := CreatePasswords(t.TempDir(), "a", "1"); err == nil {
		t.Error("a directory became a file")
	}
	failing := errors.New("no")
	if err := HashPlain(path, func(string) (string, error) { return "", failing }); !errors.Is(err, failing) ||
		contentOf(t, path) != "a:1\n" {
		t.Errorf("%v, %q", err, contentOf(t, path))
	}
	for _, name := range []string{"", "a:b", "a\nb", "a\x00", " a", "a ", "#a", strings.Repeat("x", 65536)} {
		if UsernameFault(name) == "" {
			t.Errorf("%.20q is a username", name)
		}
	}
	for _, name := range []string{"a", "a b", "ä", "a#", strings.Repeat("x", 65535)} {
		if text := UsernameFault(name); text != "" {
			t.Errorf("%.20q: %s", name, text)
		}
	}
}
