package broker_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/wsnet"
)

// fuzzer is a broker on a unix socket, whose addresses do not run out, and a client that sees every message.
type fuzzer struct {
	*fixture
	path    string
	witness *brokertest.Client
}

const witnessID = "witness-c9ef"

func newFuzzer(f *testing.F) *fuzzer {
	z := &fuzzer{path: filepath.Join(f.TempDir(), "s")}
	z.fixture = newFixture(f, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops, o.MaxInflight, o.MaxQueuedMessages, o.PersistentClientExpiration = 2, 3, 5, 5*time.Second
		o.QueueQoS0 = true
	})
	l := broker.DefaultListenerOptions()
	l.AllowAnonymous = true
	l.Net = wsnet.ListenerConfig{Network: "unix", Address: z.path}
	if _, err := z.b.Listen(l); err != nil {
		f.Fatal(err)
	}
	z.witness = z.connect(witnessID, codec.V5, nil)
	z.witness.Subscribe("#", 0)
	z.witness.Subscribe("$share/g/#", 0)
	return z
}

// legal fails unless b is whole packets that a server may send.
func legal(t *testing.T, b []byte, v codec.Version) {
	t.Helper()
	for len(b) > 0 {
		h, err := codec.ParseHeader(b)
		if err != nil || h.Size+h.Len > len(b) {
			t.Fatalf("the broker sent % x: %v", b[:min(len(b), 64)], err)
		}
		body := b[h.Size : h.Size+h.Len]
		var p interface {
			Parse(flags uint8, body []byte, v codec.Version) error
		}
		switch h.Type {
		case codec.CONNACK:
			p = &codec.Connack{}
		case codec.PUBLISH:
			p = &codec.Publish{}
		case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
			p = &codec.Ack{Type: h.Type}
		case codec.SUBACK:
			p = &codec.Suback{}
		case codec.UNSUBACK:
			p = &codec.Unsuback{}
		case codec.DISCONNECT:
			p = &codec.Disconnect{}
			if v != codec.V5 {
				t.Fatal("DISCONNECT to a client of MQTT 3")
			}
		case codec.PINGRESP:
		default:
			t.Fatalf("the broker sent %s", h.Type)
		}
		if p != nil {
			if err := p.Parse(h.Flags, body, v); err != nil {
				t.Fatalf("the broker sent %s % x: %v", h.Type, body, err)
			}
		}
		b = b[h.Size+h.Len:]
	}
}

// talk sends raw on a new connection, ends its direction, and returns all that comes back.
func (z *fuzzer) talk(t *testing.T, raw []byte) []byte {
	t.Helper()
	nc, err := net.Dial("unix", z.path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(brokertest.Timeout))
	_, _ = nc.Write(raw) // the broker may close before the last byte
	_ = nc.(*net.UnixConn).CloseWrite()
	out, err := io.ReadAll(nc)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Fatal("the broker does not close")
	}
	return out
}

// check looks at the broker through the eyes of the others after a connection has ended.
func (z *fuzzer) check(t *testing.T) {
	t.Helper()
	z.clock.Advance(t, z.b, 6*time.Second) // wills and sessions end
	z.witness.In(t).Raw(codec.AppendPingreq(nil))
	for {
		h, body, err := z.witness.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Type == codec.PINGRESP {
			break
		}
		var p codec.Publish
		if h.Type != codec.PUBLISH {
			t.Fatalf("the witness got %s", h.Type)
		}
		if err := p.Parse(h.Flags, body, codec.V5); err != nil {
			t.Fatalf("the witness got % x: %v", body, err)
		}
	}
	m := brokertest.Settle(t, z.b)
	if m.Sessions != 1 || m.Subscriptions != 1 || m.SharedSubscriptions != 1 ||
		m.QueuedMessages != 0 || m.InflightMessages != 0 {
		t.Fatalf("left behind: %d sessions, %d+%d subscriptions, %d queued, %d in flight",
			m.Sessions-1, m.Subscriptions-1, m.SharedSubscriptions-1, m.QueuedMessages, m.InflightMessages)
	}
}

