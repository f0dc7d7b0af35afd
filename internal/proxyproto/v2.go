package proxyproto

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// signature begins each header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

const (
	head2 = 16 // signature, version and command, family, length
	max2  = head2 + 500
)

// pathSize is that of the path of a unix socket; shorter ones end with a zero byte, or with the header.
const pathSize = 108

// Commands, families with their protocols, and types of further fields.
const (
	commandLocal = 0x20 // with version 2 in the upper half
	commandProxy = 0x21

	familyUnspecified = 0x00
	familyTCP4        = 0x11
	familyTCP6        = 0x21
	familyUnix        = 0x31

	fieldChecksum   = 0x03
	fieldSSL        = 0x20
	fieldSSLVersion = 0x21
	fieldSSLName    = 0x22
	fieldSSLCipher  = 0x23
)

// Bits of the first byte of the SSL field.
const (
	clientSSL         = 1
	clientCertConn    = 2
	clientCertSession = 4
)

// addressSize is that of the addresses and ports of a family.
func addressSize(family byte) (size int, ok bool) {
	switch family {
	case familyUnspecified:
		return 0, true
	case familyTCP4:
		return 4 + 4 + 2 + 2, true
	case familyTCP6:
		return 16 + 16 + 2 + 2, true
	case familyUnix:
		return 2 * pathSize, true
	}
	return 0, false
}

// parse2 reads a binary header.
func parse2(b []byte) (h Header, size int, err error) {
	if n := min(len(b), len(signature)); string(b[:n]) != signature[:n] {
		return h, 0, bad("it does not begin with the signature of version 2")
	}
	if len(b) > 12 && b[12] != commandLocal && b[12] != commandProxy {
		return h, 0, bad("version and command %#x", b[12])
	}
	if len(b) < head2 {
		return h, 0, nil
	}
	size = head2 + int(binary.BigEndian.Uint16(b[14:]))
	if size > max2 {
		return h, 0, bad("%d bytes, at most %d", size, max2)
	}
	if len(b) < size {
		return h, 0, nil
	}
	b = b[:size]
	body := b[head2:]
	if b[12] == commandLocal { // whatever else it says is to be ignored
		return Header{Local: true}, size, nil
	}
	n, ok := addressSize(b[13])
	if !ok {
		return h, 0, bad("family and protocol %#x", b[13])
	}
	if b[13] == familyUnix && len(body) > 0 {
		n = min(n, len(body)) // some proxies do not fill the fields up
	}
	if n > len(body) {
		return h, 0, bad("%d bytes of addresses, want %d", len(body), n)
	}
	if err := h.setSource(b[13], body); err != nil {
		return Header{}, 0, err
	}
	if err := h.setFields(b, head2+n); err != nil {
		return Header{}, 0, err
	}
	return h, size, nil
}

// setSource takes the client's address; body has enough bytes for it.
func (h *Header) setSource(family byte, body []byte) error {
	switch family {
	case familyTCP4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
	case familyTCP6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)), binary.BigEndian.Uint16(body[32:]))
	case familyUnix:
		path, _, _ := bytes.Cut(body[:min(pathSize, len(body))], []byte{0})
		h.Unix, h.Path = true, string(path)
		if !printable(h.Path) {
			return bad("a path with control characters")
		}
	}
	return nil
}

// setFields reads the type-length-value fields of a whole header from an offset on.
func (h *Header) setFields(b []byte, at int) error {
	return fields(b[at:], func(kind byte, offset int, value []byte) error {
		switch kind {
		case fieldChecksum:
			return checksum(b, at+offset, value)
		case fieldSSL:
			if h.TLS != nil {
				return bad("two SSL fields")
			}
			t, err := parseSSL(value)
			h.TLS = t
			return err
		}
		return nil
	})
}

// fields calls f for each field of b, with the offset of its value.
func fields(b []byte, f func(kind byte, offset int, value []byte) error) error {
	for at := 0; at < len(b); {
		if len(b)-at < 3 {
			return bad("%d bytes behind the last field", len(b)-at)
		}
		n := int(binary.BigEndian.Uint16(b[at+1:]))
		if n > len(b)-at-3 {
			return bad("a field of %d bytes where %d are left", n, len(b)-at-3)
		}
		if err := f(b[at], at+3, b[at+3:at+3+n]); err != nil {
			return err
		}
		at += 3 + n
	}
	return nil
}

// checksum verifies the CRC32c of a whole header b, whose value at an offset counts as zero.
func checksum(b []byte, at int, value []byte) error {
	if len(value) != 4 {
		return bad("a checksum of %d bytes", len(value))
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:at])
	sum = crc32.Update(sum, table, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, table, b[at+4:])
	if sum != binary.BigEndian.Uint32(value) {
		return bad("wrong checksum")
	}
	return nil
}

// parseSSL reads the SSL field: nil if the client's connection is plain.
func parseSSL(b []byte) (*TLS, error) {
	if len(b) < 5 {
		return nil, bad("an SSL field of %d bytes", len(b))
	}
	t := &TLS{}
	t.Certificate = b[0]&(clientCertConn|clientCertSession) != 0 && binary.BigEndian.Uint32(b[1:]) == 0
	err := fields(b[5:], func(kind byte, _ int, value []byte) error {
		var to *string
		switch kind {
		case fieldSSLVersion:
			to = &t.Version
		case fieldSSLCipher:
			to = &t.Cipher
		case fieldSSLName:
			to = &t.CommonName
		default:
			return nil
		}
		*to = string(value)
		if !printable(*to) || kind != fieldSSLName && !ascii(*to) {
			return bad("control characters in field %#x", kind)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !t.Certificate {
		t.CommonName = ""
	}
	if b[0]&clientSSL == 0 {
		return nil, nil
	}
	return t, nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
