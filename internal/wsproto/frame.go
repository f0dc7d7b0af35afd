package wsproto

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Close codes (RFC 6455, 7.4.1).
const (
	CloseNormal      = 1000
	CloseGoingAway   = 1001
	CloseProtocol    = 1002
	CloseUnsupported = 1003
	CloseInvalid     = 1007
	ClosePolicy      = 1008
	CloseTooBig      = 1009
)

// Error is a breach of the frame rules; Code belongs into the close frame.
type Error struct {
	Code uint16
	Text string
}

// Error implements error.
func (e *Error) Error() string { return "websocket: " + e.Text }

func breach(text string) error { return &Error{Code: CloseProtocol, Text: text} }

// Control is a complete control frame; Op is 0 when there is none.
type Control struct {
	Op      ws.OpCode
	Payload []byte
}

// Decoder is the state of one client's frame stream. The zero value is at the start of a frame.
type Decoder struct {
	left    uint64 // payload bytes of the current data frame still to come
	mask    [4]byte
	pos     uint8 // offset into the mask
	message bool  // inside a fragmented message
}

// Next takes the next piece of raw: piece is application bytes, unmasked in place; ctl is a control frame.
// used 0 means that more bytes are needed: at most 14 bytes of a header, or 125 of a control frame, are
// ever left over.
func (d *Decoder) Next(raw []byte) (used int, piece []byte, ctl Control, err error) {
	if d.left == 0 {
		used, ctl, err = d.header(raw)
		if err != nil || used == 0 || ctl.Op != 0 || d.left == 0 {
			return used, nil, ctl, err
		}
		raw = raw[used:]
	}
	n := int(min(uint64(len(raw)), d.left))
	if n == 0 {
		return used, nil, ctl, nil
	}
	piece = raw[:n]
	ws.Cipher(piece, d.mask, int(d.pos))
	d.pos = uint8((int(d.pos) + n) & 3)
	d.left -= uint64(n)
	return used + n, piece, ctl, nil
}

// header reads a frame header; a control frame is taken whole.
func (d *Decoder) header(raw []byte) (used int, ctl Control, err error) {
	if len(raw) < 2 {
		return 0, ctl, d.early(raw)
	}
	if err := d.early(raw); err != nil {
		return 0, ctl, err
	}
	op, fin := ws.OpCode(raw[0]&0x0F), raw[0]&0x80 != 0
	if raw[1]&0x80 == 0 {
		return 0, ctl, breach("frame is not masked")
	}
	n, size := uint64(raw[1]&0x7F), 2
	switch {
	case op.IsControl() && n > 125:
		return 0, ctl, breach("control frame is longer than 125 bytes")
	case n == 126:
		size = 4
	case n == 127:
		size = 10
	}
	if len(raw) < size+4 {
		return 0, ctl, nil
	}
	if n, err = extended(raw, n); err != nil {
		return 0, ctl, err
	}
	mask := [4]byte(raw[size : size+4])
	size += 4
	if op.IsControl() {
		if len(raw)-size < int(n) {
			return 0, ctl, nil
		}
		ctl = Control{Op: op, Payload: raw[size : size+int(n)]}
		ws.Cipher(ctl.Payload, mask, 0)
		return size + int(n), ctl, nil
	}
	d.left, d.mask, d.pos = n, mask, 0
	d.message = !fin
	return size, ctl, nil
}

// extended reads the 16 or 64 bit length, which must not fit a shorter form.
func extended(raw []byte, n uint64) (uint64, error) {
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(raw[2:]))
		if n < 126 {
			return 0, breach("length is not in its shortest form")
		}
	case 127:
		n = binary.BigEndian.Uint64(raw[2:])
		if n>>63 != 0 || n < 1<<16 {
			return 0, breach("length is not in its shortest form, or too large")
		}
	}
	return n, nil
}

// early checks what the first byte alone tells.
func (d *Decoder) early(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	op, fin := ws.OpCode(raw[0]&0x0F), raw[0]&0x80 != 0
	switch {
	case raw[0]&0x70 != 0:
		return breach("reserved bits are set")
	case op.IsReserved():
		return breach("unknown opcode")
	case op == ws.OpText:
		return &Error{Code: CloseUnsupported, Text: "text frame"}
	case op.IsControl() && !fin:
		return breach("control frame is fragmented")
	case op == ws.OpContinuation && !d.message:
		return breach("continuation without a message")
	case op == ws.OpBinary && d.message:
		return breach("new message inside a fragmented one")
	}
	return nil
}

// HeaderMax is the size of the longest header of a server's frame.
const HeaderMax = 10

// PutHeader writes the shortest header of an unmasked binary frame with n payload bytes at the end of head,
// which is HeaderMax bytes long, and returns its length.
func PutHeader(head []byte, n int) int {
	const first = 0x80 | byte(ws.OpBinary)
	switch {
	case n < 126:
		head[8], head[9] = first, byte(n)
		return 2
	case n < 1<<16:
		head[6], head[7] = first, 126
		binary.BigEndian.PutUint16(head[8:], uint16(n))
		return 4
	default:
		head[0], head[1] = first, 127
		binary.BigEndian.PutUint64(head[2:], uint64(n))
		return 10
	}
}

// AppendPong appends the answer to a ping.
func AppendPong(b, payload []byte) []byte {
	b = append(b, 0x80|byte(ws.OpPong), byte(len(payload)))
	return append(b, payload...)
}

// AppendClose appends a close frame.
func AppendClose(b []byte, code uint16) []byte {
	return append(b, 0x80|byte(ws.OpClose), 2, byte(code>>8), byte(code))
}

// CloseReply is the code to answer a client's close frame with: its own, or what is wrong with it.
func CloseReply(payload []byte) uint16 {
	if len(payload) == 0 {
		return CloseNormal
	}
	if len(payload) == 1 {
		return CloseProtocol
	}
	code := binary.BigEndian.Uint16(payload)
	switch {
	case !utf8.Valid(payload[2:]):
		return CloseInvalid
	case code < 1000, code >= 1004 && code <= 1006, code >= 1015 && code < 3000, code >= 5000:
		return CloseProtocol
	}
	return code
}