// conversation is what a client that uses everything sends.
func conversation(v codec.Version) (b []byte) {
	ack := func(t codec.Type, id uint16) { b = (&codec.Ack{Type: t, PacketID: id}).Append(b, v) }
	x := []byte("x")
	b = (&codec.Publish{Topic: []byte("r"), Payload: x, QoS: 1, PacketID: 1, Retain: true}).Append(b, v)
	b = (&codec.Subscribe{PacketID: 2, Filters: []codec.Filter{
		{Name: []byte("#"), QoS: 2}, {Name: []byte("r"), QoS: 1}, {Name: []byte("$share/g/#"), QoS: 2},
	}}).Append(b, v)
	ack(codec.PUBACK, 1)
	b = (&codec.Publish{Topic: []byte("t/u"), Payload: x, QoS: 2, PacketID: 3}).Append(b, v)
	ack(codec.PUBREL, 3)
	ack(codec.PUBREC, 2)
	ack(codec.PUBCOMP, 2)
	b = (&codec.Unsubscribe{PacketID: 4, Filters: [][]byte{[]byte("r"), []byte("none")}}).Append(b, v)
	b = codec.AppendPingreq(b)
	return b
}

// FuzzAfterConnect sends arbitrary bytes behind a good CONNECT to a whole broker: it must answer with legal
// packets only, close, pass on nothing illegal, and keep nothing.
func FuzzAfterConnect(f *testing.F) {
	for v := range uint8(3) {
		for flags := range uint8(4) {
			f.Add(v, flags, conversation(codec.Version(v+3)))
		}
	}
	for _, b := range append(afterConnect(), afterConnect5()...) {
		f.Add(uint8(2), uint8(0), b.raw)
	}
	z := newFuzzer(f)
	f.Fuzz(func(t *testing.T, version, flags uint8, raw []byte) {
		v := codec.Version(3 + version%3)
		p := codec.Connect{
			Version: v, CleanStart: flags&1 == 0, ClientID: []byte{'a' + flags>>5}, HasWill: flags&2 != 0,
		}
		if p.HasWill {
			p.Will = codec.Will{Topic: []byte("w"), QoS: flags >> 2 & 1, Retain: flags&8 != 0}
		}
		if v == codec.V5 && flags&16 != 0 {
			p.Properties = props(expiry(100), uintProp(codec.ReceiveMaximum, 2),
				uintProp(codec.TopicAliasMaximum, 2), maxPacket(1+16*uint32(flags>>5)))
		}
		legal(t, z.talk(t, append(p.Append(nil, v), raw...)), v)
		if flags&1 != 0 { // the session comes back
			p.CleanStart = false
			legal(t, z.talk(t, append(p.Append(nil, v), codec.AppendPingreq(nil)...)), v)
		}
		z.check(t)
	})
}

// FuzzConnect sends arbitrary bytes at once.
func FuzzConnect(f *testing.F) {
	for _, b := range beforeConnect() {
		f.Add(b.raw)
	}
	for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
		p := codec.Connect{
			Version: v, CleanStart: true, ClientID: []byte("c"), KeepAlive: 5,
			HasUsername: true, Username: []byte("u"), HasPassword: true, Password: []byte("p"),
			HasWill: true, Will: codec.Will{Topic: []byte("w"), Payload: []byte("x")},
		}
		f.Add(append(p.Append(nil, v), conversation(v)...))
	}
	z := newFuzzer(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Contains(raw, []byte(witnessID)) {
			return // that would take over the witness
		}
		out := z.talk(t, raw)
		var c codec.Connect
		v := codec.V5
		h, err := codec.ParseHeader(raw)
		if err == nil && h.Type == codec.CONNECT && h.Size+h.Len <= len(raw) {
			if c.Parse(h.Flags, raw[h.Size:h.Size+h.Len], v) == nil {
				v = c.Version
			} else if bytes.HasPrefix(out, []byte{0x20, 2}) {
				v = codec.V311
			}
		}
		legal(t, out, v)
		z.check(t)
	})
}
