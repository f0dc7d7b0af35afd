package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/internal/testcert"
)

// valve is the socket of a client: what is written while it is shut comes through as let lets it.
type valve struct {
	net.Conn
	shut bool
	held bytes.Buffer
}

func (v *valve) Write(b []byte) (int, error) {
	if v.shut {
		return v.held.Write(b)
	}
	return v.Conn.Write(b)
}

// let lets up to n bytes through and waits until the broker has read them.
func (v *valve) let(x *fixture, n int) {
	x.t.Helper()
	before := brokertest.Settle(x.t, x.b).Net.BytesIn
	b := v.held.Next(n)
	if _, err := v.Conn.Write(b); err != nil {
		x.t.Fatal(err)
	}
	brokertest.Until(x.t, x.b, "reading", func(m *broker.Metrics) bool {
		return m.Net.BytesIn >= before+int64(len(b))
	})
}

// framed speaks WebSocket, a frame for each write.
type framed struct {
	net.Conn
	in []byte
}

func (f *framed) Write(b []byte) (int, error) {
	return len(b), wsutil.WriteClientBinary(f.Conn, bytes.Clone(b)) // which masks in place
}

func (f *framed) Read(b []byte) (n int, err error) {
	for len(f.in) == 0 {
		if f.in, err = wsutil.ReadServerBinary(f.Conn); err != nil {
			return 0, err
		}
	}
	n = copy(b, f.in)
	f.in = f.in[n:]
	return n, nil
}

// transports are ways to the broker: what to set, and what to put over the socket.
var transports = []struct {
	name string
	set  func(t *testing.T, l *broker.ListenerOptions)
	over func(t *testing.T, c net.Conn) net.Conn
}{
	{"TCP", func(*testing.T, *broker.ListenerOptions) {}, func(_ *testing.T, c net.Conn) net.Conn { return c }},
	{"TLS", func(t *testing.T, l *broker.ListenerOptions) {
		l.Net.TLS = &tls.Config{Certificates: []tls.Certificate{testcert.Localhost(t)}}
	}, func(_ *testing.T, c net.Conn) net.Conn {
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}},
	{"WebSocket", func(_ *testing.T, l *broker.ListenerOptions) {
		l.Net.WebSocket, l.Net.Subprotocols = true, []string{"mqtt"}
	}, func(t *testing.T, c net.Conn) net.Conn {
		d := ws.Dialer{
			Protocols: []string{"mqtt"},
			NetDial:   func(context.Context, string, string) (net.Conn, error) { return c, nil },
		}
		if _, _, _, err := d.Dial(t.Context(), "ws://broker/"); err != nil {
			t.Fatal(err)
		}
		return &framed{Conn: c}
	}},
}

// Bytes of a packet on its way are life, if they are enough: within one and a half keep alive, at least as
// many as Mosquitto wants to be still missing.
func TestSlowUpload_MQTT_3_1_2_22(t *testing.T) {
	const period = 16 // seconds, of a keep alive of 10
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
				o.Loops = 2
				tr.set(t, l)
			})
			upload := func() (*brokertest.Client, *valve) {
				c := brokertest.Dial(t, x.addr, codec.V311)
				v := &valve{Conn: c.Conn}
				c.Conn = tr.over(t, v)
				if ack := c.Connack("c", keepAlive(10)); ack.Reason != codec.Success {
					t.Fatal(ack.Reason)
				}
				v.shut = true
				c.Publish("t", strings.Repeat("x", 100_000), 1, 1)
				return c, v
			}
			c, v := upload()
			for range 20 {
				v.let(x, 1100)
				x.advance(period)
			}
			v.let(x, v.held.Len())
			c.Want(codec.PUBACK, nil)
			v.shut = false
			x.advance(period - 1)
			if m := brokertest.Settle(t, x.b); m.Connections != 1 {
				t.Error("it is cut after the upload")
			}
			x.advance(1) // it is silent now
			c.WantClosed()

			c, v = upload()
			v.let(x, 900) // too little to wait for
			x.advance(period)
			c.WantClosed()

			c, v = upload()
			v.let(x, 50_000)
			x.advance(period)
			v.let(x, 1)
			if m := brokertest.Settle(t, x.b); m.Connections != 1 {
				t.Error("it is cut though much has come")
			}
			x.advance(period) // a byte a period
			c.WantClosed()
		})
	}
}
