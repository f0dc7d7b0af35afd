package knock

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"noctule/internal/testlog"
	"noctule/wsnet"
)

// TestKnocksAreBounded: one address cannot have all lines, all together cannot have more than the window's, and
// what had none is counted.
func TestKnocksAreBounded(t *testing.T) {
	var k Log
	start := time.Now()
	scan := func(from string, n int, now time.Time) (lines int) {
		for range n {
			if k.line(netip.MustParseAddr(from), now) {
				lines++
			}
		}
		return lines
	}
	if n := scan("192.0.2.1", 1000, start); n != addressMax {
		t.Errorf("one address has %d lines", n)
	}
	if n := scan("::ffff:192.0.2.1", 1, start); n != 0 {
		t.Error("the same address as IPv6 has lines of its own")
	}
	if n := scan("192.0.2.2", 1, start); n != 1 {
		t.Error("another address has none")
	}
	six := scan("2001:db8::1", addressMax, start) + scan("2001:db8::2", 3, start) + scan("2001:db8:0:1::1", 2, start)
	if six != addressMax+2 {
		t.Errorf("IPv6 has %d lines", six)
	}
	if !k.line(netip.Addr{}, start) {
		t.Error("a unix socket has no line")
	}
	all := 2*addressMax + 1 + 2 + 1
	for i := range 1000 {
		all += scan(fmt.Sprintf("198.51.%d.%d", i/250, i%250), 1, start)
	}
	if all != linesMax {
		t.Errorf("%d lines in one window", all)
	}
	if len(k.mu.of) > linesMax {
		t.Errorf("%d addresses are remembered", len(k.mu.of))
	}
	if n := k.rest(start.Add(window - 1)); n != 0 {
		t.Errorf("%d are told too early", n)
	}
	want := 1000 - addressMax + 1 + 3 + 1000 - (linesMax - 2*addressMax - 4)
	if n := k.rest(start.Add(window)); n != want {
		t.Errorf("%d had no line, want %d", n, want)
	}
	if n := k.rest(start.Add(2 * window)); n != 0 {
		t.Errorf("%d are told twice", n)
	}
	if n := scan("192.0.2.1", 100, start.Add(2*window)); n != addressMax {
		t.Errorf("%d lines in the next window", n)
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example":            "https://a.example",
		"":                             "",
		"a\r\n1234: forged":            `a\r\n1234: forged`,
		"\x1b[31mred\x7f":              `\x1b[31mred\x7f`,
		"a\", on port 1":               "a', on port 1",
		"ä\xff":                        `\u00e4\xff`,
		"back\\slash":                  `back\\slash`,
		strings.Repeat("x", clipMax):   strings.Repeat("x", clipMax),
		strings.Repeat("x", clipMax+1): strings.Repeat("x", clipMax) + "...",
	} {
		if got := clip(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestRefusalLines has the line of each way in which a connection comes to nothing: one, with address and
// listener, and none when connection_messages is false.
func TestRefusalLines(t *testing.T) {
	h := &testlog.Messages{}
	server, err := wsnet.New(wsnet.Config{
		Loops: 1, Log: slog.New(slog.DiscardHandler), NewHandler: func(*wsnet.Loop) wsnet.Handler { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown(t.Context())
	ln, err := server.Listen(wsnet.ListenerConfig{Network: "tcp4", Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	on := fmt.Sprintf("port %d", ln.Addr().(*net.TCPAddr).Port)
	broken, missing := errors.New("wsproto: bad\nthing"), errors.New("nothing was sent")
	addr := netip.MustParseAddrPort("192.0.2.7:1234")
	tests := []struct {
		r    wsnet.Refusal
		want string
	}{
		{wsnet.Refusal{Cause: wsnet.CauseTLS, Err: broken}, `Client connection from 192.0.2.7 failed: bad\nthing (192.0.2.7:1234 on ` + on + ").\n"},
		{wsnet.Refusal{Cause: wsnet.CauseUpgrade, Err: broken}, `Client connection from 192.0.2.7 failed: bad\nthing (192.0.2.7:1234 on ` + on + ").\n"},
		{wsnet.Refusal{Cause: wsnet.CauseTimeout, Err: missing}, "Client connection from 192.0.2.7 failed: exceeded timeout, nothing was sent (192.0.2.7:1234 on " + on + ").\n"},
		{wsnet.Refusal{Cause: wsnet.CauseClosed, Err: missing}, "Client connection from 192.0.2.7 failed: connection closed by client, nothing was sent (192.0.2.7:1234 on " + on + ").\n"},
		{wsnet.Refusal{Cause: wsnet.CauseOrigin, Origin: "https://\"\n"}, `Client 192.0.2.7 [192.0.2.7:1234] disconnected: non-matching http origin. It is "https://'\n", on ` + on + ".\n"},
		{wsnet.Refusal{Cause: wsnet.CauseOrigin}, "Client 192.0.2.7 [192.0.2.7:1234] disconnected: non-matching http origin. None was sent, on " + on + ".\n"},
		{wsnet.Refusal{Cause: wsnet.CauseTooMany}, "Client connection from 192.0.2.7 denied: max_connections exceeded.\n"},
		{wsnet.Refusal{Cause: wsnet.CauseGaveWay}, "Client 192.0.2.7 [192.0.2.7:1234] disconnected: server busy.\n"},
		{wsnet.Refusal{Cause: wsnet.CauseProxyHeader}, "Connection rejected, corrupt PROXY header.\n"},
		{wsnet.Refusal{Cause: wsnet.CauseProxyPeer}, "Connection from 192.0.2.7:1234 rejected, it may not send a PROXY header.\n"},
		{wsnet.Refusal{Cause: wsnet.CauseProxyNoTLS}, "Connection from 192.0.2.7:1234 rejected, client did not connect using TLS.\n"},
		{wsnet.Refusal{Cause: wsnet.CauseProxyNoCertificate}, "Connection from 192.0.2.7:1234 rejected, client did not provide a certificate.\n"},
	}
	for _, tt := range tests {
		for _, silent := range []bool{false, true} {
			h.Text = nil
			k := New(slog.New(h), time.Now)
			k.Silence(silent)
			tt.r.Listener, tt.r.Addr = ln, addr
			k.Refused(tt.r)
			want := tt.want
			if silent {
				want = ""
			}
			if got := strings.Join(append(h.Text, ""), "\n"); got != want {
				t.Errorf("%s, silent %t: %q, want %q", tt.r.Cause, silent, got, want)
			}
		}
	}
}

// What had no line is told once its window is over.
func TestRest(t *testing.T) {
	h := &testlog.Messages{}
	now := time.Unix(1_800_000_000, 0)
	k := New(slog.New(h), func() time.Time { return now })
	for range addressMax + 5 {
		k.Say(netip.MustParseAddr("192.0.2.1"), "came to nothing")
	}
	k.Rest()
	now = now.Add(window)
	k.Rest()
	k.Rest()
	if n := len(h.Text); n != addressMax+1 || h.Text[n-1] != "5 more connections came to nothing in the last 10 seconds." {
		t.Errorf("%q", h.Text)
	}
}
