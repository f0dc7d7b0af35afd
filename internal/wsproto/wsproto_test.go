package wsproto

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

var rules = Rules{Subprotocols: []string{"mqtt", "mqttv3.1"}, MaxHeader: 4096}

func request(lines ...string) string {
	return "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
		"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Version: 13\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func TestUpgrade(t *testing.T) {
	ok := request("Sec-WebSocket-Protocol: mqtt")
	tests := []struct{ name, in, status, protocol string }{
		{"plain", ok, "101", "mqtt"},
		{"list", request("Sec-WebSocket-Protocol: foo, mqttv3.1, mqtt"), "101", "mqttv3.1"},
		{"no protocol", request("X: y"), "400", ""},
		{"unknown protocol", request("Sec-WebSocket-Protocol: stomp"), "400", ""},
		{"version", strings.Replace(ok, "Version: 13", "Version: 8", 1), "426", ""},
		{"method", strings.Replace(ok, "GET", "POST", 1), "405", ""},
		{"no key", strings.Replace(ok, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1), "400", ""},
		{"no upgrade", strings.Replace(ok, "Upgrade: websocket\r\n", "", 1), "400", ""},
		{"no host", strings.Replace(ok, "Host: localhost\r\n", "", 1), "400", ""},
		{"tabs in a list", request("Sec-WebSocket-Protocol:\tfoo\t,\tmqtt\t"), "101", "mqtt"},
		{"tab before the first", request("Sec-WebSocket-Protocol: \t mqtt"), "101", "mqtt"},
		{"empty elements", request("Sec-WebSocket-Protocol: ,\t,mqtt,"), "101", "mqtt"},
		{"list on two lines", request("Sec-WebSocket-Protocol: foo", "sec-websocket-protocol: mqttv3.1, mqtt"), "101", "mqttv3.1"},
		{"no token in a list", request("Sec-WebSocket-Protocol: a b, mqtt"), "400", ""},
		{"another case", request("Sec-WebSocket-Protocol: MQTT"), "400", ""},
		{"tab in Connection", strings.Replace(ok, "keep-alive, Upgrade", "keep-alive\t,\tupgrade", 1), "101", "mqtt"},
		{"Connection on two lines", strings.Replace(ok, "keep-alive, Upgrade", "keep-alive\r\nConnection: Upgrade", 1), "101", "mqtt"},
		{"Connection without upgrade", strings.Replace(ok, "keep-alive, Upgrade", "keep-alive", 1), "400", ""},
		{"tab in Upgrade", strings.Replace(ok, "Upgrade: websocket", "Upgrade:\tWebSocket\t", 1), "101", "mqtt"},
		{"list in Upgrade", strings.Replace(ok, "Upgrade: websocket", "Upgrade: HTTP/2.0,\twebsocket", 1), "101", "mqtt"},
		{"other Upgrade", strings.Replace(ok, "Upgrade: websocket", "Upgrade: websockets", 1), "400", ""},
		{"tabs in extensions", request("Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Extensions:\ta;b=1\t,\tc"), "101", "mqtt"},
		{"tab around the version", strings.Replace(ok, "Version: 13", "Version:\t13\t", 1), "101", "mqtt"},
		{"tab around the key", strings.Replace(ok, "Key: ", "Key:\t", 1), "101", "mqtt"},
		{"blank before the colon", request("Sec-WebSocket-Protocol : mqtt"), "400", ""},
		{"tab before the colon", request("Sec-WebSocket-Protocol: mqtt", "X\t: y"), "400", ""},
		{"folded line", request("Sec-WebSocket-Protocol: mqtt,", " mqttv3.1"), "400", ""},
		{"no colon", request("Sec-WebSocket-Protocol: mqtt", "X"), "400", ""},
		{"NUL", request("Sec-WebSocket-Protocol: mqtt", "X: a\x00b"), "400", ""},
		{"CR in a value", request("Sec-WebSocket-Protocol: mqtt", "X: a\rOrigin: b"), "400", ""},
		{"HTTP 1.0", strings.Replace(ok, "HTTP/1.1", "HTTP/1.0", 1), "505", ""},
		{"garbage", "\x10\x0c\x00\x04MQTT\r\n\r\n", "400", ""},
		{"too large", "GET / HTTP/1.1\r\nX: " + strings.Repeat("a", 5000), "431", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, used, proto, err := rules.Upgrade([]byte(tt.in))
			if !strings.HasPrefix(string(resp), "HTTP/1.1 "+tt.status) {
				t.Fatalf("answer %q", resp)
			}
			if (err == nil) != (tt.status == "101") || proto != tt.protocol {
				t.Errorf("err %v, protocol %q", err, proto)
			}
			accept := []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
			if err == nil && (used != len(tt.in) || !bytes.Contains(resp, accept)) {
				t.Errorf("used %d, answer %q", used, resp)
			}
		})
	}
}

