// Package regular opens files that are to be read whole at a start: a name that is a pipe, a socket or a
// device is an error that says so. Opening a named pipe would wait for a writer, who may never come.
package regular

import (
	"errors"
	"io/fs"
	"os"
)

// ErrNotRegular is wrapped by errors about names that are no regular files.
var ErrNotRegular = errors.New("not a regular file")

// Open is os.Open for a regular file, or a symbolic link to one.
func Open(path string) (*os.File, error) {
	if err := check(path); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// ReadFile is os.ReadFile for a regular file, or a symbolic link to one.
func ReadFile(path string) ([]byte, error) {
	if err := check(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// check asks what a name is before it is opened. What cannot be asked is left to the opening, which has the
// same error.
func check(path string) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	return nil
}
