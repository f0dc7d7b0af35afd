package broker_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// lines is a log handler that keeps the messages.
type lines struct {
	slog.Handler
	mu   sync.Mutex
	text []string
}

// Enabled implements slog.Handler.
func (*lines) Enabled(_ context.Context, l slog.Level) bool { return l > broker.LevelDebug }

// Handle implements slog.Handler.
func (h *lines) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, r.Message)
	return nil
}

func (h *lines) has(part string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(strings.Join(h.text, "\n"), part)
}

func TestLogOfRefusals(t *testing.T) {
	for _, messages := range []bool{true, false} {
		h := &lines{}
		_, addr := brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
			o.Log, o.ConnectionMessages = slog.New(h), messages
			l.AllowAnonymous = false
		})
		hello := brokertest.Dial(t, addr, codec.V311)
		hello.Raw([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01})
		hello.WantClosed()
		if h.has(" appears to be using TLS to connect to a non-TLS listener.") != messages {
			t.Errorf("messages %v: TLS on a plain listener: %q", messages, h.text)
		}
		web := brokertest.Dial(t, addr, codec.V311)
		web.Raw([]byte("GET /mqtt HTTP/1.1\r\n\r\n"))
		web.WantClosed()
		if h.has(": First packet not CONNECT (71). It is HTTP: WebSocket needs a listener with protocol websockets.") != messages {
			t.Errorf("messages %v: HTTP on an MQTT listener: %q", messages, h.text)
		}
		c := brokertest.Dial(t, addr, codec.V311)
		c.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("nobody")})
		var ack codec.Connack
		c.Want(codec.CONNACK, &ack)
		c.WantClosed()
		if got := h.has("disconnected: not authorised."); got != messages {
			t.Errorf("messages %v: refusal logged: %v", messages, got)
		}
	}
}

// TestLogOfTurnedAway has no client id to name.
func TestLogOfTurnedAway(t *testing.T) {
	h := &lines{}
	_, addr := brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		brokertest.Loopback(&l.Net)
		o.Log, o.GlobalMaxClients = slog.New(h), 1
	})
	brokertest.Connect(t, addr, "first", codec.V311, nil)
	for _, id := range []string{"second", ""} {
		c := brokertest.Dial(t, addr, codec.V311)
		c.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte(id)})
		c.WantClosed()
		if id == "" {
			id = "127.0.0.1"
		}
		if !h.has("Client "+id+" [127.0.0.1:") || !h.has("disconnected: server busy.") {
			t.Errorf("%q: %q", id, h.text)
		}
	}
}
