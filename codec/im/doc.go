// Package im has the formats of the instant messaging system that runs over the broker: the payload of a
// message, the payload of a notification, the topics, and the entry by which a server subscribes a client on
// its behalf.
//
// Everything is binary and big-endian. Where a format holds JSON, it is carried as it is: this package does
// not look into it. Each format has three verbs, Parse, Append and Len; what Parse has read refers to the
// bytes that it was given. Parse is strict: what Append would not write, it refuses, with the offset of the
// byte that is wrong.
//
// docs/formats.md has the formats for writers in other languages. Tests hold it to this package: its tables,
// its examples, and a decoder in Python that was written from it.
package im

import (
	"encoding/binary"
	"fmt"
)

// Error says what is wrong with a payload, and where.
type Error struct {
	Format string // "message", "notification", "topic", "entry", "answer"
	Offset int    // of the first byte that is wrong; the length if bytes are missing
	Detail string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: byte %d: %s", e.Format, e.Offset, e.Detail)
}

// reader takes fields off the front of b. After the first error it returns zero values.
type reader struct {
	format string
	b      []byte
	at     int
	err    error
}

// fail keeps the first error, at an offset.
func (r *reader) fail(at int, detail string) {
	if r.err == nil {
		r.err = &Error{Format: r.format, Offset: at, Detail: detail}
	}
}

// take returns the next n bytes, nil if there are not so many; what names them.
func (r *reader) take(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if len(r.b)-r.at < n {
		r.fail(len(r.b), what+" is cut off")
		return nil
	}
	b := r.b[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

func (r *reader) byte(what string) byte {
	if b := r.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if b := r.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if b := r.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64(what string) uint64 {
	if b := r.take(8, what); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes reads a field with its length in two bytes before it.
func (r *reader) bytes(what string) []byte { return r.take(int(r.uint16("length of "+what)), what) }

// end checks that nothing is left over.
func (r *reader) end() error {
	if r.err == nil && r.at != len(r.b) {
		r.fail(r.at, "bytes left over")
	}
	return r.err
}
