package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// header2 is a header of version 2.
func header2(command, family byte, body string) string {
	b := append([]byte(signature), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(body)))) + body
}

// field is a type-length-value field.
func field(kind byte, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))) + value
}

const (
	tcp4 = "\xC0\x00\x02\x05\xC0\x00\x02\x06\x18\x83\x07\x5B" // 192.0.2.5:6275 to 192.0.2.6:1883
	tcp6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06\x18\x83\x07\x5B"
	verified, refused = "\x00\x00\x00\x00", "\x00\x00\x00\x12"
)

func unix(path string) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", 108-len(s)) }
	return pad(path) + pad("/to")
}

var session = field(fieldSSLVersion, "TLSv1.3") + field(fieldSSLCipher, "TLS_AES_256_GCM_SHA384")

// summed is a header of version 2 with its checksum behind the body.
func summed(family byte, body string) string {
	h := header2(commandProxy, family, body+field(fieldChecksum, "\x00\x00\x00\x00"))
	sum := crc32.Checksum([]byte(h), crc32.MakeTable(crc32.Castagnoli))
	return string(binary.BigEndian.AppendUint32([]byte(h[:len(h)-4]), sum))
}

var good = []struct {
	name    string
	version int
	text    string
	want    Header
}{
	{"TCP4", 1, "PROXY TCP4 192.0.2.5 192.0.2.6 6275 1883\r\n", Header{Source: netip.MustParseAddrPort("192.0.2.5:6275")}},
	{"TCP6", 1, "PROXY TCP6 2001:db8::5 2001:db8::6 6275 1883\r\n", Header{Source: netip.MustParseAddrPort("[2001:db8::5]:6275")}},
	{
		"long TCP6", 1, "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		Header{Source: netip.MustParseAddrPort("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
	},
	{"v2 port 0", 2, header2(commandProxy, familyTCP4, tcp4[:8]+"\x00\x00\x00\x00"), Header{Source: netip.MustParseAddrPort("192.0.2.5:0")}},
	{"unknown", 1, "PROXY UNKNOWN\r\n", Header{}},
	{"unknown with more", 1, "PROXY UNKNOWN " + strings.Repeat("x", 107-16) + "\r\n", Header{}},
	{"v2 TCP4", 2, header2(commandProxy, familyTCP4, tcp4), Header{Source: netip.MustParseAddrPort("192.0.2.5:6275")}},
	{"v2 TCP6", 2, header2(commandProxy, familyTCP6, tcp6), Header{Source: netip.MustParseAddrPort("[2001:db8::5]:6275")}},
	{"v2 unix", 2, header2(commandProxy, familyUnix, unix("/run/x")), Header{Unix: true, Path: "/run/x"}},
	{"v2 nameless unix", 2, header2(commandProxy, familyUnix, unix("")), Header{Unix: true}},
	{"v2 short unix", 2, header2(commandProxy, familyUnix, "/path"), Header{Unix: true, Path: "/path"}},
	{"v2 short unix with zeros", 2, header2(commandProxy, familyUnix, "/path\x00\x00/to"), Header{Unix: true, Path: "/path"}},
	{"v2 unix with one path", 2, header2(commandProxy, familyUnix, unix("/path")[:108]), Header{Unix: true, Path: "/path"}},
	{"v2 unix with half a path", 2, header2(commandProxy, familyUnix, unix("/path")[:215]), Header{Unix: true, Path: "/path"}},
	{"v2 unix with a full path", 2, header2(commandProxy, familyUnix, strings.Repeat("p", 120)), Header{Unix: true, Path: strings.Repeat("p", 108)}},
	{"v2 unspecified", 2, header2(commandProxy, familyUnspecified, field(4, "padding")), Header{}},
	{"v2 local", 2, header2(commandLocal, familyUnspecified, ""), Header{Local: true}},
	{"v2 local with anything", 2, header2(commandLocal, 0xFF, "anything"), Header{Local: true}},
	{"v2 checksum", 2, summed(familyTCP4, tcp4+field(5, "id")), Header{Source: netip.MustParseAddrPort("192.0.2.5:6275")}},
	{
		"v2 largest", 2, header2(commandProxy, familyTCP4, tcp4+field(4, strings.Repeat("x", 500-12-3))),
		Header{Source: netip.MustParseAddrPort("192.0.2.5:6275")},
	},
	{
		"v2 TLS", 2, header2(commandProxy, familyTCP4, tcp4+field(1, "mqtt")+field(fieldSSL, "\x01"+refused+session)),
		Header{
			Source: netip.MustParseAddrPort("192.0.2.5:6275"),
			TLS:    &TLS{Version: "TLSv1.3", Cipher: "TLS_AES_256_GCM_SHA384"},
		},
	},
	{
		"v2 certificate", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x07"+verified+session+field(fieldSSLName, "Zoë"))),
		Header{
			Source: netip.MustParseAddrPort("192.0.2.5:6275"),
			TLS:    &TLS{Version: "TLSv1.3", Cipher: "TLS_AES_256_GCM_SHA384", Certificate: true, CommonName: "Zoë"},
		},
	},
	{
		"v2 certificate of a session", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x05"+verified+field(fieldSSLName, "x"))),
		Header{Source: netip.MustParseAddrPort("192.0.2.5:6275"), TLS: &TLS{Certificate: true, CommonName: "x"}},
	},
	{
		"v2 certificate that was not verified", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x03"+refused+field(fieldSSLName, "x"))),
		Header{Source: netip.MustParseAddrPort("192.0.2.5:6275"), TLS: &TLS{}},
	},
	{
		"v2 SSL field without SSL", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x00"+refused)),
		Header{Source: netip.MustParseAddrPort("192.0.2.5:6275")},
	},
}

