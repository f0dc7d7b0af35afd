// Package brokertest is a broker in memory and a plain client for tests: packets go out and come in as codec
// knows them, nothing is answered by itself. Between them is a pipe (wsnet.Listener.Pipe), or a socket for
// tests of what only sockets have.
package brokertest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/wsnet"
)

// Timeout is how long a test waits for what must come.
const Timeout = 10 * time.Second

// Start runs a broker with one listener until the test ends; change may alter the options. The listener is
// one without a socket, unless change makes it one of a transport: see Loopback.
func Start(
	t testing.TB,
	change func(*broker.Options, *broker.ListenerOptions),
) (b *broker.Broker, at *broker.Listener) {
	t.Helper()
	o := broker.DefaultOptions()
	o.SysInterval = 0
	o.Log = slog.New(slog.DiscardHandler)
	l := broker.DefaultListenerOptions()
	l.AllowAnonymous = true
	l.Net.Network = wsnet.PipeNetwork
	if change != nil {
		change(&o, &l)
	}
	if n := &l.Net; n.Network == wsnet.PipeNetwork && (n.WebSocket || n.TLS != nil || n.ProxyProtocol != 0) {
		Loopback(n)
	}
	if os.Getenv("NOCTULE_TEST_STORE") != "" && o.Store == nil { // every test with durable sessions
		o.Store = store.NewMemory()
	}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Timeout)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	at, err = b.Listen(l)
	if err != nil {
		t.Fatal(err)
	}
	return b, at
}

// Loopback makes it a listener on a free port of the loopback address, for tests of what sockets have:
// buffers of the kernel, an address, a reset.
func Loopback(cfg *wsnet.ListenerConfig) {
	cfg.Network, cfg.Address, cfg.NoDelay = "tcp4", "127.0.0.1:0", true
}

// Address is where a Client connects: a listener, or host:port.
type Address interface{ string | *broker.Listener }

// open makes a connection to an address.
func open[A Address](addr A) (net.Conn, error) {
	switch at := any(addr).(type) {
	case *broker.Listener:
		if a := at.Addr(); a.Network() != wsnet.PipeNetwork {
			return net.Dial(a.Network(), a.String())
		}
		return at.Pipe(), nil
	case string:
		return net.Dial("tcp", at)
	}
	panic("unreachable")
}

// Client is a connection of a test. It belongs to the test's goroutine.
type Client struct {
	t       testing.TB
	Conn    net.Conn
	Version codec.Version
	buf     []byte
}

// Packet is anything that can be sent.
type Packet interface {
	Append(b []byte, v codec.Version) []byte
}

// Dial connects without CONNECT.
func Dial[A Address](t testing.TB, addr A, v codec.Version) *Client {
	t.Helper()
	nc, err := open(addr)
	if err != nil {
		t.Fatal(err)
	}
	return On(t, nc, v)
}

// On is a client on a connection, which it closes at the test's end.
func On(t testing.TB, nc net.Conn, v codec.Version) *Client {
	t.Cleanup(func() { _ = nc.Close() })
	return &Client{t: t, Conn: nc, Version: v}
}

// Connect connects with a clean session and waits for CONNACK; change may alter the packet.
func Connect[A Address](
	t testing.TB, addr A, id string, v codec.Version, change func(*codec.Connect),
) *Client {
	t.Helper()
	c := Dial(t, addr, v)
	ack := c.Connack(id, change)
	if ack.Reason != codec.Success {
		t.Fatalf("CONNACK %s", ack.Reason)
	}
	return c
}

// In makes c report to t, a part of the test that made it.
func (c *Client) In(t testing.TB) *Client {
	c.t = t
	return c
}

// Connack sends CONNECT and returns the answer.
func (c *Client) Connack(id string, change func(*codec.Connect)) codec.Connack {
	c.t.Helper()
	p := codec.Connect{Version: c.Version, CleanStart: true, ClientID: []byte(id)}
	if change != nil {
		change(&p)
	}
	c.Send(&p)
	var ack codec.Connack
	c.Want(codec.CONNACK, &ack)
	return ack
}

// Send writes a packet.
func (c *Client) Send(p Packet) { c.t.Helper(); c.Raw(p.Append(nil, c.Version)) }

// Raw writes bytes.
func (c *Client) Raw(b []byte) {
	c.t.Helper()
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// Publish sends a message; id is ignored with QoS 0.
func (c *Client) Publish(topic, payload string, qos uint8, id uint16) {
	c.t.Helper()
	if qos == 0 {
		id = 0
	}
	c.Send(&codec.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id})
}

