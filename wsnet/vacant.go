package wsnet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Vacant reports whether Listen could have an address now, and leaves everything as it is: nobody can
// connect, and no socket is made or removed in the file system. An address that another socket listens on
// gives syscall.EADDRINUSE, except for the path of a unix socket, which Listen takes over.
func Vacant(network, address string) error {
	if network == "unix" {
		return vacantUnix(address)
	}
	return vacantTCP(network, address)
}

// vacantUnix looks at the path of a unix socket. That its directory may be written is for others to see.
func vacantUnix(path string) error {
	const pathMax = 107 // of sun_path, with the zero behind it
	if len(path) > pathMax {
		return os.NewSyscallError("bind", syscall.EINVAL)
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err = os.Stat(filepath.Dir(path))
		return err
	case err == nil && st.Mode()&os.ModeSocket == 0:
		return os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return err
}
