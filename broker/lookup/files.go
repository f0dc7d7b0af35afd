package lookup

import (
	"crypto/sha256"
	"strings"

	"noctule/internal/regular"
)

// Files are what was read beside the file of settings: hashes by name, so that a reload can tell whether
// anything is another.
type Files map[string][sha256.Size]byte

// FileError is an error of a file that a setting names.
type FileError struct {
	Path string // of the setting below what it is about: ".http.token_file"
	Err  error
}

// Error implements error.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is.
func (e *FileError) Unwrap() error { return e.Err }

// Read returns the contents of a file that the setting at a path names.
func (f Files) Read(path, name string) ([]byte, error) {
	raw, err := regular.ReadFile(name)
	if err != nil {
		return nil, &FileError{path, err}
	}
	f[name] = sha256.Sum256(raw)
	return raw, nil
}

// Secret is Read for a password, a token or a DSN: the space around it is no part of it.
func (f Files) Secret(path, name string) (string, error) {
	raw, err := f.Read(path, name)
	return strings.TrimSpace(string(raw)), err
}
