package tlsconf

import (
	"bytes"
	"testing"
)

// FuzzNameHash: whatever a client's certificate has for a name is hashed or refused; case and repeated blanks
// make no difference, and what the hash is of is never longer than the name may make it.
func FuzzNameHash(f *testing.F) {
	for _, s := range []string{
		"\x30\x00", "\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02ca", "\x31\x00", "\x30\x02\x31\x01",
		"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x1e\x02\x00a", "\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02  ",
		"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x1c\x04\x00\x00\x00a",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		one, err := nameHash(raw)
		two, err2 := nameHash(bytes.Clone(raw))
		if one != two || (err == nil) != (err2 == nil) {
			t.Fatalf("%08x %v, then %08x %v", one, err, two, err2)
		}
		if text := folded(raw); !bytes.Equal(folded(text), text) || len(text) > len(raw) {
			t.Fatalf("%q becomes %q", raw, text)
		}
	})
}
