package traffic

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// origin is the page that a browser's script comes from.
const origin = "http://127.0.0.1:8080"

// channel is a WebSocket connection that sends one message in one frame in one write, as browsers do.
type channel struct {
	conn net.Conn
	in   io.ReadWriter
	op   ws.OpCode
}

// dialWebSocket opens a WebSocket with a browser's request.
func dialWebSocket(ctx context.Context, m *Meter, url, protocol string, op ws.OpCode) (*channel, error) {
	d := ws.Dialer{
		NetDial: m.Dial, Protocols: []string{protocol},
		Header: ws.HandshakeHeaderHTTP(http.Header{
			"Origin": {origin}, "User-Agent": {userAgent},
			"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"},
			"Accept-Encoding": {"gzip, deflate, br"}, "Accept-Language": {"en-US,en;q=0.9"},
		}),
	}
	conn, early, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("traffic: %s: %w", url, err)
	}
	c := &channel{conn: conn, in: conn, op: op}
	if early != nil { // the server was faster than the handshake's last read
		c.in = struct {
			io.Reader
			io.Writer
		}{early, conn}
	}
	return c, nil
}

// write sends b as one masked frame.
func (c *channel) write(b []byte) error {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewFrame(c.op, true, b)))
	if err == nil {
		_, err = c.conn.Write(frame)
	}
	if err != nil {
		return fmt.Errorf("traffic: %w", err)
	}
	return nil
}

// read returns the next message.
func (c *channel) read() ([]byte, error) {
	b, _, err := wsutil.ReadServerData(c.in)
	if err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	return b, nil
}

// Close closes the connection without WebSocket's farewell.
func (c *channel) Close() error { return c.conn.Close() }

// frames makes a stream of a WebSocket: a write is a frame, frames read are joined.
type frames struct {
	*channel
	rest []byte
}

// Write sends b in a frame of its own.
func (f *frames) Write(b []byte) (int, error) { return len(b), f.write(b) }

// Read reads from the current frame.
func (f *frames) Read(b []byte) (int, error) {
	for len(f.rest) == 0 {
		var err error
		if f.rest, err = f.read(); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// cut closes c when ctx ends, so that a blocked read returns. The caller calls what it returns.
func cut(ctx context.Context, c io.Closer) func() bool {
	return context.AfterFunc(ctx, func() { _ = c.Close() })
}

// reader is a buffered reader for small packets.
func reader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 4096) }
