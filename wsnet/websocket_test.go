package wsnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"noctule/internal/places"
	"noctule/internal/wsproto"
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
	resp.Body = io.NopCloser(io.LimitReader(nc, max(resp.ContentLength, 0)))
	return resp
}

// closeFrame is what the server says at the end.
func closeFrame(code uint16) string {
	return string(wsproto.AppendClose(nil, code))
}

// served waits until the loops have read n bytes more than before, and handled them.
func (r *rig) served(t *testing.T, before Stats, n int) {
	t.Helper()
	want := before.BytesIn + int64(n)
	r.until(t, fmt.Sprintf("%d bytes", n), func() bool { return r.Stats().BytesIn >= want })
}

// TestFramesCutAnywhere sends a few frames in two pieces, cut at each byte, and in single bytes.
func TestFramesCutAnywhere(t *testing.T) {
	wire := frame(ws.OpBinary, "a") + frame(ws.OpBinary, "") + fragment(ws.OpBinary, false, "bc") +
		frame(ws.OpPing, "p") + fragment(ws.OpContinuation, false, "") + frame(ws.OpPong, "q") +
		frame(ws.OpContinuation, "d") + frame(ws.OpBinary, strings.Repeat("e", 130))
	want := "abcd" + strings.Repeat("e", 130)
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		nc := dialWebSocket(t, r)
		c := r.conn(t, nc)
		for cut := range len(wire) {
			before := r.Stats()
			mustWrite(t, nc, wire[:cut])
			r.served(t, before, cut)
			mustWrite(t, nc, wire[cut:])
			mustEcho(t, nc, want, "p")
			r.on(t, c.Loop(), func(*Loop) { c.ws.pongs = 0 }) // no flood
		}
		before := r.Stats()
		for i := range len(wire) {
			mustWrite(t, nc, wire[i:i+1])
			r.served(t, before, i+1)
		}
		mustEcho(t, nc, want, "p")
	})
}

// mustEcho reads frames until data has come in full, and pongs of these payloads between.
func mustEcho(t *testing.T, nc net.Conn, data, pongs string) {
	t.Helper()
	var got, gotPongs strings.Builder
	for got.Len() < len(data) || gotPongs.Len() < len(pongs) {
		h, err := ws.ReadHeader(nc)
		payload := make([]byte, h.Length)
		if err == nil {
			_, err = io.ReadFull(nc, payload)
		}
		switch {
		case err != nil:
			t.Fatalf("after %q: %v", got.String(), err)
		case h.OpCode == ws.OpBinary:
			got.Write(payload)
		case h.OpCode == ws.OpPong:
			gotPongs.Write(payload)
		default:
			t.Fatalf("frame %+v of %q", h, payload)
		}
	}
	if got.String() != data || gotPongs.String() != pongs {
		t.Fatalf("got %q and pongs %q, want %q and %q", got.String(), gotPongs.String(), data, pongs)
	}
}

// TestFrameSizes echoes messages around the borders of the three forms of a length.
func TestFrameSizes(t *testing.T) {
	over(t, Config{}, script{data: func(c *Conn, b []byte) (used, need int) {
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if len(b) < n {
			return 0, n
		}
		c.Write(b[:n]) // one frame
		return n, 0
	}}, func(t *testing.T, r *rig) {
		nc := dialWebSocket(t, r)
		for _, n := range []int{3, 124, 125, 126, 127, 65534, 65535, 65536, 65537, 1 << 20} {
			p := bytes.Repeat([]byte{byte(n)}, n)
			p[0], p[1], p[2] = byte(n>>16), byte(n>>8), byte(n)
			if err := wsutil.WriteClientBinary(nc, p); err != nil {
				t.Fatal(err)
			}
			if got, err := wsutil.ReadServerBinary(nc); err != nil || !bytes.Equal(got, p) {
				t.Fatalf("%d bytes came back as %d, %v", n, len(got), err)
			}
		}
	})
}

// TestPongs: each ping is answered with its payload, behind the data that came before it.
func TestPongs(t *testing.T) {
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		nc := dialWebSocket(t, r)
		long := strings.Repeat("p", 125)
		release := r.stall(t, r.loops[0])
		mustWrite(t, nc, frame(ws.OpPing, "")+frame(ws.OpBinary, "a")+frame(ws.OpPing, long)+
			frame(ws.OpPong, "not asked for")+frame(ws.OpBinary, "b"))
		release()
		mustRead(t, nc, "\x8A\x00"+"\x82\x01a"+"\x8A\x7D"+long+"\x82\x01b")
	})
}