// Headers that may come once only are not chosen from: a proxy might have chosen the other one.
func TestUpgradeHeadersOnce(t *testing.T) {
	r := rules
	r.Origins = []string{"https://a.example"}
	origin := "Origin: https://a.example"
	for _, twice := range []string{
		origin, "origin: https://b.example", "ORIGIN:", "Host: localhost", "host: other",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13", "Sec-WebSocket-Version: 8",
	} {
		for _, r := range []*Rules{&rules, &r} {
			resp, used, _, err := r.Upgrade([]byte(request("Sec-WebSocket-Protocol: mqtt", origin, twice)))
			if err == nil || used != 0 || !strings.HasPrefix(string(resp), "HTTP/1.1 400 ") {
				t.Errorf("%s: %q, %v", twice, resp, err)
			}
		}
	}
	in := []byte(request("Sec-WebSocket-Protocol:\tmqtt", origin))
	before := bytes.Clone(in)
	if resp, _, _, err := r.Upgrade(in); err != nil || !bytes.Equal(in, before) {
		t.Errorf("%q, %v; the request is %q", resp, err, in)
	}
}

func TestUpgradeNeedsWholeRequest(t *testing.T) {
	in := request("Sec-WebSocket-Protocol: mqtt")
	for i := range len(in) {
		if resp, used, _, err := rules.Upgrade([]byte(in[:i])); resp != nil || used != 0 || err != nil {
			t.Fatalf("at %d of %d: %q %v", i, len(in), resp, err)
		}
	}
}

func TestUpgradeOrigin(t *testing.T) {
	r := rules
	r.Origins = []string{"https://a.example"}
	for origin, want := range map[string]string{
		"Origin: https://a.example": "101", "Origin: https://b.example": "403", "X: y": "403",
	} {
		resp, _, _, _ := r.Upgrade([]byte(request("Sec-WebSocket-Protocol: mqtt", origin)))
		if !strings.HasPrefix(string(resp), "HTTP/1.1 "+want) {
			t.Errorf("%s: %q", origin, resp)
		}
	}
}

