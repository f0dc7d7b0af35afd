package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"noctule/cmd/internal/conf"
)

// readable reports whether a file, or the directory of capath, can be read. If not it says why and what
// helps; so it does when a secret is open to everybody.
func (k *checking) readable(at []conf.Place, key, path string) bool {
	st, err := os.Stat(path)
	if err == nil {
		err = opens(path, key == "capath", st)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		k.fails(at, "%s '%s': %s.", key, path, k.denied(path, k.readFix(key, path)))
	case err != nil:
		k.fails(at, "%s '%s': %v.", key, path, cause(err))
	case isSecret(key) && isExposed(st):
		k.warns(at, "%s '%s' can be read by everybody on this machine: %s.", key, path, k.closeFix(path, st))
	}
	return err == nil
}

// isSecret reports whether nobody else should read what a directive names.
func isSecret(key string) bool {
	return key == "keyfile" || key == "password_file" || key == "admin_token_file"
}

// opens opens a file for reading. A pipe is not tried: it would be waited for.
func opens(path string, dir bool, st fs.FileInfo) error {
	switch {
	case dir && !st.IsDir():
		return errors.New("not a directory")
	case !dir && st.IsDir():
		return errors.New("is a directory")
	case st.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0:
		return errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if dir {
		if _, err = f.ReadDir(1); errors.Is(err, io.EOF) { // it may be filled later
			err = nil
		}
	}
	return err
}

// cause is an error without the path that is in it.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// readFix is what lets the broker read a file, and as few others as can be.
func (k *checking) readFix(key, path string) string {
	switch {
	case key == "admin_token_file": // no group may read it, see admin.LoadTokens
		return fmt.Sprintf("chown %s: %s && chmod 600 %s", k.who.name, path, path)
	case key == "capath":
		return fmt.Sprintf("chmod o+rx %s", path)
	case isSecret(key), key == "acl_file":
		return fmt.Sprintf("chown root:%s %s && chmod 640 %s", k.who.group, path, path)
	}
	return fmt.Sprintf("chmod o+r %s", path)
}

// closeFix is what keeps everybody else from reading a file that the broker must read.
func (k *checking) closeFix(path string, st fs.FileInfo) string {
	if k.who.keeps(st) {
		return "chmod o-r " + path
	}
	return k.readFix("keyfile", path)
}

// denied is why a path is out of reach, and what helps: fix, or to open a directory on the way.
func (k *checking) denied(path, fix string) string {
	if dir := barred(path); isShared(dir) {
		fix = fmt.Sprintf("it may not enter %s: keep the file elsewhere", dir)
	} else if dir != "" {
		fix = fmt.Sprintf("it may not enter %s: chgrp %s %s && chmod g+x %s", dir, k.who.group, dir, dir)
	}
	return fmt.Sprintf("permission denied for user %s: %s", k.who.name, fix)
}

// unwritable is why a file cannot be written, or made if it is not there; "" if it can.
func (k *checking) unwritable(path string) string {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return "is a directory"
	case err == nil:
		return k.refusal(path, mayWrite(path), fmt.Sprintf("chown %s %s", k.who.name, path))
	case !errors.Is(err, fs.ErrNotExist):
		return k.refusal(path, err, k.ownFix(filepath.Dir(path)))
	}
	if to, err := os.Readlink(path); err == nil { // to what is not there yet
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return k.unwritableDir(filepath.Dir(path))
}

// unwritableDir is why no file can be made in a directory; "" if one can.
func (k *checking) unwritableDir(dir string) string {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(strings.TrimPrefix(dir, "/var"), "/run/"):
		return fmt.Sprintf("there is no directory %s: RuntimeDirectory= of a service makes one", dir)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("there is no directory %s", dir)
	case err != nil:
		return k.refusal(dir, err, k.ownFix(dir))
	case !st.IsDir():
		return fmt.Sprintf("%s is not a directory", dir)
	}
	return k.refusal(dir, mayWriteDir(dir), k.ownFix(dir))
}

// ownFix is what lets the broker write to a directory.
func (k *checking) ownFix(dir string) string {
	if isShared(dir) {
		return "use a directory that belongs to " + k.who.name
	}
	return fmt.Sprintf("chown %s: %s", k.who.name, dir)
}

// refusal is an error about a path in words; "" if there is none.
func (k *checking) refusal(path string, err error, fix string) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrPermission):
		return k.denied(path, fix)
	}
	return fmt.Sprintf("%s: %v", path, cause(err))
}

// isShared reports whether a directory is there for others, so that it is not to be given to the broker.
func isShared(dir string) bool {
	return dir != "" && slices.Contains([]string{
		"/", "/etc", "/etc/mosquitto", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var",
		"/var/lib", "/var/log", "/var/run",
	}, filepath.Clean(dir))
}
