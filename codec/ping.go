package codec

// AppendPingreq appends a PINGREQ (3.12).
func AppendPingreq(b []byte) []byte { return append(b, byte(PINGREQ)<<4, 0) }

// AppendPingresp appends a PINGRESP (3.13).
func AppendPingresp(b []byte) []byte { return append(b, byte(PINGRESP)<<4, 0) }
