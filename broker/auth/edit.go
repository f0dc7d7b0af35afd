package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"noctule/internal/regular"
	"noctule/internal/swapfile"
)

// Editing of password files. A change is written to a new file beside the old one, flushed and renamed, so
// that a broker that reads meanwhile, or a crash, finds one or the other, whole. Mode, owner,
// comments and empty lines stay.

// ErrNoUser is the error of DeletePassword for a user that is not in the file.
var ErrNoUser = errors.New("auth: no such user")

// UsernameFault tells in a sentence why a name cannot be in a password file; it is empty if it can.
func UsernameFault(name string) string {
	switch {
	case name == "":
		return "Username must not be empty."
	case len(name) > 65535:
		return "Username must be less than 65536 characters long."
	case strings.ContainsFunc(name, unicode.IsControl):
		return "Username must not contain control characters."
	case strings.Contains(name, ":"):
		return "Username must not contain the ':' character."
	case strings.TrimSpace(name) != name || strings.HasPrefix(name, "#"):
		return "Username must not begin with # or a blank, nor end in a blank."
	}
	return ""
}

// CreatePasswords writes a file with one user, in place of what may be there.
func CreatePasswords(path, name, hash string) error {
	path, st, err := resolve(path)
	if err != nil {
		return err
	}
	return replace(path, st, entryOf(name, hash))
}

// SetPassword changes the user's line or adds one; updated tells which.
func SetPassword(path, name, hash string) (updated bool, err error) {
	err = edit(path, func(user, _ string) (string, error) {
		if user != name || updated {
			return keepLine, nil
		}
		updated = true
		return hash, nil
	}, func() string {
		if updated {
			return ""
		}
		return string(entryOf(name, hash))
	})
	return updated, err
}

// DeletePassword removes a user.
func DeletePassword(path, name string) error {
	found := false
	err := edit(path, func(user, _ string) (string, error) {
		if user != name {
			return keepLine, nil
		}
		found = true
		return "", nil
	}, nil)
	if err == nil && !found {
		return ErrNoUser
	}
	return err
}

// HashPlain replaces every password of the file, which must be plain text, by what hash makes of it.
func HashPlain(path string, hash func(password string) (string, error)) error {
	return edit(path, func(_, password string) (string, error) { return hash(password) }, nil)
}

func entryOf(name, hash string) []byte { return []byte(name + ":" + hash + "\n") }

// keepLine is what a change returns for a line that stays as it is.
const keepLine = "\x00"

// edit rewrites the file. change is given every user and password and returns the new password, keepLine, or
// nothing to leave the line out; last returns what is added at the end.
func edit(path string, change func(user, password string) (string, error), last func() string) error {
	path, st, err := resolve(path)
	if err == nil && st == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	changed := false
	number := 0
	for line := range strings.Lines(string(old)) {
		number++
		bare := strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(bare, "#") || strings.TrimSpace(bare) == "" {
			out.WriteString(bare + "\n")
			continue
		}
		user, password, _ := strings.Cut(bare, ":")
		user, password = strings.TrimSpace(user), strings.TrimSpace(password)
		if user == "" || password == "" {
			return &FileError{
				Path: path, Line: number,
				Text: fmt.Sprintf("Corrupt password file at line %d.", number),
			}
		}
		text, err := change(user, password)
		if err != nil {
			return err
		}
		switch text {
		case keepLine:
			out.WriteString(bare + "\n")
			continue
		case "":
		default:
			out.Write(entryOf(user, text))
		}
		changed = true
	}
	if last != nil {
		add := last()
		changed = changed || add != ""
		out.WriteString(add)
	}
	if !changed {
		return nil
	}
	return replace(path, st, out.Bytes())
}

// resolve follows symbolic links; the info is nil if there is no such file yet.
func resolve(path string) (string, fs.FileInfo, error) {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	st, err := os.Stat(target)
	if err != nil {
		return "", nil, err
	}
	if !st.Mode().IsRegular() {
		return "", nil, &fs.PathError{Op: "open", Path: path, Err: regular.ErrNotRegular}
	}
	return target, st, nil
}

// replace writes a new file and renames it; st is the old one's, nil if there is none.
func replace(path string, st fs.FileInfo, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new.*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()           // the first error counts
			_ = os.Remove(f.Name()) // same
		}
	}()
	if st != nil {
		if err := keepOwner(f, st); err != nil {
			return err
		}
		if err := f.Chmod(st.Mode().Perm()); err != nil {
			return err
		}
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return swapfile.Replace(f.Name(), path)
}
