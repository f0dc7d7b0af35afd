//go:build unix

package auth

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// exposure warns of a file with secrets that others can read or change.
func exposure(path string, st fs.FileInfo) []string {
	var out []string
	if st.Mode().Perm()&0o004 != 0 {
		out = append(out, fmt.Sprintf(
			"Warning: File %s has world readable permissions. Use `chmod 0600 %s` to fix this.", path, path,
		))
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return out
	}
	if uid := os.Geteuid(); int(owner.Uid) != uid {
		out = append(out, fmt.Sprintf("Warning: File %s owner is %d, not %d.", path, owner.Uid, uid))
	}
	if gid := os.Getegid(); int(owner.Gid) != gid {
		out = append(out, fmt.Sprintf("Warning: File %s group is %d, not %d.", path, owner.Gid, gid))
	}
	return out
}

// keepOwner gives a new file the owner of the one it replaces.
func keepOwner(f *os.File, st fs.FileInfo) error {
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() && int(owner.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