func masked(op ws.OpCode, fin bool, payload []byte) []byte {
	var b bytes.Buffer
	f := ws.MaskFrame(ws.NewFrame(op, fin, bytes.Clone(payload)))
	if err := ws.WriteFrame(&b, f); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// decode feeds raw in pieces of the given sizes and returns application bytes, control frames and the
// error.
func decode(raw []byte, size func() int) (app []byte, ctl []string, err error) {
	var d Decoder
	var held []byte
	raw = bytes.Clone(raw)
	for len(raw) > 0 {
		n := min(size(), len(raw))
		held = append(held, raw[:n]...)
		raw = raw[n:]
		for len(held) > 0 {
			used, piece, c, err := d.Next(held)
			if err != nil {
				return app, ctl, err
			}
			app = append(app, piece...)
			if c.Op != 0 {
				ctl = append(ctl, string(rune('0'+c.Op))+string(c.Payload))
			}
			if used == 0 {
				break
			}
			held = held[used:]
		}
		held = bytes.Clone(held)
	}
	return app, ctl, nil
}

func TestFramesSplitAnywhere(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var raw, want []byte
	for i := range 200 {
		p := make([]byte, rnd.IntN(1<<(i%18)))
		for j := range p {
			p[j] = byte(rnd.Uint32())
		}
		want = append(want, p...)
		k := rnd.IntN(len(p) + 1)
		raw = append(raw, masked(ws.OpBinary, false, p[:k])...)
		raw = append(raw, masked(ws.OpPing, true, []byte("x"))...)
		raw = append(raw, masked(ws.OpContinuation, true, p[k:])...)
	}
	for _, size := range []func() int{
		func() int { return 1 }, func() int { return 7 }, func() int { return 1 << 16 },
		func() int { return 1 + rnd.IntN(5000) },
	} {
		app, ctl, err := decode(raw, size)
		if err != nil || !bytes.Equal(app, want) || len(ctl) != 200 {
			t.Fatalf("seed %d: %d of %d bytes, %d controls, %v", seed, len(app), len(want), len(ctl), err)
		}
	}
}

func TestFrameBreaches(t *testing.T) {
	unmasked := []byte{0x82, 1, 'x'}
	tests := []struct {
		name string
		raw  []byte
		code uint16
	}{
		{"unmasked", unmasked, 1002},
		{"rsv", []byte{0xC2, 0x80, 0, 0, 0, 0}, 1002},
		{"opcode", []byte{0x83, 0x80, 0, 0, 0, 0}, 1002},
		{"text", masked(ws.OpText, true, []byte("a")), 1003},
		{"fragmented ping", masked(ws.OpPing, false, nil), 1002},
		{"long ping", masked(ws.OpPing, true, make([]byte, 126)), 1002},
		{"continuation", masked(ws.OpContinuation, true, []byte("a")), 1002},
		{"nested", append(masked(ws.OpBinary, false, nil), masked(ws.OpBinary, true, nil)...), 1002},
		{"not shortest 16", []byte{0x82, 0xFE, 0, 5, 0, 0, 0, 0}, 1002},
		{"not shortest 64", []byte{0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0}, 1002},
		{"top bit", []byte{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1002},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := decode(tt.raw, func() int { return 1 })
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code {
				t.Errorf("got %v, want code %d", err, tt.code)
			}
		})
	}
}

