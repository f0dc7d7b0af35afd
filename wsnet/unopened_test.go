package wsnet

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	mqttConnect = "\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
	tlsStart    = "\x16\x03\x01\x00\xF0\x01\x00"
)

// TestUnopened: whatever a connection lacks to be opened, OnRefuse hears of it once, with what it was.
func TestUnopened(t *testing.T) {
	server, client := certificate(t)
	const reset = "reset" // the client's end, at once
	tests := []struct {
		name  string
		sent  string
		set   func(*ListenerConfig)
		end   string // reset, or what of the answer comes before the server's end
		cause RefusalCause
		err   string
	}{
		{"TLS, nothing", "", withTLS(server), "", CauseTimeout, "nothing was sent"},
		{"TLS, half", tlsStart, withTLS(server), "", CauseTimeout, "the TLS handshake was not complete"},
		{"TLS, closed", "", withTLS(server), reset, CauseClosed, "nothing was sent"},
		{"TLS, half and closed", tlsStart, withTLS(server), reset, CauseClosed, "the TLS handshake was not complete"},
		{"TLS, MQTT", mqttConnect, withTLS(server), "", CauseTLS, "MQTT without TLS on a TLS listener"},
		{"TLS, HTTP", "GET / HTTP/1.1\r\n\r\n", withTLS(server), "", CauseTLS, "HTTP without TLS on a TLS listener"},
		{"TLS, garbage", "garbage", withTLS(server), "", CauseTLS, "tls: first record does not look like a TLS handshake"},
		{"WebSocket, nothing", "", withWebSocket, "", CauseTimeout, "nothing was sent"},
		{"WebSocket, half", "GET / HT", withWebSocket, "", CauseTimeout, "the HTTP request was not complete"},
		{"WebSocket, closed", "", withWebSocket, reset, CauseClosed, "nothing was sent"},
		{"WebSocket, half and closed", "GET / HT", withWebSocket, reset, CauseClosed, "the HTTP request was not complete"},
		{"WebSocket, MQTT", mqttConnect, withWebSocket, "", CauseUpgrade, "MQTT on a WebSocket listener: use the mqtt port or protocol mqtt"},
		{"WebSocket, a byte of MQTT", "\x10", withWebSocket, "", CauseUpgrade, "MQTT on a WebSocket listener: use the mqtt port or protocol mqtt"},
		{"WebSocket, TLS", tlsStart, withWebSocket, "", CauseUpgrade, "TLS on a listener without TLS"},
		{"WebSocket, garbage", "\x00garbage", withWebSocket, "", CauseUpgrade, "no HTTP on a WebSocket listener"},
		{"WebSocket, text", "text\r\n\r\n", withWebSocket, "HTTP/1.1 400 ", CauseUpgrade, ""},
		{"PROXY, nothing", "", withProxy, "", CauseTimeout, "nothing was sent"},
		{"PROXY, half", "PROXY T", withProxy, "", CauseTimeout, "the PROXY header was not complete"},
		{"PROXY, half and closed", "PROXY T", withProxy, reset, CauseClosed, "the PROXY header was not complete"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{HandshakeTimeout: time.Minute, FirstByteTimeout: time.Minute}
			shakes := strings.HasPrefix(tt.name, "TLS") // and has a deadline of its own
			if tt.cause == CauseTimeout && shakes {
				cfg = Config{HandshakeTimeout: 50 * time.Millisecond, FirstByteTimeout: 50 * time.Millisecond}
			}
			over(t, cfg, script{}, func(t *testing.T, r *rig) {
				heard := make(chan Refusal, 8)
				lc := loopback()
				tt.set(&lc)
				lc.OnRefuse = func(f Refusal) { heard <- f }
				ln := open(t, r.Server, lc)
				nc := dial(t, ln.Addr())
				mustWrite(t, nc, tt.sent)
				r.until(t, "what was sent", func() bool {
					return ln.Stats().Accepted == 1 && (shakes || r.Stats().BytesIn == int64(len(tt.sent)))
				})
				if tt.cause == CauseTimeout && !shakes {
					r.later(t)
				}
				if tt.end == reset {
					_ = nc.Close()
				} else if got, _ := io.ReadAll(nc); !bytes.HasPrefix(got, []byte(tt.end)) || tt.end == "" && len(got) > 0 {
					t.Errorf("answer %q, want %q", got, tt.end)
				}
				f := get(t, heard)
				if f.Cause != tt.cause || f.Err == nil || tt.err != "" && f.Err.Error() != tt.err ||
					f.Addr != nc.LocalAddr().(*net.TCPAddr).AddrPort() || f.Listener != ln {
					t.Errorf("%+v", f)
				}
				_ = nc.Close()
				r.until(t, "its end", func() bool { return ln.Open() == 0 })
				if st := ln.Stats(); (tt.cause < RefusalCauses) != (st.Refused != [RefusalCauses]int64{}) {
					t.Errorf("%v", st.Refused)
				}
				if len(heard) > 0 {
					t.Errorf("heard again: %+v", <-heard)
				}
				if r.openings.Load() != 0 {
					t.Error("it was opened")
				}
			})
		})
	}
	t.Run("inside TLS", func(t *testing.T) {
		over(t, Config{}, script{}, func(t *testing.T, r *rig) {
			heard := make(chan Refusal, 8)
			lc := loopback()
			withTLS(server)(&lc)
			withWebSocket(&lc)
			lc.OnRefuse = func(f Refusal) { heard <- f }
			ln := open(t, r.Server, lc)
			nc := tls.Client(dial(t, ln.Addr()), client)
			mustWrite(t, nc, mqttConnect)
			if f := get(t, heard); f.Cause != CauseUpgrade || f.Err != errMQTT {
				t.Errorf("%+v", f)
			}
			nc = tls.Client(dial(t, ln.Addr()), client)
			mustWrite(t, nc, "GET ")
			_ = nc.Close()
			if f := get(t, heard); f.Cause != CauseClosed || f.Err != errNoHTTP {
				t.Errorf("%+v", f)
			}
		})
	})
}

