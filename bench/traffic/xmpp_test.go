package traffic

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// xmppServer answers each stanza with what script says of it, on one connection.
func xmppServer(t *testing.T, script func(stanza string) []string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		upgrade := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "xmpp" }}
		if _, err := upgrade.Upgrade(c); err != nil {
			t.Error(err)
			return
		}
		for {
			text, err := wsutil.ReadClientText(c)
			if err != nil {
				return
			}
			for _, answer := range script(string(text)) {
				if wsutil.WriteServerText(c, []byte(answer)) != nil {
					return
				}
			}
		}
	}()
	return "ws://" + l.Addr().String() + "/ws"
}

func TestXMPPOverWebSocket(t *testing.T) {
	success := false
	url := xmppServer(t, func(s string) []string {
		switch {
		case strings.Contains(s, "<open") && !success:
			return []string{"<open/>", "<features>PLAIN</features>"}
		case strings.Contains(s, "<open"):
			return []string{"<open/>", "<features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></features>"}
		case strings.Contains(s, "<auth"):
			success = true
			return []string{"<success/>"}
		case strings.Contains(s, `id="bind"`):
			return []string{"<iq><jid>u1@localhost/1</jid></iq>"}
		case strings.Contains(s, `id="sess"`):
			return []string{"<iq id='sess'/>"}
		case strings.Contains(s, "<presence"):
			return []string{"<presence from='u1@localhost/1'/>"}
		case strings.Contains(s, "<message"):
			return []string{s}
		case strings.Contains(s, "urn:xmpp:ping"):
			return []string{"<iq id='other'/>", "<iq id='" + pingOf.FindStringSubmatch(s)[1] + "'/>"}
		}
		return nil
	})
	ctx := limited(t)
	x, err := dialXMPPWeb(ctx, settings{NewMeter(0), time.Nanosecond}, url, sender)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	if err := x.appear(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := x.idle(ctx); err != nil {
			t.Error(err)
		}
		if err := x.send(ctx, i == 1); err != nil {
			t.Error(err)
		}
		if err := x.receive(ctx, 1); err != nil {
			t.Error(err)
		}
	}
}

func TestXMPPRefused(t *testing.T) {
	url := xmppServer(t, func(s string) []string {
		if strings.Contains(s, "<auth") {
			return []string{"<failure/>"}
		}
		return []string{"<features>PLAIN</features>"}
	})
	if _, err := dialXMPPWeb(limited(t), settings{NewMeter(0), time.Second}, url, sender); err == nil {
		t.Error("no error")
	}
}