// TestBreaches: what goes on the wire for each breach of the protocol, behind the answer to what was right.
func TestBreaches(t *testing.T) {
	header := func(first, second byte, rest ...byte) string {
		return string(append([]byte{first, second}, rest...))
	}
	tests := []struct {
		name, send string
		code       uint16
	}{
		{"not masked", "\x82\x01x", 1002},
		{"rsv1", header(0xC2, 0x80), 1002},
		{"rsv2", header(0xA2, 0x80), 1002},
		{"rsv3", header(0x92, 0x80), 1002},
		{"rsv1 on ping", header(0xC9, 0x80), 1002},
		{"opcode 3", header(0x83, 0x80), 1002},
		{"opcode 7", header(0x87, 0x80), 1002},
		{"opcode 11", header(0x8B, 0x80), 1002},
		{"opcode 15", header(0x8F, 0x80), 1002},
		{"text", frame(ws.OpText, "text"), 1003},
		{"fragmented ping", fragment(ws.OpPing, false, "p"), 1002},
		{"fragmented close", fragment(ws.OpClose, false, ""), 1002},
		{"ping of 126 bytes", header(0x89, 0xFE, 0, 126), 1002},
		{"close with 64 bit length", header(0x88, 0xFF), 1002},
		{"continuation of nothing", frame(ws.OpContinuation, "c"), 1002},
		{"message in a message", fragment(ws.OpBinary, false, "") + frame(ws.OpBinary, "m"), 1002},
		{"text in a message", fragment(ws.OpBinary, false, "") + frame(ws.OpText, "m"), 1003},
		{"16 bit length of 125", header(0x82, 0xFE, 0, 125, 1, 2, 3, 4), 1002},
		{"64 bit length of 65535", header(0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4), 1002},
		{"length of 2^63", header(0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4), 1002},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				nc := dialWebSocket(t, r)
				mustWrite(t, nc, frame(ws.OpBinary, "a")+tt.send+frame(ws.OpBinary, "b"))
				mustEnd(t, nc, "\x82\x01a"+closeFrame(tt.code))
				e := r.ending(t, nc)
				var b *wsproto.Error
				if !errors.Is(e.reason, ErrProtocol) || !errors.As(e.reason, &b) || b.Code != tt.code {
					t.Errorf("closed with %v", e.reason)
				}
			})
		}
	})
}

// TestCloseByClient: the answer to a close frame is its code, or what is wrong with it; data before it is
// answered first, and what follows is not looked at.
func TestCloseByClient(t *testing.T) {
	code := func(c uint16) string { return string([]byte{byte(c >> 8), byte(c)}) }
	answers := map[string]uint16{
		"": 1000, code(1000): 1000, code(1001) + "bye": 1001, code(1003) + "\u00FC": 1003, code(1011): 1011,
		code(3000): 3000, code(4999) + strings.Repeat("x", 123): 4999,
		"\x03": 1002, code(0): 1002, code(999): 1002, code(1004): 1002, code(1005): 1002, code(1006): 1002,
		code(1015): 1002, code(2999): 1002, code(5000): 1002, code(65535): 1002,
		code(1000) + "\xFF": 1007, code(1000) + "a\xC3": 1007, code(1000) + "\xED\xA0\x80": 1007,
	}
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		for payload, want := range answers {
			for _, clientEnds := range []bool{false, true} {
				nc := dialWebSocket(t, r)
				release := r.stall(t, r.loops[0])
				mustWrite(t, nc, frame(ws.OpBinary, "a")+frame(ws.OpClose, payload)+
					frame(ws.OpBinary, "b")+frame(ws.OpPing, "c")+"\xFF\xFF")
				if clientEnds {
					if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				release()
				mustEnd(t, nc, "\x82\x01a"+closeFrame(want))
				if e := r.ending(t, nc); !errors.Is(e.reason, io.EOF) {
					t.Errorf("%q: closed with %v", payload, e.reason)
				}
			}
		}
	})
}