func TestCloseReply(t *testing.T) {
	for in, want := range map[string]uint16{
		"": 1000, "\x03": 1002, "\x03\xe8": 1000, "\x03\xe9bye": 1001, "\x03\xe8\xff": 1007, "\x03\xee": 1002,
		"\x00\x01": 1002, "\x0f\xa0": 4000, "\x13\x88": 1002,
	} {
		if got := CloseReply([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

func TestPutHeader(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		var head [HeaderMax]byte
		k := PutHeader(head[:], n)
		h, err := ws.ReadHeader(bytes.NewReader(head[HeaderMax-k:]))
		if err != nil || h.Length != int64(n) || h.OpCode != ws.OpBinary || !h.Fin || h.Masked {
			t.Errorf("%d: %+v %v", n, h, err)
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	raw := masked(ws.OpBinary, true, make([]byte, 100))
	var d Decoder
	if n := testing.AllocsPerRun(100, func() { _, _, _, _ = d.Next(raw) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCipherAgreesWithRFC holds the library's masking against the definition, at all offsets and
// alignments.
func TestCipherAgreesWithRFC(t *testing.T) {
	mask := [4]byte{0x11, 0x82, 0x37, 0xF4}
	lengths := []int{255, 256, 257, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20}
	for n := range 200 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		for off := range 4 {
			for shift := range 9 {
				buf := make([]byte, n+shift)
				for i := range buf {
					buf[i] = byte(i * 7)
				}
				p := buf[shift:]
				want := bytes.Clone(p)
				for i := range want {
					want[i] ^= mask[(off+i)%4]
				}
				ws.Cipher(p, mask, off)
				if !bytes.Equal(p, want) {
					t.Fatalf("length %d, offset %d, alignment %d", n, off, shift)
				}
			}
		}
	}
}

// model decodes whole frames with gobwas/ws until the first that is incomplete or breaks its rules.
func model(raw []byte) (app []byte, ctl []string, ok bool) {
	r := bytes.NewReader(raw)
	state := ws.StateServerSide
	for r.Len() > 0 {
		h, err := ws.ReadHeader(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return app, ctl, true
		}
		if err != nil || ws.CheckHeader(h, state) != nil || !h.Masked {
			return app, ctl, false
		}
		p := make([]byte, min(int64(r.Len()), h.Length))
		_, _ = io.ReadFull(r, p)
		ws.Cipher(p, h.Mask, 0)
		switch {
		case !h.OpCode.IsControl():
			app = append(app, p...)
			if state = state.Clear(ws.StateFragmented); !h.Fin {
				state = state.Set(ws.StateFragmented)
			}
		case int64(len(p)) == h.Length:
			ctl = append(ctl, string(rune('0'+h.OpCode))+string(p))
		}
	}
	return app, ctl, true
}

// FuzzFrames: it does not matter how the bytes are cut, and what is accepted the library takes for the same.
func FuzzFrames(f *testing.F) {
	f.Add(masked(ws.OpBinary, true, []byte("hello")), uint64(1))
	f.Add(append(masked(ws.OpBinary, false, []byte("a")), masked(ws.OpContinuation, true, nil)...), uint64(2))
	f.Add([]byte{0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, uint64(3))
	f.Add([]byte{0x89, 0xFE, 0, 200}, uint64(4))
	f.Add(append(masked(ws.OpPing, true, []byte("p")), masked(ws.OpClose, true, nil)...), uint64(5))
	f.Add(masked(ws.OpBinary, true, make([]byte, 200)), uint64(6))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		a1, c1, e1 := decode(raw, func() int { return len(raw) + 1 })
		a2, c2, e2 := decode(raw, func() int { return 1 + rnd.IntN(9) })
		if !bytes.Equal(a1, a2) || !slices.Equal(c1, c2) || (e1 == nil) != (e2 == nil) {
			t.Fatalf("whole: %d bytes %q %v; split: %d bytes %q %v", len(a1), c1, e1, len(a2), c2, e2)
		}
		a3, c3, ok := model(raw)
		if e1 == nil && (!ok || !bytes.Equal(a1, a3) || !slices.Equal(c1, c3)) {
			t.Fatalf("%d bytes %q; model: %d bytes %q, accepted: %v", len(a1), c1, len(a3), c3, ok)
		}
		if !bytes.HasPrefix(a3, a1) || len(c1) > len(c3) || !slices.Equal(c1, c3[:len(c1)]) {
			t.Fatalf("%d bytes %q %v; model: %d bytes %q", len(a1), c1, e1, len(a3), c3)
		}
	})
}

// FuzzUpgrade: an answer is valid HTTP and depends on the request alone, which is wanted whole.
func FuzzUpgrade(f *testing.F) {
	f.Add([]byte(request("Sec-WebSocket-Protocol: mqtt")))
	f.Add([]byte(request("Sec-WebSocket-Protocol: stomp, mqttv3.1", "Origin: https://a") + "\x82\x80"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x10\x0C\x00\x04MQTT\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		resp, used, sub, err := rules.Upgrade(b)
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if resp == nil {
			if used != 0 || sub != "" || err != nil || end >= 0 || len(b) >= rules.MaxHeader {
				t.Fatalf("no answer to %d bytes: used %d, %q, %v", len(b), used, sub, err)
			}
			return
		}
		h, herr := http.ReadResponse(bufio.NewReader(bytes.NewReader(resp)), nil)
		if herr != nil {
			t.Fatalf("answer %q: %v", resp, herr)
		}
		if err != nil {
			if sub != "" || h.StatusCode < 400 || !h.Close || h.ContentLength <= 0 {
				t.Fatalf("refusal %q, %q", resp, sub)
			}
			return
		}
		known := slices.Contains(rules.Subprotocols, sub)
		if h.StatusCode != 101 || used != end+4 || used > rules.MaxHeader || !known {
			t.Fatalf("answer %q, used %d of %d, %q", resp, used, len(b), sub)
		}
		if early, _, _, err := rules.Upgrade(b[:used-1]); early != nil || err != nil {
			t.Fatalf("answered a byte early: %q, %v", early, err)
		}
		if again, _, _, err := rules.Upgrade(b[:used]); !bytes.Equal(again, resp) || err != nil {
			t.Fatalf("answers %q and %q, %v", resp, again, err)
		}
	})
}

// FuzzCloseReply: a code that goes on the wire is one that may.
func FuzzCloseReply(f *testing.F) {
	f.Add([]byte("\x03\xE8bye"))
	f.Add([]byte("\x03\xED"))
	f.Add([]byte("\x03"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		code := CloseReply(payload)
		err := ws.CheckCloseFrameData(ws.StatusCode(code), "")
		if err != nil && (code < 1012 || code > 1014) { // registered after the RFC
			t.Fatalf("%q: %d, %v", payload, code, err)
		}
	})
}