// Subscribe subscribes to one filter and returns its code.
func (c *Client) Subscribe(filter string, qos uint8) codec.Reason {
	c.t.Helper()
	return c.SubscribeWith(codec.Filter{Name: []byte(filter), QoS: qos}, nil)
}

// SubscribeWith subscribes with all options.
func (c *Client) SubscribeWith(f codec.Filter, props codec.Properties) codec.Reason {
	c.t.Helper()
	c.Send(&codec.Subscribe{PacketID: 77, Properties: props, Filters: []codec.Filter{f}})
	var ack codec.Suback
	c.Want(codec.SUBACK, &ack)
	if ack.PacketID != 77 || len(ack.Codes) != 1 {
		c.t.Fatalf("SUBACK %+v", ack)
	}
	return ack.Codes[0]
}

// Next reads one packet; the body is the caller's.
func (c *Client) Next() (codec.Header, []byte, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
		return codec.Header{}, nil, err
	}
	return c.read()
}

// read reads one packet until the connection's deadline.
func (c *Client) read() (codec.Header, []byte, error) {
	for {
		h, err := codec.ParseHeader(c.buf)
		if err == nil && len(c.buf) >= h.Size+h.Len {
			body := append([]byte(nil), c.buf[h.Size:h.Size+h.Len]...)
			c.buf = c.buf[h.Size+h.Len:]
			return h, body, nil
		}
		if err != nil && !errors.Is(err, codec.ErrShort) {
			return h, nil, err
		}
		c.buf = slices.Grow(c.buf, max(4096, h.Size+h.Len-len(c.buf)))
		n, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		if err != nil && n == 0 {
			return h, nil, err
		}
	}
}

// NextWithin reads one packet; ok is false when none comes in time, or the connection ends.
func (c *Client) NextWithin(d time.Duration) (h codec.Header, body []byte, ok bool) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return h, nil, false
	}
	h, body, err := c.read()
	return h, body, err == nil
}

// Parser is what Want fills.
type Parser interface {
	Parse(flags uint8, body []byte, v codec.Version) error
}

// Want reads one packet, which must be of type t, into p (nil: only checked).
func (c *Client) Want(t codec.Type, p Parser) {
	c.t.Helper()
	h, body, err := c.Next()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", t, err)
	}
	if h.Type != t {
		c.t.Fatalf("got %s % x, want %s", h.Type, body, t)
	}
	if a, ok := p.(*codec.Ack); ok {
		a.Type = t
	}
	if p != nil {
		if err := p.Parse(h.Flags, body, c.Version); err != nil {
			c.t.Fatal(err)
		}
	}
}

// WantPublish reads a message and checks topic and payload.
func (c *Client) WantPublish(topic, payload string) codec.Publish {
	c.t.Helper()
	var p codec.Publish
	c.Want(codec.PUBLISH, &p)
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %q on %q, want %q on %q", p.Payload, p.Topic, payload, topic)
	}
	return p
}

// WantClosed checks that the broker closes without a further packet.
func (c *Client) WantClosed() {
	c.t.Helper()
	h, body, err := c.Next()
	if err == nil {
		c.t.Fatalf("got %s % x, want the end of the connection", h.Type, body)
	}
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("the connection is still open")
	}
}

// WantNothing checks that nothing came before the answer to a ping.
func (c *Client) WantNothing() {
	c.t.Helper()
	c.Raw(codec.AppendPingreq(nil))
	c.Want(codec.PINGRESP, nil)
}

// Ack sends an acknowledgement.
func (c *Client) Ack(t codec.Type, id uint16) {
	c.t.Helper()
	c.Send(&codec.Ack{Type: t, PacketID: id})
}

// Close ends the connection without DISCONNECT.
func (c *Client) Close() { _ = c.Conn.Close() }

// Hangup ends it without DISCONNECT and waits until the broker has noticed: a delayed will and the session's
// expiry count from then.
func (c *Client) Hangup() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
	c.discard()
}

// discard reads to the end.
func (c *Client) discard() {
	c.t.Helper()
	if err := c.Conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
		c.t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c.Conn)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("the broker does not close")
	}
	c.Close()
}

// Disconnect ends it with one and waits until the broker has closed.
func (c *Client) Disconnect() {
	c.t.Helper()
	c.Send(&codec.Disconnect{})
	c.discard()
}
