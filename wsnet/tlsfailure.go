package wsnet

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// TLSFailure is why a TLS handshake came to nothing.
type TLSFailure uint8

// Failures of TLS handshakes.
const (
	TLSTimeout           TLSFailure = iota // it took too long, or the client kept silent
	TLSClientCertificate                   // the client's is missing or not accepted
	TLSServerCertificate                   // the client does not accept ours
	TLSProtocol                            // no TLS, or no version or cipher in common
	TLSClosed                              // the client went away amidst it
	TLSFailures                            // number of kinds
)

// String is the failure in one word, for metrics.
func (f TLSFailure) String() string {
	return [...]string{"timeout", "client_certificate", "server_certificate", "protocol", "closed"}[f]
}

// errSilent is the end of a client that has not sent a byte: whoever looks whether a port is open does that.
var errSilent = errors.New("wsnet: closed before the handshake")

// tlsFailure is the kind of a handshake's error that is neither a timeout nor the client's end.
func tlsFailure(err error) TLSFailure {
	var (
		op       *net.OpError
		verified *tls.CertificateVerificationError
		chosen   alerter
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // an alert, whose type crypto/tls keeps to itself
		if text := op.Err.Error(); strings.Contains(text, "certificate") {
			return TLSServerCertificate
		}
		return TLSProtocol
	case errors.As(err, &verified), errors.As(err, &chosen),
		errors.As(err, &unknown), errors.As(err, &invalid),
		strings.Contains(err.Error(), "didn't provide a certificate"):
		return TLSClientCertificate
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, io.ErrUnexpectedEOF):
		return TLSClosed
	}
	return TLSProtocol
}
