package wsnet

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestRefusedRequests: a wrong request is answered and the connection is closed.
func TestRefusedRequests(t *testing.T) {
	without := func(line string) string { return strings.Replace(upgradeRequest, line+"\r\n", "", 1) }
	with := func(old, now string) string { return strings.Replace(upgradeRequest, old, now, 1) }
	header := func(n int) string { return with("Host:", "X: "+strings.Repeat("x", n)+"\r\nHost:") }
	tests := []struct {
		name, request string
		status        int
	}{
		{"not WebSocket", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		{"not HTTP", "not HTTP\r\n\r\n", 400},
		{"version 8", with("Version: 13", "Version: 8"), 426},
		{"no version", without("Sec-WebSocket-Version: 13"), 400},
		{"no key", without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400},
		{"no host", without("Host: localhost"), 400},
		{"connection", with("Connection: Upgrade", "Connection: close"), 400},
		{"method", with("GET", "POST"), 405},
		{"HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 505},
		{"no protocol", without("Sec-WebSocket-Protocol: mqtt"), 400},
		{"wrong protocol", with("Protocol: mqtt", "Protocol: MQTT, stomp"), 400},
		{"origin", with("Host:", "Origin: https://evil.example\r\nHost:"), 403},
		{"no origin", without("Origin: https://good.example"), 403},
		{"too long", header(1000), 431},
		{"without end", header(1000)[:1000], 431},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		cfg := webSocketListener()
		cfg.MaxHeader = 1000
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				cfg.Origins = nil
				if tt.status == http.StatusForbidden {
					cfg.Origins = []string{"https://good.example"}
				}
				nc := dial(t, listen(t, r.Server, cfg))
				mustWrite(t, nc, tt.request)
				resp := readAnswer(t, nc, tt.status)
				if body, err := io.ReadAll(resp.Body); err != nil || len(body) == 0 || !resp.Close {
					t.Errorf("header %v, body %q, %v", resp.Header, body, err)
				}
				if v := resp.Header.Get("Sec-WebSocket-Version"); (v == "13") != (tt.status == 426) {
					t.Errorf("the answer offers version %q", v)
				}
				mustEnd(t, nc, "")
			})
		}
		if n := r.openings.Load(); n != 0 {
			t.Errorf("%d connections were opened", n)
		}
	})
}

// TestSubprotocols: the first of the client's list that the listener knows, over all header lines.
func TestSubprotocols(t *testing.T) {
	tests := []struct{ offers, known, want string }{
		{"mqtt", "", "mqtt"},
		{"mqttv3.1", "", "mqttv3.1"},
		{"stomp, mqttv3.1,mqtt", "", "mqttv3.1"},
		{"stomp\r\nSec-WebSocket-Protocol: x,mqtt", "", "mqtt"},
		{"mqtt, a, b", "b a", "a"},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			cfg := webSocketListener()
			cfg.Subprotocols = strings.Fields(tt.known)
			nc := dial(t, listen(t, r.Server, cfg))
			mustWrite(t, nc, strings.Replace(upgradeRequest, "Protocol: mqtt", "Protocol: "+tt.offers, 1))
			got := readAnswer(t, nc, 101).Header.Values("Sec-WebSocket-Protocol")
			c := r.conn(t, nc)
			if len(got) != 1 || got[0] != tt.want || c.Subprotocol() != tt.want || !c.WebSocket() {
				t.Errorf("%q of %q: answer %q, connection says %q", tt.offers, tt.known, got, c.Subprotocol())
			}
		}
		plain := dialTCP(t, r)
		if c := r.conn(t, plain); c.Subprotocol() != "" || c.WebSocket() || c.TLS() != nil {
			t.Errorf("a plain connection speaks %q", c.Subprotocol())
		}
	})
}

// TestUpgradeInPieces sends the request a byte at a time, in one piece with frames behind it, and with the
// largest header that is allowed.
func TestUpgradeInPieces(t *testing.T) {
	over(t, Config{HandshakeTimeout: time.Hour}, script{data: hop}, func(t *testing.T, r *rig) {
		cfg := webSocketListener()
		cfg.Origins = []string{"https://a.example", "https://b.example"}
		cfg.MaxHeader = 300
		request := strings.Replace(upgradeRequest, "Host:", "Origin: https://b.example\r\nX: \r\nHost:", 1)
		request = strings.Replace(request, "X: ", "X: "+strings.Repeat("x", cfg.MaxHeader-len(request)), 1)

		nc := dial(t, listen(t, r.Server, cfg))
		before := r.Stats()
		for i := range len(request) {
			mustWrite(t, nc, request[i:i+1])
			r.served(t, before, i+1)
		}
		readAnswer(t, nc, 101)
		mustWrite(t, nc, frame(ws.OpBinary, "a"))
		mustRead(t, nc, "\x82\x01a")

		nc = dial(t, listen(t, r.Server, cfg))
		mustWrite(t, nc, request+frame(ws.OpBinary, "a>b")+frame(ws.OpPing, "p")+frame(ws.OpBinary, "c>d"))
		readAnswer(t, nc, 101)
		mustEcho(t, nc, "abcd", "p")
	})
}

func TestWebSocketOverTLS(t *testing.T) {
	server, client := certificate(t)
	over(t, Config{}, script{data: hop}, func(t *testing.T, r *rig) {
		cfg := webSocketListener()
		cfg.TLS = server
		nc := tls.Client(dial(t, listen(t, r.Server, cfg)), client)
		mustWrite(t, nc, upgradeRequest+frame(ws.OpBinary, "a>b")+frame(ws.OpPing, "p"))
		readAnswer(t, nc, 101)
		mustEcho(t, nc, "ab", "p")
		hopStream(t, "wss", &binaryConn{Conn: nc}, 256<<10)
		if c := r.conn(t, nc); c.TLS() == nil || !c.WebSocket() {
			t.Error("the connection does not know what it is")
		}
		mustWrite(t, nc, frame(ws.OpClose, "\x0F\xA0"))
		mustEnd(t, nc, closeFrame(4000))
	})
}