// TestOpenedIsNotUnopened: OnRefuse hears nothing of connections that were opened, nor at the server's end.
func TestOpenedIsNotUnopened(t *testing.T) {
	over(t, Config{Loops: 2}, script{}, func(t *testing.T, r *rig) {
		heard := make(chan Refusal, 8)
		lc := loopback()
		lc.OnRefuse = func(f Refusal) { heard <- f }
		first := dial(t, listen(t, r.Server, lc))
		r.conn(t, first)
		_ = first.Close()
		r.ending(t, first)
		lc.WebSocket = true
		dial(t, listen(t, r.Server, lc))
		r.until(t, "accepted", func() bool { return r.Stats().Accepted == 2 })
		r.stopped(t)
		if len(heard) > 0 {
			t.Errorf("%+v", <-heard)
		}
	})
}

// TestUnopenedUnix has the peer of a unix socket, who has no address.
func TestUnopenedUnix(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		heard := make(chan Refusal, 8)
		lc := ListenerConfig{Network: "unix", Address: filepath.Join(t.TempDir(), "s"), WebSocket: true}
		lc.OnRefuse = func(f Refusal) { heard <- f }
		nc := dial(t, listen(t, r.Server, lc))
		mustWrite(t, nc, mqttConnect)
		if f := get(t, heard); f.Cause != CauseUpgrade || f.Addr.IsValid() {
			t.Errorf("%+v", f)
		}
		_ = os.Remove(lc.Address)
	})
}

func withTLS(cfg *tls.Config) func(*ListenerConfig) { return func(lc *ListenerConfig) { lc.TLS = cfg } }
func withWebSocket(lc *ListenerConfig)              { lc.WebSocket = true }
func withProxy(lc *ListenerConfig)                  { lc.ProxyProtocol = 1 }
