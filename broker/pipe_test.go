package broker_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/wsnet"
)

// inside is a client of the program's own.
func (x *fixture) inside(id string, v codec.Version) *brokertest.Client {
	x.t.Helper()
	c := brokertest.On(x.t, x.b.Pipe(), v)
	if ack := c.Connack(id, nil); ack.Reason != codec.Success {
		x.t.Fatal(ack.Reason)
	}
	return c
}

// TestPipeOfTheProgramItself needs no listener and no password, and may do what no client of a listener may.
func TestPipeOfTheProgramItself(t *testing.T) {
	var log bytes.Buffer
	closed := func(o *broker.Options, l *broker.ListenerOptions) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		l.Policy = &auth.Policy{Authorizers: []auth.Authorizer{aclOf(t, "topic read open/#")}}
	}
	x := newFixture(t, closed)
	if ack := brokertest.Dial(t, x.addr, codec.V5).Connack("stranger", nil); ack.Reason != codec.NotAuthorized {
		t.Fatalf("CONNACK %s", ack.Reason)
	}
	c := x.inside("own", codec.V5)
	for qos := range uint8(3) {
		if r := c.Subscribe("shut/#", qos); r != codec.Reason(qos) {
			t.Errorf("SUBACK %s", r)
		}
		receive2(t, c, qos)
	}
	if n := len(x.b.Listeners()); n != 1 {
		t.Errorf("%d listeners", n)
	}
	c.Disconnect()
	if !bytes.Contains(log.Bytes(), []byte("New client connected from pipe:0 as own")) {
		t.Error("the log does not tell of it")
	}
}

// receive2 publishes to the client itself, and takes the message with its handshakes.
func receive2(t *testing.T, c *brokertest.Client, qos uint8) {
	t.Helper()
	c.Publish("shut/x", "m", qos, 9)
	if qos == 2 {
		c.Want(codec.PUBREC, nil)
		c.Ack(codec.PUBREL, 9)
	}
	p := c.WantPublish("shut/x", "m")
	if p.QoS != qos {
		t.Errorf("QoS %d, want %d", p.QoS, qos)
	}
	switch qos {
	case 1:
		c.Want(codec.PUBACK, nil)
		c.Ack(codec.PUBACK, p.PacketID)
	case 2:
		c.Want(codec.PUBCOMP, nil)
		c.Ack(codec.PUBREC, p.PacketID)
		c.Want(codec.PUBREL, nil)
		c.Ack(codec.PUBCOMP, p.PacketID)
	}
}

// TestPipeOfAListener is under the listener's options, mount point and policy included.
func TestPipeOfAListener(t *testing.T) {
	x := newFixture(t, onSockets(func(_ *broker.Options, l *broker.ListenerOptions) { l.MountPoint = "m/" }))
	l := x.b.Listener(x.addr.Name())
	if l == nil || l != x.addr || x.b.Listener("tcp nowhere") != nil {
		t.Fatalf("%q is %v", x.addr.Name(), l)
	}
	c := brokertest.On(t, l.Pipe(), codec.V5)
	c.Connack("c", nil)
	own := x.inside("own", codec.V5)
	own.Subscribe("m/t", 0)
	c.Publish("t", "mounted", 0, 0)
	own.WantPublish("m/t", "mounted")

	named, err := x.b.Listen(broker.ListenerOptions{
		Net: wsnet.ListenerConfig{Network: wsnet.PipeNetwork, Address: "history"}, AllowAnonymous: true, MaxQoS: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if x.b.Listener("pipe history") != named {
		t.Errorf("it is called %q", named.Name())
	}
	brokertest.Connect(t, named, "history", codec.V311, nil).WantNothing()
}

// TestPipeHasALife: a session that is kept, keep alive, No Local, properties, and the end of the broker, as over a
// socket; most other tests of this package use pipes anyway.
func TestPipeHasALife(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := brokertest.On(t, x.b.Pipe(), codec.V5)
		c.Connack("c", both(with(expiry(1000)), keepAlive(10)))
		c.SubscribeWith(codec.Filter{Name: []byte("t"), QoS: 1, NoLocal: true}, nil)
		c.Publish("t", "own", 1, 1)
		c.Want(codec.PUBACK, nil)
		c.WantNothing() // [MQTT-3.8.3-3]
		x.advance(20)
		c.WantClosed() // [MQTT-3.1.2-22]
		pub := x.connect("pub", codec.V5, nil)
		user := codec.AppendUserProperty(nil, []byte("k"), []byte("v"))
		pub.Send(&codec.Publish{Topic: []byte("t"), Payload: []byte("queued"), QoS: 1, PacketID: 1, Properties: user})
		pub.Want(codec.PUBACK, nil)
		c = brokertest.On(t, x.b.Pipe(), codec.V5)
		if ack := c.Connack("c", func(p *codec.Connect) { p.CleanStart = false }); !ack.SessionPresent {
			t.Error("the session is gone")
		}
		if p := c.WantPublish("t", "queued"); !bytes.Equal(p.Properties, user) {
			t.Errorf("properties % x", []byte(p.Properties))
		}
	})
	x := newFixture(t, nil)
	c := x.inside("c", codec.V5)
	if err := x.b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.WantClosed()
	late := x.b.Pipe()
	_ = late.SetDeadline(time.Now().Add(brokertest.Timeout))
	if _, err := late.Write([]byte{0xC0, 0}); err == nil {
		t.Error("a pipe of a broker that has ended takes bytes")
	}
}
