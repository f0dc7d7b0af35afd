package wsnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// echo answers all bytes; a leading '>' moves the connection to the next loop first, a leading '!' closes it.
type echo struct {
	l              *Loop
	opened, closed *atomic.Int64
}

func (e *echo) Opened(*Conn) { e.opened.Add(1) }

func (e *echo) Data(c *Conn, b []byte) (used, need int) {
	switch b[0] {
	case '>':
		loops := e.l.Server().Loops()
		c.Move(loops[(e.l.Index()+1)%len(loops)], TaskFunc(func(*Loop) {}))
		return 1, 0
	case '!':
		c.Write([]byte("bye"))
		c.Close(io.EOF)
		return len(b), 0
	}
	c.Write(b)
	return len(b), 0
}

func (e *echo) Closed(*Conn, error) { e.closed.Add(1) }

// suite runs a test over both pollers.
func suite(t *testing.T, f func(t *testing.T, s *Server, opened, closed *atomic.Int64)) {
	for name, portable := range map[string]bool{"native": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			var opened, closed atomic.Int64
			s, err := New(Config{
				Loops: 3, Portable: portable, Log: slog.New(slog.DiscardHandler),
				NewHandler: func(l *Loop) Handler { return &echo{l, &opened, &closed} },
			})
			if err != nil {
				t.Fatal(err)
			}
			f(t, s, &opened, &closed)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			if opened.Load() != closed.Load() {
				t.Errorf("%d opened, %d closed", opened.Load(), closed.Load())
			}
		})
	}
}

func listen(t *testing.T, s *Server, cfg ListenerConfig) net.Addr {
	t.Helper()
	if cfg.Network == "" {
		cfg.Network, cfg.Address = "tcp4", "127.0.0.1:0"
	}
	ln, err := s.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr()
}

func dial(t *testing.T, a net.Addr) net.Conn {
	t.Helper()
	nc, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// stream sends n random bytes and reads them back, with moves between loops now and then.
func stream(t *testing.T, w io.Writer, r io.Reader, n int) {
	t.Helper()
	sent := make([]byte, n)
	_, _ = rand.Read(sent)
	for i := range sent {
		if sent[i] == '>' || sent[i] == '!' {
			sent[i] = '.'
		}
	}
	go func() { // ends with the connection
		for b := sent; len(b) > 0; {
			k := min(len(b), 100000)
			if _, err := w.Write(b[:k]); err != nil {
				return
			}
			b = b[k:]
		}
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes: %v", n, err)
	}
}

func TestEchoMoveAndClose(t *testing.T) {
	suite(t, func(t *testing.T, s *Server, _, _ *atomic.Int64) {
		for _, cfg := range []ListenerConfig{
			{NoDelay: true},
			{Network: "unix", Address: filepath.Join(t.TempDir(), "s")},
		} {
			nc := dial(t, listen(t, s, cfg))
			for range 4 {
				if _, err := nc.Write([]byte(">a")); err != nil {
					t.Fatal(err)
				}
				var b [1]byte
				if _, err := io.ReadFull(nc, b[:]); err != nil || b[0] != 'a' {
					t.Fatalf("%q %v", b, err)
				}
			}
			stream(t, nc, nc, 4<<20)
			if _, err := nc.Write([]byte("!")); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(nc); err != nil || string(rest) != "bye" {
				t.Errorf("last words %q %v", rest, err)
			}
		}
	})
}

func TestWebSocketEcho(t *testing.T) {
	suite(t, func(t *testing.T, s *Server, _, _ *atomic.Int64) {
		a := listen(t, s, ListenerConfig{Network: "tcp4", Address: "127.0.0.1:0", WebSocket: true})
		d := ws.Dialer{Protocols: []string{"other", "mqtt"}}
		nc, _, hs, err := d.Dial(t.Context(), "ws://"+a.String()+"/mqtt")
		if err != nil || hs.Protocol != "mqtt" {
			t.Fatalf("%+v %v", hs, err)
		}
		defer nc.Close()
		if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		out := wsutil.NewWriter(nc, ws.StateClientSide, ws.OpBinary)
		stream(t, flusher{out}, &frames{nc: nc}, 1<<20)
	})
}

// flusher makes each write a message.
type flusher struct{ *wsutil.Writer }

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.Writer.Write(b)
	return n, errors.Join(err, f.Flush())
}

// frames reads the payloads of server frames as one stream.
type frames struct {
	nc   net.Conn
	rest []byte
}

func (f *frames) Read(b []byte) (int, error) {
	if len(f.rest) == 0 {
		p, err := wsutil.ReadServerBinary(f.nc)
		if err != nil {
			return 0, err
		}
		f.rest = p
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func TestMaxConnections(t *testing.T) {
	suite(t, func(t *testing.T, s *Server, _, _ *atomic.Int64) {
		a := listen(t, s, ListenerConfig{Network: "tcp4", Address: "127.0.0.1:0", MaxConnections: 1})
		first := dial(t, a)
		stream(t, first, first, 10)
		second := dial(t, a)
		if _, err := second.Read(make([]byte, 1)); err == nil {
			t.Error("the second connection is served")
		}
	})
}

func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 144 {
		t.Errorf("a connection takes %d bytes", n)
	}
}
