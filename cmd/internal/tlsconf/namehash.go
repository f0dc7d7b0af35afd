package tlsconf

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // OpenSSL names files by it; nothing is trusted for its sake
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
	"unicode/utf16"
)

// attribute is one part of a distinguished name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// Tags of strings that package asn1 has no name for.
const (
	tagVisible   = 26
	tagUniversal = 28
)

var errName = errors.New("not a distinguished name")

// nameHash is the hash of a name by which OpenSSL finds a certificate in a directory (X509_NAME_hash): of the
// name in a form that does not depend on the kind of strings, on case and on repeated blanks.
func nameHash(raw []byte) (uint32, error) {
	var name asn1.RawValue
	rest, err := asn1.Unmarshal(raw, &name)
	if err != nil || len(rest) != 0 || name.Tag != asn1.TagSequence || !name.IsCompound {
		return 0, errName
	}
	var canon []byte
	for in := name.Bytes; len(in) > 0; {
		var set asn1.RawValue
		if in, err = asn1.Unmarshal(in, &set); err != nil || set.Tag != asn1.TagSet || !set.IsCompound {
			return 0, errName
		}
		one, err := canonicalSet(set.Bytes)
		if err != nil {
			return 0, err
		}
		canon = append(canon, one...)
	}
	sum := sha1.Sum(canon) //nolint:gosec // as above
	return binary.LittleEndian.Uint32(sum[:4]), nil
}

// canonicalSet is one level of a name in that form.
func canonicalSet(in []byte) ([]byte, error) {
	var parts [][]byte
	for len(in) > 0 {
		var a attribute
		var err error
		if in, err = asn1.Unmarshal(in, &a); err != nil {
			return nil, errName
		}
		if text, ok := utf8Of(a.Value); ok {
			a.Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: folded(text)}
		}
		one, err := asn1.Marshal(a)
		if err != nil {
			return nil, err
		}
		parts = append(parts, one)
	}
	slices.SortFunc(parts, func(a, b []byte) int { // as DER sorts a set
		return bytes.Compare(a, b)
	})
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: bytes.Join(parts, nil)})
}

// utf8Of is a string in UTF-8; ok is false for what is left as it is.
func utf8Of(v asn1.RawValue) (text []byte, ok bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return nil, false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, tagVisible:
		return v.Bytes, true
	case asn1.TagT61String: // which OpenSSL takes for Latin-1
		for _, b := range v.Bytes {
			text = append(text, string(rune(b))...)
		}
	case asn1.TagBMPString:
		var units []uint16
		for b := v.Bytes; len(b) > 1; b = b[2:] {
			units = append(units, binary.BigEndian.Uint16(b))
		}
		text = []byte(string(utf16.Decode(units)))
	case tagUniversal:
		for b := v.Bytes; len(b) > 3; b = b[4:] {
			text = append(text, string(rune(binary.BigEndian.Uint32(b)))...)
		}
	default:
		return nil, false
	}
	return text, true
}

// folded is text without blanks around it, with one for several, in lower case as far as it is ASCII.
func folded(text []byte) []byte {
	const blanks = " \t\n\v\f\r"
	text = bytes.Trim(text, blanks)
	out := make([]byte, 0, len(text))
	for _, b := range text {
		blank := bytes.IndexByte([]byte(blanks), b) >= 0
		switch {
		case blank && out[len(out)-1] == ' ':
		case blank:
			out = append(out, ' ')
		case 'A' <= b && b <= 'Z':
			out = append(out, b+'a'-'A')
		default:
			out = append(out, b)
		}
	}
	return out
}
