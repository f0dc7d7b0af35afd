// Package certname makes usernames of the subject of a client certificate, as OpenSSL prints it.
package certname

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// attribute is one type and value of a name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// relativeSET is a relative distinguished name; encoding/asn1 knows a SET by the end of its type's name.
type relativeSET []attribute

// parse takes a certificate's subject apart.
func parse(cert *x509.Certificate) ([]relativeSET, error) {
	var rdns []relativeSET
	if rest, err := asn1.Unmarshal(cert.RawSubject, &rdns); err != nil || len(rest) > 0 {
		return nil, errors.Join(errors.New("certname: bad subject"), err)
	}
	return rdns, nil
}

// CommonName is the first common name of a certificate's subject. It must be UTF-8 and not empty, and have no
// NUL, behind which one program would read another name than the next.
func CommonName(cert *x509.Certificate) (string, error) {
	rdns, err := parse(cert)
	if err != nil {
		return "", err
	}
	for _, a := range slices.Concat(rdns...) {
		if a.Type.String() != oidCommonName {
			continue
		}
		name := string(a.Value.Bytes)
		if name == "" || strings.Contains(name, "\x00") || !utf8.ValidString(name) {
			return "", errors.New("certname: bad common name")
		}
		return name, nil
	}
	return "", errors.New("certname: no common name")
}

// Subject is a certificate's whole subject in the form of RFC 2253: the last part first, short names of
// OpenSSL's and, of other attributes, numbers with the value in hexadecimal.
func Subject(cert *x509.Certificate) (string, error) {
	rdns, err := parse(cert)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, rdn := range slices.Backward(rdns) {
		for i, a := range slices.Backward(rdn) {
			switch {
			case b.Len() == 0:
			case i == len(rdn)-1:
				b.WriteByte(',')
			default:
				b.WriteByte('+')
			}
			writeAttribute(&b, a)
		}
	}
	return b.String(), nil
}

func writeAttribute(b *strings.Builder, a attribute) {
	name, known := shortName(a.Type.String())
	b.WriteString(name + "=")
	text, ok := a.text()
	if !known || !ok {
		b.WriteString("#" + strings.ToUpper(hex.EncodeToString(a.Value.FullBytes)))
		return
	}
	writeEscaped(b, text)
}

// text is the value as UTF-8; ok is false if it is no string.
func (a *attribute) text() (s string, ok bool) {
	raw := a.Value.Bytes
	if a.Value.Class != asn1.ClassUniversal {
		return "", false
	}
	switch a.Value.Tag {
	case asn1.TagUTF8String:
		return string(raw), utf8.Valid(raw)
	case asn1.TagNumericString, asn1.TagPrintableString, asn1.TagT61String, asn1.TagIA5String,
		asn1.TagUTCTime, asn1.TagGeneralizedTime, 26: // VisibleString
		runes := make([]rune, len(raw)) // a byte is a character
		for i, c := range raw {
			runes[i] = rune(c)
		}
		return string(runes), true
	case asn1.TagBMPString:
		if len(raw)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// writeEscaped writes a value as RFC 2253, 2.4, wants it, and bytes that are not printable ASCII in
// hexadecimal.
func writeEscaped(b *strings.Builder, s string) {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c >= 0x7F:
			fmt.Fprintf(b, "\\%02X", c)
		case strings.IndexByte(`,+"\<>;`, c) >= 0,
			i == 0 && (c == ' ' || c == '#'), i == len(s)-1 && c == ' ':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}

const oidCommonName = "2.5.4.3"

// shortName is OpenSSL's name of an attribute, or its number.
func shortName(oid string) (name string, known bool) {
	switch oid {
	case oidCommonName:
		return "CN", true
	case "2.5.4.4":
		return "SN", true
	case "2.5.4.5":
		return "serialNumber", true
	case "2.5.4.6":
		return "C", true
	case "2.5.4.7":
		return "L", true
	case "2.5.4.8":
		return "ST", true
	case "2.5.4.9":
		return "street", true
	case "2.5.4.10":
		return "O", true
	case "2.5.4.11":
		return "OU", true
	}
	return rareName(oid)
}

func rareName(oid string) (name string, known bool) { //nolint:cyclop // a table
	switch oid {
	case "2.5.4.12":
		return "title", true
	case "2.5.4.13":
		return "description", true
	case "2.5.4.15":
		return "businessCategory", true
	case "2.5.4.17":
		return "postalCode", true
	case "2.5.4.20":
		return "telephoneNumber", true
	case "2.5.4.41":
		return "name", true
	case "2.5.4.42":
		return "GN", true
	case "2.5.4.43":
		return "initials", true
	case "2.5.4.44":
		return "generationQualifier", true
	case "2.5.4.45":
		return "x500UniqueIdentifier", true
	case "2.5.4.46":
		return "dnQualifier", true
	case "2.5.4.65":
		return "pseudonym", true
	case "2.5.4.97":
		return "organizationIdentifier", true
	case "1.2.840.113549.1.9.1":
		return "emailAddress", true
	case "1.2.840.113549.1.9.2":
		return "unstructuredName", true
	case "0.9.2342.19200300.100.1.1":
		return "UID", true
	case "0.9.2342.19200300.100.1.25":
		return "DC", true
	}
	place, found := strings.CutPrefix(oid, "1.3.6.1.4.1.311.60.2.1.") // where a company is registered
	if found && len(place) == 1 && place[0] >= '1' && place[0] <= '3' {
		return "jurisdiction" + []string{"L", "ST", "C"}[place[0]-'1'], true
	}
	return oid, false
}
