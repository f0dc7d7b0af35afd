// Package proxyproto reads the header with which a proxy tells the address of its client: version 1 (a line
// of text) and version 2 (binary, with what the proxy knows of the client's TLS). It works on byte slices, so
// that a header may come in pieces, and is strict: what is not exactly a header is an error.
package proxyproto

import (
	"errors"
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"
)

// Header is what a proxy tells.
type Header struct {
	// Source is the client's address. It is not valid where the proxy speaks for itself or does not know,
	// and for unix sockets: the address of the connection counts then.
	Source netip.AddrPort
	// Path is that of the client's unix socket, which may be empty.
	Path string
	// Unix says that the client came through a unix socket.
	Unix bool
	// Local says that the proxy speaks for itself, as in checks of health. Version 2 only.
	Local bool
	// TLS describes the client's connection to the proxy; nil if that is plain. Version 2 only.
	TLS *TLS
}

// TLS is what a proxy knows of its client's TLS. Version and Cipher are printable ASCII, in OpenSSL's words;
// they are empty if the proxy does not tell.
type TLS struct {
	Version, Cipher string
	// Certificate says that the client has presented a certificate, which the proxy has verified.
	Certificate bool
	// CommonName is of that certificate: UTF-8 without control characters.
	CommonName string
}

// MaxSize is the size of the largest header, in bytes.
const MaxSize = max2

// ErrHeader is wrapped by all errors of this package.
var ErrHeader = errors.New("proxyproto: bad PROXY header")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrHeader, fmt.Sprintf(format, args...))
}

// Parse reads a header of version 1 or 2 at the start of b and returns its size. A size of 0 without an
// error says that b is the beginning of a header, of which there must be more.
func Parse(b []byte, version int) (h Header, size int, err error) {
	if version == 1 {
		return parse1(b)
	}
	return parse2(b)
}

// printable reports whether s can be shown to people: UTF-8 without control characters.
func printable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
