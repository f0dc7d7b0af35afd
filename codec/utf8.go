package codec

import (
	"encoding/binary"
	"unicode/utf8"
)

// ValidUTF8 reports whether b may be an MQTT string: well-formed UTF-8 without U+0000 and surrogates
// [MQTT-1.5.4-1] [MQTT-1.5.4-2], and without control characters and non-characters, which Mosquitto refuses
// as well.
func ValidUTF8(b []byte) bool {
	for len(b) >= 8 {
		// Eight printable ASCII bytes a step: no high bit, nothing below 0x20, no 0x7F.
		const ones, high = 0x0101010101010101, 0x8080808080808080
		w := binary.LittleEndian.Uint64(b)
		if (w|(w-0x20*ones)|(w+ones))&high != 0 {
			break
		}
		b = b[8:]
	}
	for i := 0; i < len(b); {
		c := b[i]
		if c < 0x80 {
			if c < 0x20 || c == 0x7F {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || r < 0xA0 || r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE {
			return false
		}
		i += n
	}
	return true
}
