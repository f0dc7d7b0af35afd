package wsnet

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"testing"

	"github.com/gobwas/ws"
)

// upgradeRequest is what a client sends first.
const upgradeRequest = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
	"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Protocol: mqtt\r\n\r\n"

// frame is a masked, final frame.
func frame(op ws.OpCode, payload string) string { return fragment(op, true, payload) }

// fragment is a masked frame.
func fragment(op ws.OpCode, fin bool, payload string) string {
	var b bytes.Buffer
	f := ws.MaskFrameWith(ws.NewFrame(op, fin, []byte(payload)), [4]byte{0xA1, 0, 0x3E, 0x21})
	if err := ws.WriteFrame(&b, f); err != nil {
		panic(err)
	}
	return b.String()
}

// webSocketListener is a loopback listener for WebSocket.
func webSocketListener() ListenerConfig {
	cfg := loopback()
	cfg.WebSocket = true
	return cfg
}

// dialWebSocket dials a new listener and upgrades; reads give raw frames.
func dialWebSocket(t *testing.T, r *rig) net.Conn {
	t.Helper()
	nc := dial(t, listen(t, r.Server, webSocketListener()))
	mustWrite(t, nc, upgradeRequest)
	readAnswer(t, nc, http.StatusSwitchingProtocols)
	return nc
}

// readAnswer reads the head of an HTTP answer and not a byte more.
func readAnswer(t *testing.T, nc net.Conn, status int) *http.Response {
	t.Helper()
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		if _, err := nc.Read(b[:]); err != nil {
			t.Fatalf("%q and %v", head, err)
		}
		head = append(head, b[0])
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("answer %q and %v, want status %d", head, err, status)
	}
	return resp
}
