package codec

// MaxRemaining is the largest remaining length, in bytes (MQTT 5, 1.5.5).
const MaxRemaining = 268435455

// Header is a fixed header.
type Header struct {
	Type  Type
	Flags uint8 // the lower four bits of the first byte
	Size  int   // bytes of the fixed header, 2 to 5
	Len   int   // bytes that follow
}

// ParseHeader reads the fixed header at the start of b. ErrShort means that b ends inside it.
func ParseHeader(b []byte) (Header, error) {
	if len(b) == 0 {
		return Header{}, ErrShort
	}
	h := Header{Type: Type(b[0] >> 4), Flags: b[0] & 0x0F}
	if err := h.check(); err != nil {
		return h, err
	}
	return h.length(b)
}

// ParseHeader31 is ParseHeader for MQTT 3.1, where flags say nothing but in a PUBLISH: DUP is set in any
// packet that is sent again, and others are unused (3.1, 2.1). It also reads the header of a CONNECT of whose
// version nothing is known; its Parse looks at the flags again.
func ParseHeader31(b []byte) (Header, error) {
	if len(b) == 0 {
		return Header{}, ErrShort
	}
	h := Header{Type: Type(b[0] >> 4), Flags: b[0] & 0x0F}
	switch {
	case h.Type == 0:
		return h, h.check()
	case h.Flags&0x06 == 0x06 && (h.Type == PUBLISH || h.Type == CONNECT):
		return h, malformed(h.Type, "QoS 3 (MQTT 3.1, 2.1)")
	}
	return h.length(b)
}

// length reads the remaining length.
func (h Header) length(b []byte) (Header, error) {
	for i := 1; i < 5; i++ {
		if i >= len(b) {
			return h, ErrShort
		}
		h.Len |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] < 0x80 {
			h.Size = i + 1
			return h, nil
		}
	}
	return h, malformed(h.Type, "remaining length is longer than 4 bytes")
}

// check holds the flags against the type [MQTT-2.1.3-1].
func (h Header) check() error {
	switch h.Type {
	case 0:
		return protocol(h.Type, "packet type 0 is reserved")
	case PUBLISH:
		if h.Flags&0x06 == 0x06 {
			return malformed(h.Type, "QoS 3 [MQTT-3.3.1-4]")
		}
		if h.Flags&0x0E == 0x08 {
			return malformed(h.Type, "DUP with QoS 0 [MQTT-3.3.1-2]")
		}
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		if h.Flags != 2 {
			return malformed(h.Type, "flags are not 2 [MQTT-2.1.3-1]")
		}
	default:
		if h.Flags != 0 {
			return malformed(h.Type, "flags are not 0 [MQTT-2.1.3-1]")
		}
	}
	return nil
}

// AppendHeader appends a fixed header; remaining is at most MaxRemaining.
func AppendHeader(b []byte, t Type, flags uint8, remaining int) []byte {
	return appendUvarint(append(b, byte(t)<<4|flags), uint32(remaining))
}

// UvarintLen is the number of bytes, 1 to 4, of a variable byte integer.
func UvarintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	default:
		return 4
	}
}

func appendUvarint(b []byte, n uint32) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// packetLen is the length of a whole packet with a body of n bytes.
func packetLen(n int) int { return 1 + UvarintLen(n) + n }

// reader walks over a packet's body. After a read past the end bad is set and everything read is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) < 1 {
		r.bad, r.b = true, nil
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uint16() uint16 {
	if len(r.b) < 2 {
		r.bad, r.b = true, nil
		return 0
	}
	v := uint16(r.b[0])<<8 | uint16(r.b[1])
	r.b = r.b[2:]
	return v
}

func (r *reader) uint32() uint32 {
	return uint32(r.uint16())<<16 | uint32(r.uint16())
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// binary reads a two byte length and that many bytes.
func (r *reader) binary() []byte { return r.take(int(r.uint16())) }

// uvarint reads a variable byte integer, at most 4 bytes long and no longer than needed [MQTT-1.5.5-1].
func (r *reader) uvarint() uint32 {
	var v uint32
	for i := range 4 {
		c := r.byte()
		v |= uint32(c&0x7F) << (7 * i)
		if c < 0x80 {
			if i > 0 && c == 0 {
				r.bad = true
			}
			return v
		}
	}
	r.bad = true
	return 0
}

func appendBinary(b, v []byte) []byte {
	b = append(b, byte(len(v)>>8), byte(len(v)))
	return append(b, v...)
}

func appendUint16(b []byte, v uint16) []byte { return append(b, byte(v>>8), byte(v)) }
