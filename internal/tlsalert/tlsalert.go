// Package tlsalert changes the alert in a TLS record that is about to be sent. crypto/tls answers every
// certificate that a program's own check refuses with bad_certificate; the protocol has alerts that say what
// is wrong with it (RFC 8446, 6.2).
package tlsalert

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// Alerts about certificates, RFC 8446, 6.2.
const (
	BadCertificate     = 42
	CertificateRevoked = 44
	CertificateExpired = 45
	UnknownCA          = 48
)

const (
	headSize = 5
	typeData = 23 // application data, which all encrypted records of TLS 1.3 claim to be
	typeInfo = 21 // alert
	fatal    = 2
)

// Plain returns a copy of a whole record that is a fatal, unencrypted bad_certificate, with another alert in
// its place; ok is false for any other bytes.
func Plain(record []byte, alert uint8) (changed []byte, ok bool) {
	if len(record) != headSize+2 || record[0] != typeInfo ||
		record[5] != fatal || record[6] != BadCertificate {
		return nil, false
	}
	changed = append(changed, record...)
	changed[6] = alert
	return changed, true
}

// firstMax is how many records a server sends under its application traffic secret before the alert at most:
// the ticket for a session that is resumed.
const firstMax = 2

// Encrypted is Plain for TLS 1.3: secret is the server's application traffic secret, of which the record is
// one of the first. It takes the other's place on the wire, so no nonce is used for two messages.
func Encrypted(record []byte, suite uint16, secret []byte, alert uint8) (changed []byte, ok bool) {
	if len(record) < headSize || record[0] != typeData {
		return nil, false
	}
	aead, iv, err := protection(suite, secret)
	if err != nil || aead == nil {
		return nil, false
	}
	head, body := record[:headSize], record[headSize:]
	for range firstMax {
		text, err := aead.Open(nil, iv, body, head)
		if err != nil {
			iv[len(iv)-1] ^= 1 // the next sequence number: the nonce is the IV with it (RFC 8446, 5.3)
			continue
		}
		if len(text) < 3 || text[0] != fatal || text[1] != BadCertificate || text[2] != typeInfo {
			return nil, false
		}
		text[1] = alert
		return aead.Seal(append(changed, head...), iv, text, head), true
	}
	return nil, false
}

// protection makes key and IV from a traffic secret (RFC 8446, 7.3); a nil AEAD is for an unknown suite.
func protection(suite uint16, secret []byte) (cipher.AEAD, []byte, error) {
	var hf func() hash.Hash
	var size int
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
		hf, size = sha256.New, 16
	case tls.TLS_AES_256_GCM_SHA384:
		hf, size = sha512.New384, 32
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		hf, size = sha256.New, chacha20poly1305.KeySize
	default:
		return nil, nil, nil
	}
	if len(secret) != hf().Size() {
		return nil, nil, nil
	}
	key, err := hkdf.Expand(hf, secret, label("key", size), size)
	if err != nil {
		return nil, nil, err
	}
	iv, err := hkdf.Expand(hf, secret, label("iv", 12), 12)
	if err != nil {
		return nil, nil, err
	}
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		aead, err := chacha20poly1305.New(key)
		return aead, iv, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, iv, err
}

// label is the HkdfLabel of RFC 8446, 7.1, with an empty context.
func label(name string, size int) string {
	name = "tls13 " + name
	b := binary.BigEndian.AppendUint16(nil, uint16(size))
	b = append(append(b, byte(len(name))), name...)
	return string(append(b, 0))
}
