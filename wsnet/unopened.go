package wsnet

import (
	"bytes"
	"crypto/tls"
	"errors"
)

// A connection that ends before Opened has been told to nobody: OnRefuse hears of it, with what was wrong or
// what had not come.

// What had not come when a connection ended.
var (
	errNothing = errors.New("nothing was sent")
	errNoProxy = errors.New("the PROXY header was not complete")
	errNoTLS   = errors.New("the TLS handshake was not complete")
	errNoHTTP  = errors.New("the HTTP request was not complete")
)

// What comes to a listener that speaks something else.
var (
	errMQTT     = errors.New("MQTT on a WebSocket listener: use the mqtt port or protocol mqtt")
	errTLS      = errors.New("TLS on a listener without TLS")
	errAlien    = errors.New("no HTTP on a WebSocket listener")
	errMQTTBare = errors.New("MQTT without TLS on a TLS listener")
	errHTTPBare = errors.New("HTTP without TLS on a TLS listener")
)

// First bytes of protocols.
const (
	connectByte = 0x10 // MQTT
	recordByte  = 0x16 // TLS
)

// unopened tells of a connection that ends before it was opened, unless that has been told or the server
// ends.
func (c *Conn) unopened() {
	switch reason := c.reason(); {
	case errors.Is(reason, ErrRefused), errors.Is(reason, ErrServerClosed):
	case errors.Is(reason, errHandshake):
		c.tell(Refusal{Cause: CauseTimeout, Err: c.missing()})
	default:
		c.tell(Refusal{Cause: CauseClosed, Err: c.missing()})
	}
}

// missing is what a connection that was not opened has not sent.
func (c *Conn) missing() error {
	x := c.extra
	switch {
	case x == nil, x.knocking && !x.asked, !x.knocking && len(x.raw) == 0:
		return errNothing
	case x.knocking:
		return errNoTLS
	case x.proxying:
		return errNoProxy
	}
	return errNoHTTP
}

// alien is what is wrong with the first byte of an HTTP request, which is that of a method or, before it, of
// an empty line (RFC 9112, 2.2 and 3.1).
func alien(first byte) error {
	switch {
	case first == connectByte:
		return errMQTT
	case first == recordByte:
		return errTLS
	case first == '\r', first == '\n', first > ' ' && first < 0x7F:
		return nil
	}
	return errAlien
}

// foreign is an error of a TLS handshake, or what the client speaks instead of TLS.
func foreign(err error) error {
	var h tls.RecordHeaderError
	if !errors.As(err, &h) || h.Conn == nil {
		return err
	}
	if h.RecordHeader[0] == connectByte {
		return errMQTTBare
	}
	for _, method := range []string{
		"GET ", "HEAD ", "POST ", "PUT ", "OPTIO", "DELET", "CONNE", "PATCH", "TRACE",
	} {
		if bytes.HasPrefix(h.RecordHeader[:], []byte(method)) {
			return errHTTPBare
		}
	}
	return err
}