// Each header is read whole, with or without bytes behind it, and each proper prefix of it wants more.
func TestGoodHeaders(t *testing.T) {
	for _, tt := range good {
		for _, behind := range []string{"", "\x10", "\r\n", "PROXY "} {
			h, n, err := Parse([]byte(tt.text+behind), tt.version)
			if err != nil || n != len(tt.text) || !reflect.DeepEqual(h, tt.want) {
				t.Errorf("%s: %+v, %d of %d bytes, %v", tt.name, h, n, len(tt.text), err)
			}
		}
		for i := range tt.text {
			if h, n, err := Parse([]byte(tt.text[:i]), tt.version); err != nil || n != 0 || h != (Header{}) {
				t.Errorf("%s, the first %d bytes: %+v, size %d, %v", tt.name, i, h, n, err)
			}
		}
	}
}

func TestBadHeaders(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version int
		text    string
	}{
		{"MQTT", 1, "\x10"},
		{"lower case", 1, "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n"},
		{"version 2 for 1", 1, header2(commandProxy, familyTCP4, tcp4)},
		{"two spaces", 1, "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n"},
		{"two spaces later", 1, "PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n"},
		{"space at the end", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n"},
		{"tab", 1, "PROXY TCP4\t1.2.3.4 1.2.3.4 1 1\r\n"},
		{"no protocol", 1, "PROXY \r\n"},
		{"UDP", 1, "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n"},
		{"UNKNOWN and letters", 1, "PROXY UNKNOWNS\r\n"},
		{"few words", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"},
		{"TCP4 with IPv6", 1, "PROXY TCP4 ::1 ::1 1 1\r\n"},
		{"TCP6 with IPv4", 1, "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n"},
		{"destination", 1, "PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n"},
		{"zone", 1, "PROXY TCP6 fe80::1%lo ::1 1 1\r\n"},
		{"leading zero of an address", 1, "PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n"},
		{"leading zero of a port", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n"},
		{"large port", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n"},
		{"port 0", 1, "PROXY TCP4 192.0.2.5 192.0.2.6 0 1883\r\n"},
		{"port 0 of the destination", 1, "PROXY TCP6 ::1 ::1 6275 0\r\n"},
		{"zeros for a port", 1, "PROXY TCP4 192.0.2.5 192.0.2.6 00 1883\r\n"},
		{"no port", 1, "PROXY TCP4 192.0.2.5 192.0.2.6  1883\r\n"},
		{"huge port", 1, "PROXY TCP4 192.0.2.5 192.0.2.6 18446744073709551617 1883\r\n"},
		{"TCP", 1, "PROXY TCP 1.2.3.4 1.2.3.4 1 1\r\n"},
		{"family in lower case", 1, "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n"},
		{"signed port", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 1 +1\r\n"},
		{"LF alone", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n"},
		{"CR and not LF", 1, "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rx"},
		{"long", 1, "PROXY UNKNOWN " + strings.Repeat("x", 107-15) + "\r\n"},
		{"long without end", 1, "PROXY UNKNOWN " + strings.Repeat("x", 107-14)},
		{"end beyond", 1, "PROXY UNKNOWN " + strings.Repeat("x", 107-15) + "\r"},
		{"v2 MQTT", 2, "\x10"},
		{"v2 signature", 2, "\r\n\r\n\x00\r\nQUIT\r"},
		{"v2 for 1", 2, good[0].text},
		{"v2 version 1", 2, signature + "\x11"},
		{"v2 command 2", 2, signature + "\x22"},
		{"v2 UDP", 2, header2(commandProxy, 0x12, tcp4)},
		{"v2 unknown family", 2, header2(commandProxy, 0x41, tcp4)},
		{"v2 few bytes of addresses", 2, header2(commandProxy, familyTCP4, tcp4[1:])},
		{"v2 few bytes of IPv6", 2, header2(commandProxy, familyTCP6, tcp4)},
		{"v2 too large", 2, header2(commandProxy, familyTCP4, strings.Repeat("x", 501))[:16]},
		{"v2 no addresses", 2, header2(commandProxy, familyTCP4, "")},
		{"v2 no path", 2, header2(commandProxy, familyUnix, "")},
		{"v2 IPv4 in place of IPv6", 2, header2(commandProxy, familyTCP6, tcp6[:35])},
		{"v2 IPv6 in place of IPv4", 2, header2(commandProxy, familyTCP4, tcp6)},
		{"v2 line in a short path", 2, header2(commandProxy, familyUnix, "/a\nb")},
		{"v2 half a field", 2, header2(commandProxy, familyTCP4, tcp4+"\x04\x00")},
		{"v2 field beyond the end", 2, header2(commandProxy, familyTCP4, tcp4+"\x04\x00\x02x")},
		{"v2 checksum", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldChecksum, "\x00\x00\x00\x00"))},
		{"v2 long checksum", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldChecksum, "\x00\x00\x00\x00\x00"))},
		{"v2 short SSL", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x01\x00\x00\x00"))},
		{"v2 field of SSL beyond the end", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x01"+verified+"\x22\x00\x09x"))},
		{"v2 two SSL", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x01"+verified)+field(fieldSSL, "\x01"+verified))},
		{"v2 line in a name", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x03"+verified+field(fieldSSLName, "a\nb")))},
		{"v2 NUL in a name", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x03"+verified+field(fieldSSLName, "a\x00b")))},
		{"v2 name that is not UTF-8", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x03"+verified+field(fieldSSLName, "\xFF")))},
		{"v2 cipher that is not ASCII", 2, header2(commandProxy, familyTCP4, tcp4+field(fieldSSL, "\x01"+verified+field(fieldSSLCipher, "Ä")))},
		{"v2 line in a path", 2, header2(commandProxy, familyUnix, unix("/a\nb"))},
	} {
		if h, n, err := Parse([]byte(tt.text), tt.version); !errors.Is(err, ErrHeader) || n != 0 || h != (Header{}) {
			t.Errorf("%s: %+v, size %d, %v", tt.name, h, n, err)
		}
	}
}

// FuzzParse: a header that was read does not depend on what follows, and each shorter piece of it is the
// beginning of a header.
func FuzzParse(f *testing.F) {
	for _, tt := range good {
		f.Add([]byte(tt.text), tt.version == 2)
	}
	for _, s := range []string{
		"PROXY TCP4 1.2.3.4 1.2.3.4 0 65536\r\n", "PROXY TCP6 ::1 ::ffff:1.2.3.4 01 1\r\n", "PROXY UNKNOWN \r\n",
	} {
		f.Add([]byte(s), false)
	}
	for n := range 4 {
		f.Add([]byte(header2(commandProxy, familyUnix, unix("/path")[:72*n])), true)
		f.Add([]byte(header2(commandLocal, byte(n<<4|1), tcp4[:3*n])), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, second bool) {
		version := 1
		if second {
			version = 2
		}
		h, n, err := Parse(b, version)
		if err != nil || n == 0 {
			if h != (Header{}) || n != 0 || err == nil && len(b) >= MaxSize {
				t.Fatalf("%+v, size %d, %v of %d bytes", h, n, err, len(b))
			}
			return
		}
		if n > len(b) || n > MaxSize {
			t.Fatalf("size %d of %d bytes", n, len(b))
		}
		if again, m, err := Parse(b[:n], version); err != nil || m != n || !reflect.DeepEqual(h, again) {
			t.Fatalf("%+v and %+v, sizes %d and %d, %v", h, again, n, m, err)
		}
		for i := range n {
			if _, m, err := Parse(b[:i], version); m != 0 || err != nil {
				t.Fatalf("the first %d of %d bytes: size %d, %v", i, n, m, err)
			}
		}
	})
}
