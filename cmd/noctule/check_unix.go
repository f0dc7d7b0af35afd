//go:build !windows

package main

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// viewer is who looks at files: the user of this process.
type viewer struct {
	name, group string
	uid         int
	groups      []int
}

func newViewer() viewer {
	v := viewer{uid: os.Geteuid(), name: strconv.Itoa(os.Geteuid()), group: strconv.Itoa(os.Getegid())}
	if u, err := user.LookupId(v.name); err == nil {
		v.name = u.Username
	}
	if g, err := user.LookupGroupId(v.group); err == nil {
		v.group = g.Name
	}
	v.groups, _ = os.Getgroups() // without, there is one less reason to read
	v.groups = append(v.groups, os.Getegid())
	return v
}

// keeps reports whether a file could still be read if it were closed to others.
func (v viewer) keeps(st fs.FileInfo) bool {
	owner, ok := st.Sys().(*syscall.Stat_t)
	mode := st.Mode().Perm()
	return !ok || v.uid == 0 || int(owner.Uid) == v.uid && mode&0o400 != 0 ||
		slices.Contains(v.groups, int(owner.Gid)) && mode&0o040 != 0
}

// isExposed reports whether everybody may read a file.
func isExposed(st fs.FileInfo) bool { return st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0 }

// mayWrite asks whether a file may be written, without opening it.
func mayWrite(path string) error { return unix.Access(path, unix.W_OK) }

// mayWriteDir asks whether files may be made in a directory.
func mayWriteDir(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// barred is the first directory on the way to a path that may not be entered, behind links too; "" if all
// may.
func barred(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	at, rest := "/", parts(path)
	for range 256 { // links may go in circles
		if len(rest) == 0 {
			return ""
		}
		if unix.Access(at, unix.X_OK) == unix.EACCES {
			return at
		}
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		to, err := os.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(parts(to), rest...)
	}
	return ""
}

// parts are the names in a path.
func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
