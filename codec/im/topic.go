package im

import (
	"bytes"
	"unicode/utf8"
)

// Channel is what a topic is for.
type Channel uint8

// The channels (figure 3).
const (
	IMUser      Channel = iota // /e/{tenant}/im/u/{id}: messages to one user
	IMGroup                    // /e/{tenant}/im/g/{id}: messages to a group
	NoticeUser                 // /e/{tenant}/notice/u/{id}: notifications of a user
	NoticeGroup                // /e/{tenant}/notice/g/{id}: notifications of a group
	ConnectNew                 // /e/{tenant}/connect/new: a user has logged in; for the system only
	channels
)

// Topic is a topic of the scheme in its parts.
type Topic struct {
	Channel Channel
	Tenant  []byte // the organisation
	ID      []byte // of the user or the group; empty for ConnectNew
}

// middle is what stands between the tenant and the id.
func (c Channel) middle() string {
	return [channels]string{"/im/u/", "/im/g/", "/notice/u/", "/notice/g/", "/connect/new"}[c]
}

// String is the channel's part of the topic.
func (c Channel) String() string {
	if c >= channels {
		return "unknown"
	}
	return c.middle()
}

const root = "/e/"

// CheckID tells whether b may be a tenant, a user or a group in a topic: not empty, at most 1024 bytes of
// UTF-8 without control characters, no level separator, no wildcard.
func CheckID(b []byte) error { return checkID(b, 0) }

func checkID(b []byte, offset int) error {
	switch {
	case len(b) == 0:
		return topicError(offset, "id is empty")
	case len(b) > idMax:
		return topicError(offset+idMax, "id is longer than 1024 bytes")
	}
	for i := 0; i < len(b); {
		c, n := utf8.DecodeRune(b[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			return topicError(offset+i, "id is not valid UTF-8")
		case c < 0x20 || c >= 0x7F && c < 0xA0:
			return topicError(offset+i, "control character in an id")
		case c == '/' || c == '+' || c == '#':
			return topicError(offset+i, "id has a level separator or a wildcard")
		case c >= 0xFDD0 && c <= 0xFDEF || c&0xFFFE == 0xFFFE:
			return topicError(offset+i, "non-character in an id")
		}
		i += n
	}
	return nil
}

// idMax is the longest id, in bytes.
const idMax = 1024

func topicError(offset int, detail string) error {
	return &Error{Format: "topic", Offset: offset, Detail: detail}
}

// Parse takes a topic apart.
func (p *Topic) Parse(b []byte) error {
	*p = Topic{}
	rest, ok := bytes.CutPrefix(b, []byte(root))
	if !ok {
		return topicError(commonPrefix(b, root), "does not begin with /e/")
	}
	end := bytes.IndexByte(rest, '/')
	if end < 0 {
		return topicError(len(b), "ends after the tenant")
	}
	p.Tenant, rest = rest[:end:end], rest[end:]
	if err := checkID(p.Tenant, len(root)); err != nil {
		return err
	}
	at, longest := len(root)+end, 0
	for c := range channels {
		m := c.middle()
		longest = max(longest, commonPrefix(rest, m))
		id, ok := bytes.CutPrefix(rest, []byte(m))
		if !ok {
			continue
		}
		p.Channel = c
		if c == ConnectNew {
			if len(id) > 0 {
				return topicError(at+len(m), "bytes left over")
			}
			return nil
		}
		p.ID = id
		return checkID(id, at+len(m))
	}
	return topicError(at+longest, "unknown channel")
}

func commonPrefix(b []byte, s string) int {
	n := min(len(b), len(s))
	for i := range n {
		if b[i] != s[i] {
			return i
		}
	}
	return n
}

// Len is what Append appends.
func (p *Topic) Len() int { return len(root) + len(p.Tenant) + len(p.Channel.middle()) + len(p.ID) }

// Append appends the topic. Its parts must pass CheckID.
func (p *Topic) Append(b []byte) []byte {
	b = append(append(b, root...), p.Tenant...)
	return append(append(b, p.Channel.middle()...), p.ID...)
}

// String is the topic.
func (p *Topic) String() string { return string(p.Append(make([]byte, 0, p.Len()))) }
