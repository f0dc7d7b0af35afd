// Package swapfile puts a new file in the place of another.
//
// A rename does that at once and whole, but not where the other is mounted by itself (a container's bind
// mount of one file, a Kubernetes secret): the system answers EBUSY. Then the content is written over the
// old one's. Until that is on disk the new content lies whole under NAME.redo and the old one under
// NAME.before, so that Recover can finish after a crash, and an error leaves what was there. Neither copy
// stays.
package swapfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"noctule/internal/regular"
)

// Replace gives a complete file that has been synced another's name, durably; the name need not be taken
// yet. The fresh file is gone afterwards, after an error too.
func Replace(fresh, path string) error {
	err := os.Rename(fresh, path)
	if err == nil {
		return syncDir(filepath.Dir(path))
	}
	if inPlace(err) {
		err = overwrite(fresh, path)
	}
	return errors.Join(err, remove(fresh))
}

// inPlace reports whether a rename has failed for a reason that does not keep the file from being written.
func inPlace(err error) bool {
	for _, e := range []error{
		syscall.EBUSY, syscall.EXDEV, syscall.EPERM, syscall.EACCES, syscall.EROFS,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func redoName(path string) string   { return path + ".redo" }
func beforeName(path string) string { return path + ".before" }

// overwrite writes the content of fresh over path's.
func overwrite(fresh, path string) error {
	before, redo := beforeName(path), redoName(path)
	err := copyTo(path, before, os.O_CREATE|os.O_TRUNC)
	switch {
	case err == nil:
		if os.Rename(fresh, redo) != nil { // another file system
			err = copyTo(fresh, redo, os.O_CREATE|os.O_TRUNC)
		}
	case inPlace(err): // nothing can be put beside it: without Recover, then
		before, redo = fresh+".before", fresh
		err = copyTo(path, before, os.O_CREATE|os.O_TRUNC)
	}
	if err != nil { // nothing has been written over
		return errors.Join(err, remove(redo), remove(before))
	}
	if err = syncDir(filepath.Dir(redo)); err == nil {
		err = copyTo(redo, path, 0)
	}
	if err != nil {
		if back := copyTo(before, path, 0); back != nil { // the copies are all that is left
			return errors.Join(err, fmt.Errorf("%s holds what was there: %w", before, back))
		}
	}
	return errors.Join(err, remove(redo), remove(before))
}

// copyTo writes the content of one file over another's and syncs it.
func copyTo(from, to string, flags int) error {
	in, err := regular.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	if err == nil {
		err = out.Truncate(n)
	}
	return errors.Join(err, out.Sync(), out.Close())
}

// Recover finishes a Replace that a crash has cut off. It costs one look when there was none.
func Recover(path string) error {
	redo := redoName(path)
	if _, err := os.Lstat(redo); errors.Is(err, fs.ErrNotExist) {
		return remove(beforeName(path)) // it was cut off before anything was written, or after all was
	}
	if err := copyTo(redo, path, 0); err != nil {
		return fmt.Errorf("finishing what was cut off: %w", err)
	}
	return errors.Join(remove(redo), remove(beforeName(path)))
}

// remove removes a file that may be there. Where nothing may be written the system refuses to remove what is
// not there too.
func remove(name string) error {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes names in a directory durable, where a directory can be synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // not everywhere
	return d.Close()
}
