package certname

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzSubject: a subject in text has as many parts as the name, so no value can pretend to be another
// attribute, and nothing in it needs care when it is logged; a common name has no bytes that are read otherwise
// elsewhere.
func FuzzSubject(f *testing.F) {
	oid := asn1.ObjectIdentifier{2, 5, 4, 3}
	for _, v := range []asn1.RawValue{
		{Tag: asn1.TagUTF8String, Bytes: []byte("client")},
		{Tag: asn1.TagUTF8String, Bytes: []byte("a,CN=admin+O=x\\")},
		{Tag: asn1.TagUTF8String, Bytes: []byte("#a\x00b ")},
		{Tag: asn1.TagUTF8String, Bytes: []byte("\xff")},
		{Tag: asn1.TagT61String, Bytes: []byte("\xe4\xff")},
		{Tag: asn1.TagBMPString, Bytes: []byte("\x00a\xd8\x00")},
		{Tag: asn1.TagBMPString, Bytes: []byte("a")},
		{Tag: asn1.TagInteger, Bytes: []byte{1}},
		{Tag: asn1.TagSequence, IsCompound: true},
	} {
		for _, name := range [][]relativeSET{{{{oid, v}}}, {{{oid, v}, {asn1.ObjectIdentifier{1, 2, 3}, v}}, {{oid, v}}}} {
			raw, err := asn1.Marshal(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Add([]byte{})
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 2, 0x31, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		cert := &x509.Certificate{RawSubject: raw}
		rdns, err := parse(cert)
		if err != nil {
			if _, err := Subject(cert); err == nil {
				t.Fatal("a subject that cannot be parsed")
			}
			return
		}
		text, err := Subject(cert)
		if err != nil {
			t.Fatal(err)
		}
		attributes := 0
		for _, rdn := range rdns {
			attributes += len(rdn)
		}
		if got := parts(text); got != attributes {
			t.Fatalf("%q has %d parts, the name %d", text, got, attributes)
		}
		for i := range len(text) {
			if text[i] < 0x20 || text[i] >= 0x7f {
				t.Fatalf("%q is not printable", text)
			}
		}
		name, err := CommonName(cert)
		if err == nil && (name == "" || strings.Contains(name, "\x00") || !utf8.ValidString(name)) {
			t.Fatalf("common name %q", name)
		}
	})
}

// parts counts the attributes in a subject: what unescaped commas and pluses part.
func parts(text string) int {
	if text == "" {
		return 0
	}
	n := 1
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case ',', '+':
			n++
		}
	}
	return n
}
