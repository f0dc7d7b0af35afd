// Package wsproto is the server's half of the WebSocket protocol (RFC 6455) on byte slices: the upgrade of
// a connection and the frames of its client. It does no I/O and keeps no buffers; request parsing, answers
// and masking are gobwas/ws's.
package wsproto

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gobwas/ws"
)

// Rules say which upgrade requests a listener accepts. Read-only while in use.
type Rules struct {
	Subprotocols []string // at least one must be offered; the client's first that is known wins
	Origins      []string // exact values of the Origin header; empty means any
	MaxHeader    int      // bytes of a request, its final empty line included
}

// OriginError says that an Origin is not among those accepted.
type OriginError struct {
	Origin string // as it was sent, "" for none
}

// Error implements error.
func (*OriginError) Error() string { return "wsproto: origin is not allowed" }

// Upgrade reads the upgrade request at the start of b. While it is incomplete resp is nil and used 0. When
// err is nil resp is the 101 answer; otherwise it is a complete HTTP refusal, after which the connection is
// to be closed.
func (r *Rules) Upgrade(b []byte) (resp []byte, used int, subprotocol string, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= r.MaxHeader {
			return refusal(http.StatusRequestHeaderFieldsTooLarge, "request header is too large")
		}
		return nil, 0, "", nil
	}
	used = end + 4
	if used > r.MaxHeader {
		return refusal(http.StatusRequestHeaderFieldsTooLarge, "request header is too large")
	}
	h, err := r.readHead(b[:used])
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error())
	}
	rw := &exchange{in: bytes.NewReader(h.raw)}
	refused := false
	u := ws.Upgrader{
		ReadBufferSize: len(h.raw) + 16,
		Protocol:       func([]byte) bool { return true }, // there is one, which is known
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if len(r.Origins) > 0 && !r.allows(h.origin) {
				refused = true
				return nil, errOrigin
			}
			return nil, nil
		},
	}
	_, err = u.Upgrade(rw)
	if refused {
		resp, used, _, _ = refusal(http.StatusForbidden, "origin is not allowed")
		return resp, used, "", &OriginError{h.origin}
	}
	if err != nil {
		status := http.StatusBadRequest
		if e := new(ws.ConnectionRejectedError); errors.As(err, &e) {
			status = e.StatusCode()
		}
		return refusal(status, err.Error())
	}
	if h.protocol == "" {
		return refusal(http.StatusBadRequest, "Sec-WebSocket-Protocol offers nothing known")
	}
	return rw.out.Bytes(), used, h.protocol, nil
}

func (r *Rules) knows(p string) bool {
	return slices.Contains(r.Subprotocols, p)
}

func (r *Rules) allows(origin string) bool {
	return slices.Contains(r.Origins, origin)
}

var errOrigin = errors.New("origin is not allowed") // ends the upgrade, Upgrade says more

// exchange is the request and the answer as gobwas/ws wants them.
type exchange struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (e *exchange) Read(p []byte) (int, error)  { return e.in.Read(p) }
func (e *exchange) Write(p []byte) (int, error) { return e.out.Write(p) }

// refusal is a complete answer that says no.
func refusal(status int, text string) (resp []byte, used int, subprotocol string, err error) {
	header := ""
	switch status {
	case http.StatusUpgradeRequired: // RFC 6455, 4.2.2, and RFC 9110, 15.5.22
		header = "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	case http.StatusMethodNotAllowed:
		header = "Allow: GET\r\n"
	}
	resp = fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, http.StatusText(status), header, len(text)+1, text)
	return resp, 0, "", errors.New("wsproto: " + text)
}