// TestCloseFrameIsLast: the close frame follows all that was written in its turn, by others as well.
func TestCloseFrameIsLast(t *testing.T) {
	for _, request := range []string{frame(ws.OpClose, ""), frame(ws.OpBinary, "close"), "\x82\x01x"} {
		code := uint16(1000)
		if request[1] == 1 {
			code = 1002
		}
		sc := script{data: func(c *Conn, b []byte) (int, int) {
			c.Close(io.EOF)
			return len(b), 0
		}}
		over(t, Config{Loops: 1}, sc, func(t *testing.T, r *rig) {
			nc := dialWebSocket(t, r)
			c := r.conn(t, nc)
			release := r.stall(t, r.loops[0])
			mustWrite(t, nc, request)
			for range 3 { // in the mailbox, so in the turn in which the request is read, and those around
				r.loops[0].MustPost(TaskFunc(func(*Loop) {
					if c.ended && c.open {
						c.Write([]byte("late"))
					}
				}))
			}
			release()
			got, err := io.ReadAll(nc)
			if err != nil || !strings.HasSuffix(string(got), closeFrame(code)) {
				t.Errorf("read %q and %v", got, err)
			}
		})
	}
}

// TestPongFlood: a hundred thousand pongs change nothing.
func TestPongFlood(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		nc := dialWebSocket(t, r)
		c := r.conn(t, nc)
		flood := strings.Repeat(frame(ws.OpPong, strings.Repeat("p", 100)), 1000)
		before, heap := r.Stats(), heapInUse()
		for i := range 100 {
			mustWrite(t, nc, flood)
			r.served(t, before, (i+1)*len(flood))
			r.on(t, c.Loop(), func(*Loop) {
				if c.Buffered() != 0 || len(rawOf(c)) > 125+14 {
					t.Fatalf("%d bytes buffered, %d held", c.Buffered(), len(rawOf(c)))
				}
			})
		}
		if grown := heapInUse() - heap; grown > 1<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
		mustWrite(t, nc, frame(ws.OpBinary, "a"))
		mustRead(t, nc, "\x82\x01a")
	})
}

// TestPingFlood: more pings than a second may have end the connection, and few are answered.
func TestPingFlood(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		nc := dialWebSocket(t, r)
		flood := strings.Repeat(frame(ws.OpPing, "p"), 100000)
		go func() { // ends with the connection
			_, _ = io.WriteString(nc, flood)
		}()
		got, err := io.ReadAll(nc)
		pongs := strings.Count(string(got), "\x8A\x01p")
		if !strings.HasSuffix(string(got), closeFrame(1008)) || len(got) != 3*pongs+4 || pongs > 1000 {
			t.Errorf("%d pongs in %d bytes: %v", pongs, len(got), err)
		}
		if e := r.ending(t, nc); !errors.Is(e.reason, ErrProtocol) {
			t.Errorf("closed with %v", e.reason)
		}
	})
}

// TestPingsWithoutReading: who pings for hours, as often as is allowed, and never reads makes nothing grow.
func TestPingsWithoutReading(t *testing.T) {
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		ln, err := r.Listen(webSocketListener())
		if err != nil {
			t.Fatal(err)
		}
		r.on(t, r.loops[0], func(l *Loop) {
			v := &valve{}
			c := ln.newConn(v)
			ln.admit(netip.AddrPort{})
			l.greet(c, nil, ln.server.entrance.enter(places.Peer{Trusted: true}))
			v.open = 1 << 20
			l.inputWebSocket(c, []byte(upgradeRequest))
			c.Flush()
			v.open = 0
			c.Write([]byte("a"))
			c.Flush()
			for i := range 100000 {
				if i%pongsPerSecond == 0 {
					l.now += 1000
				}
				l.inputWebSocket(c, []byte(frame(ws.OpPing, strings.Repeat("p", 125))))
				c.Flush()
			}
			if n := c.Buffered(); c.ended || n > 128<<10 {
				t.Errorf("%d bytes buffered, %v", n, c.reason())
			}
			v.open = 1 << 20
			c.Flush()
			l.now += 1000
			l.inputWebSocket(c, []byte(frame(ws.OpPing, "p")))
			if n := c.Buffered(); n != 3 {
				t.Errorf("%d bytes buffered, want a pong", n)
			}
			c.Close(io.EOF)
		})
	})
}
