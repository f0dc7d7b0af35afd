package auth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"noctule/internal/regular"
)

// FileError says what is wrong with a file, and where.
type FileError struct {
	Path string
	Line int    // from 1; 0 when the file as a whole is meant
	Text string // a sentence; it never holds a password or a hash
	Err  error  // set when the file cannot be opened or read
}

// Error is the sentence and, in a second line, the place, as Mosquitto reports errors of its configuration.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return "Error: " + e.Text
	}
	return fmt.Sprintf("Error: %s\nError found at %s:%d.", e.Text, e.Path, e.Line)
}

// Unwrap is the cause, if the file cannot be read.
func (e *FileError) Unwrap() error { return e.Err }

// Unreadable reports that the file is missing or cannot be read, for which Mosquitto has another exit status
// than for what is in it.
func (e *FileError) Unreadable() bool { return e.Err != nil }

// lineMax bounds a line, in bytes.
const lineMax = 256 << 10

// source is a file that is being read line by line.
type source struct {
	path     string
	what     string // "password file"
	line     int
	warnings []string
}

// fail is an error at the current line.
func (s *source) fail(format string, args ...any) error {
	return &FileError{Path: s.path, Line: s.line, Text: fmt.Sprintf(format, args...)}
}

// warn notes something at the current line that does not stop anything.
func (s *source) warn(format string, args ...any) {
	s.warnings = append(s.warnings, "Warning: "+fmt.Sprintf(format, args...))
}

// read opens the file, follows symbolic links, and calls each for every line that is no comment, without
// its end. Readable for all or somebody else's is worth a warning only.
func (s *source) read(each func(line string) error) error {
	st, err := os.Stat(s.path) // before it is opened: nobody may ever write into a named pipe
	if err != nil {
		return s.unreadable(err)
	}
	if !st.Mode().IsRegular() {
		return s.unreadable(regular.ErrNotRegular)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return s.unreadable(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	s.warnings = append(s.warnings, exposure(s.path, st)...)
	return s.scan(f, each)
}

func (s *source) scan(r io.Reader, each func(line string) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, lineMax)
	for in.Scan() {
		s.line++
		line := in.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		if err := each(line); err != nil {
			return err
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		s.line++
		return s.fail("Line too long in %s '%s'.", s.what, s.path)
	case err != nil:
		return s.unreadable(err)
	}
	return nil
}

func (s *source) unreadable(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &FileError{
		Path: s.path, Err: err, Text: fmt.Sprintf("Unable to open %s \"%s\". %v.", s.what, s.path, err),
	}
}
