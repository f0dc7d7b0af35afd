package wsproto

import (
	"bytes"
	"errors"
	"strings"
)

// head is that of an upgrade request in a form that leaves nothing to interpret: lists on one line
// and without what is not asked for, white space as blanks.
type head struct {
	raw      []byte
	origin   string // "" if there is none
	protocol string // the first of the client's that is known; "" if none is
}

// Errors of requests that are no HTTP, or say something twice.
var (
	errHeader = errors.New("header is malformed")
	errTwice  = errors.New("header that may come once comes twice")
	errList   = errors.New("list is malformed")
)

// onceBit is a bit for each header that has one value, 0 for others: the broker and a proxy before it might
// choose different ones (RFC 9110, 5.3 and 7.2; RFC 6455, 11.3; RFC 6454, 7.3).
func onceBit(name string) uint8 {
	for i, once := range [...]string{"Host", "Origin", "Sec-WebSocket-Key", "Sec-WebSocket-Version"} {
		if strings.EqualFold(name, once) {
			return 1 << i
		}
	}
	return 0
}

// readHead reads a whole head with its empty line. Headers that are lists may come several times, which is
// the same as one list (RFC 9110, 5.3).
func (r *Rules) readHead(raw []byte) (h head, err error) {
	line, rest := cutLine(raw)
	h.raw = append(append(make([]byte, 0, len(raw)), line...), "\r\n"...)
	var connection, upgrade, protocols []string
	seen := uint8(0)
	for {
		if line, rest = cutLine(rest); len(line) == 0 {
			break
		}
		name, value, ok := splitHeader(line)
		if !ok {
			return h, errHeader
		}
		bit := onceBit(name)
		if seen&bit != 0 {
			return h, errTwice
		}
		seen |= bit
		switch {
		case strings.EqualFold(name, "Connection"):
			connection, ok = appendList(connection, value)
		case strings.EqualFold(name, "Upgrade"):
			upgrade, ok = appendList(upgrade, value)
		case strings.EqualFold(name, "Sec-WebSocket-Protocol"):
			protocols, ok = appendList(protocols, value)
		case strings.EqualFold(name, "Origin"):
			h.origin = value
		default: // Sec-WebSocket-Extensions too: none is offered
			h.add(name, value)
		}
		if !ok {
			return h, errList
		}
	}
	h.pick("Connection", "Upgrade", connection)
	h.pick("Upgrade", "websocket", upgrade)
	for _, p := range protocols {
		if r.knows(p) {
			h.protocol = p
			h.add("Sec-WebSocket-Protocol", p)
			break
		}
	}
	h.raw = append(h.raw, "\r\n"...)
	return h, nil
}

func (h *head) add(name, value string) {
	h.raw = append(h.raw, name+": "+value+"\r\n"...)
}

// pick adds a header whose list has the value that is needed.
func (h *head) pick(name, need string, list []string) {
	for _, v := range list {
		if strings.EqualFold(v, need) {
			h.add(name, need)
			return
		}
	}
}

// cutLine cuts the first line off; it ends with LF, with or without CR (RFC 9112, 2.2).
func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'}), rest
}

// splitHeader splits a line into name and value, which has no white space around it. A name with white space
// behind it, and a line that continues another, are malformed (RFC 9112, 5.1 and 5.2).
func splitHeader(line []byte) (name, value string, ok bool) {
	n, v, ok := bytes.Cut(line, []byte{':'})
	if !ok || !isToken(string(n)) || bytes.ContainsAny(v, "\r\x00") {
		return "", "", false
	}
	return string(n), strings.Trim(string(v), " \t"), true
}

// appendList appends the elements of a comma separated list of tokens. White space around them is blanks and
// tabs, and empty elements are none (RFC 9110, 5.6.1).
func appendList(list []string, value string) ([]string, bool) {
	for v := range strings.SplitSeq(value, ",") {
		v = strings.Trim(v, " \t")
		if v == "" {
			continue
		}
		if name, version, ok := strings.Cut(v, "/"); !isToken(name) || ok && !isToken(version) { // HTTP/2.0
			return list, false
		}
		list = append(list, v)
	}
	return list, true
}

// isToken reports whether s is a token (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7F || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}
