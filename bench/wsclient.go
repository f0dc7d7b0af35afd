//go:build linux

package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gobwas/ws"
)

// webSocket is the client's half of the WebSocket protocol.
type webSocket struct {
	left uint64 // payload bytes of the current frame still to come
	mask [4]byte
	head []byte // start of a frame header, or of a control frame, whose rest is to come
}

// headroom is what output keeps free in front for a frame header.
const headroom = 14

// websocketKey is the nonce of every request: the answer's check of it is not what is measured here.
const websocketKey = "bm9jdHVsZS1iZW5jaC0xNg=="

func (t *Target) request() string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
		t.Path, t.Address, websocketKey)
}

// upgraded looks for the whole answer to the request in b; used is 0 while it is incomplete.
func upgraded(b []byte) (used int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > 8192 {
			return 0, errProtocol
		}
		return 0, nil
	}
	if line, _, _ := bytes.Cut(b[:end], []byte("\r\n")); !bytes.Contains(line, []byte(" 101 ")) {
		return 0, fmt.Errorf("%w: %s", errRefused, line)
	}
	return end + 4, nil
}

// frame writes the header of a binary frame in front of b's payload, which starts at headroom, and masks
// the payload. It returns the frame.
func (w *webSocket) frame(b []byte) []byte {
	n := len(b) - headroom
	at := headroom - 6
	switch {
	case n < 126:
		b[at+1] = byte(n)
	case n < 1<<16:
		at = headroom - 8
		b[at+1] = 126
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		at = headroom - 14
		b[at+1] = 127
		binary.BigEndian.PutUint64(b[at+2:], uint64(n))
	}
	b[at] = 0x82
	b[at+1] |= 0x80
	copy(b[headroom-4:], w.mask[:])
	ws.Cipher(b[headroom:], w.mask, 0)
	return b[at:]
}

// next takes the next piece of application bytes out of raw. used 0 means that a header is incomplete.
// pong is the answer to a ping, if there was one.
func (w *webSocket) next(raw []byte) (used int, piece, pong []byte, err error) {
	if w.left > 0 {
		n := min(uint64(len(raw)), w.left)
		w.left -= n
		return int(n), raw[:n], nil, nil
	}
	if len(raw) < 2 {
		return 0, nil, nil, nil
	}
	n, size := uint64(raw[1]&0x7F), 2
	switch n {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if len(raw) < size {
		return 0, nil, nil, nil
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(raw[2:]))
	case 127:
		n = binary.BigEndian.Uint64(raw[2:])
	}
	switch op := ws.OpCode(raw[0] & 0x0F); {
	case raw[1]&0x80 != 0:
		return 0, nil, nil, errProtocol
	case op == ws.OpClose:
		return 0, nil, nil, errEnded
	case op.IsControl():
		if uint64(len(raw)-size) < n {
			return 0, nil, nil, nil
		}
		if op == ws.OpPing {
			pong = w.pong(raw[size : size+int(n)])
		}
		return size + int(n), nil, pong, nil
	}
	w.left = n
	if n == 0 {
		return size, nil, nil, nil
	}
	used, piece, pong, err = w.next(raw[size:])
	return size + used, piece, pong, err
}

func (w *webSocket) pong(payload []byte) []byte {
	b := make([]byte, headroom, headroom+len(payload))
	b = w.frame(append(b, payload...))
	b[0] = 0x8A
	return b
}
