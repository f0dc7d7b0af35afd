package broker

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// persona is what takes the place of what CONNECT says.
type persona struct {
	clientID   []byte // nil: CONNECT's
	username   []byte // nil: CONNECT's
	identified bool   // a certificate vouches for the username
}

// dress puts it into a CONNECT.
func (a *persona) dress(p *codec.Connect) {
	if a == nil {
		return
	}
	if a.clientID != nil {
		p.ClientID = a.clientID
	}
	if a.username != nil {
		p.Username, p.HasUsername = a.username, true
	}
}

// identify works out who a client is on listeners where not CONNECT alone says it. The result is nil where it
// does.
func identify(c *wsnet.Conn, l *ListenerOptions, p *codec.Connect) (*persona, codec.Reason) {
	if !l.UseIdentityAsUsername && !l.UseSubjectAsUsername && !l.UseUsernameAsClientID {
		return nil, codec.Success
	}
	as := &persona{}
	if l.Net.TLS != nil && (l.UseIdentityAsUsername || l.UseSubjectAsUsername) {
		name := certificateName(c, l.UseSubjectAsUsername)
		if name == "" {
			return nil, codec.BadUserNameOrPassword
		}
		as.username, as.identified = []byte(name), true
		as.dress(p)
	}
	if l.UseUsernameAsClientID {
		if len(p.Username) == 0 {
			return nil, codec.NotAuthorized
		}
		as.clientID = bytes.Clone(p.Username)
		as.dress(p)
	}
	return as, codec.Success
}

// certificateName is the common name, or the subject, of the client's certificate; empty without.
func certificateName(c *wsnet.Conn, subject bool) string {
	st := c.TLS()
	if st == nil || len(st.PeerCertificates) == 0 {
		return ""
	}
	name := commonName(st.PeerCertificates[0])
	if subject {
		name = subjectName(st.PeerCertificates[0].RawSubject)
	}
	if !codec.ValidUTF8([]byte(name)) || len(name) > 65535 {
		return "" // a username must be a valid string
	}
	return name
}

// commonName is the first of the certificate, where Mosquitto looks; Go's Subject has the last.
func commonName(cert *x509.Certificate) string {
	for _, n := range cert.Subject.Names {
		if n.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
			s, _ := n.Value.(string)
			return s
		}
	}
	return ""
}

// subjectName is a distinguished name by RFC 2253, with OpenSSL's short names of attributes: what Mosquitto
// makes the username.
func subjectName(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return ""
	}
	var b strings.Builder
	for i, set := range slices.Backward(rdns) {
		for j, a := range slices.Backward(set) {
			switch {
			case j < len(set)-1:
				b.WriteByte('+')
			case i < len(rdns)-1:
				b.WriteByte(',')
			}
			writeAttribute(&b, &a)
		}
	}
	return b.String()
}

// writeAttribute writes one attribute; those without a name, and values that are no text, in hexadecimal DER.
func writeAttribute(b *strings.Builder, a *pkix.AttributeTypeAndValue) {
	name := attributeName(a.Type.String())
	value, ok := a.Value.(string)
	if name != "" && ok {
		b.WriteString(name + "=")
		escape(b, value)
		return
	}
	if name == "" {
		name = a.Type.String()
	}
	der, err := asn1.Marshal(a.Value)
	if err != nil {
		der = nil
	}
	b.WriteString(name + "=#" + strings.ToUpper(hex.EncodeToString(der)))
}

// attributeName is OpenSSL's short name.
func attributeName(oid string) string {
	return map[string]string{
		"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L",
		"2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title",
		"2.5.4.13": "description", "2.5.4.17": "postalCode", "2.5.4.41": "name", "2.5.4.42": "GN",
		"2.5.4.43": "initials", "2.5.4.44": "generationQualifier", "2.5.4.46": "dnQualifier",
		"2.5.4.65": "pseudonym", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
		"1.2.840.113549.1.9.1": "emailAddress",
	}[oid]
}

// escape writes a value with the backslashes of RFC 2253; what is not printable ASCII is \XX, byte by byte.
func escape(b *strings.Builder, value string) {
	for i := range len(value) {
		c := value[i]
		switch {
		case c < 0x20 || c >= 0x7F:
			fmt.Fprintf(b, "\\%02X", c)
		case strings.IndexByte(`,+"\<>;`, c) >= 0, i == 0 && (c == '#' || c == ' '),
			i == len(value)-1 && c == ' ':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}

// loginOf is what a CONNECT presents. It aliases the packet's password.
func loginOf(c *wsnet.Conn, p *codec.Connect, id []byte, as *persona) auth.Login {
	return auth.Login{
		ClientID: string(id), Username: string(p.Username), HasUsername: p.HasUsername,
		Password: p.Password, HasPassword: p.HasPassword,
		Identified: as != nil && as.identified, Address: c.RemoteAddr().Addr(),
	}
}
