package broker_test

import (
	"encoding/binary"
	"log/slog"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// proxyHeader is a PROXY header of version 2 from a unix socket /app with a field that tells of TLS.
func proxyHeader(name string) []byte {
	ssl := "\x01\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x23\x00\x01X"
	if name != "" {
		ssl = "\x03" + ssl[1:] + "\x22\x00" + string(rune(len(name))) + name
	}
	body := make([]byte, 216)
	copy(body, "/app")
	body = append(body, "\x20\x00"+string(rune(len(ssl)))+ssl...)
	b := binary.BigEndian.AppendUint16([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x31"), uint16(len(body)))
	return append(b, body...)
}

// TestProxyIdentity: behind a proxy the certificate that the header tells of names the user.
func TestProxyIdentity(t *testing.T) {
	h := &lines{}
	_, addr := brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Log = slog.New(h)
		l.AllowAnonymous, l.UseIdentityAsUsername, l.Net.ProxyProtocol = false, true, 2
	})
	for name, want := range map[string]codec.Reason{"device-7": codec.Success, "": codec.BadUserNameOrPassword} {
		c := brokertest.Dial(t, addr, codec.V5)
		c.Raw(proxyHeader(name))
		c.Send(&codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte("c")})
		var ack codec.Connack
		if c.Want(codec.CONNACK, &ack); ack.Reason != want {
			t.Errorf("%q: %s, want %s", name, ack.Reason, want)
		}
	}
	for _, line := range []string{
		"Connection from /app:0 negotiated TLSv1.3 cipher X", "New client connected from /app:0 as c (p5, c1, k0, u'device-7').",
	} {
		if !h.has(line) {
			t.Errorf("no line %s in %q", line, h.text)
		}
	}
	if h.has("New connection from") {
		t.Errorf("the proxy's connection is told of: %q", h.text)
	}
}
