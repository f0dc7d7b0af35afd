package codec

import (
	"errors"
	"fmt"
)

// ErrShort says that more bytes are needed to tell; only ParseHeader returns it.
var ErrShort = errors.New("codec: more bytes needed")

// Error is a breach of the protocol in what was received.
type Error struct {
	Reason Reason // for DISCONNECT or CONNACK
	Packet Type
	Detail string // what and where, with the clause
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (0x%02x %s)", e.Packet, e.Detail, byte(e.Reason), e.Reason)
}

func malformed(t Type, detail string) error {
	return &Error{Reason: MalformedPacket, Packet: t, Detail: detail}
}

func protocol(t Type, detail string) error {
	return &Error{Reason: ProtocolError, Packet: t, Detail: detail}
}
