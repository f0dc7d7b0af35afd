package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// deaf makes a client's socket take little before the broker's writes block.
func deaf(t testing.TB, c *brokertest.Client) {
	t.Helper()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
}

// A client that does not read loses QoS 0 messages, each counted; others lose none.
func TestSlowReceiverQoS0(t *testing.T) {
	small := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxBufferedBytes = 16 << 10 }
	onEach(t, small, func(t *testing.T, x *fixture) {
		slow := x.connect("slow", codec.V311, nil)
		fast := x.connect("fast", codec.V5, nil)
		for _, c := range []*brokertest.Client{slow, fast} {
			c.Subscribe("s", 0)
		}
		pub := x.connect("pub", codec.V311, nil)
		const n, batch = 2000, 10
		filler := strings.Repeat("x", 20<<10) // 40 MB in all: more than the kernel takes
		for i := range n {
			pub.Publish("s", fmt.Sprint(i, " ", filler), 0, 0)
			if i%batch == batch-1 {
				for k := range batch {
					fast.WantPublish("s", fmt.Sprint(i-batch+1+k, " ", filler))
				}
			}
		}
		lost := x.dropped(broker.DropSlowReceiver)
		if lost == 0 || lost >= n {
			t.Fatalf("%d of %d messages dropped", lost, n)
		}
		last := -1
		for range n - lost {
			var p codec.Publish
			slow.Want(codec.PUBLISH, &p)
			i := 0
			if _, err := fmt.Sscan(string(p.Payload), &i); err != nil || i <= last {
				t.Fatalf("%d after %d %v [MQTT-4.6.0-1]", i, last, err)
			}
			last = i
		}
		slow.WantNothing()
		pub.Publish("s", "it reads again", 0, 0)
		slow.WantPublish("s", "it reads again")
	})
}

// publishAll publishes n messages and waits for each acknowledgement.
func publishAll(c *brokertest.Client, topic string, n int, payload func(i int) string) {
	for i := range n {
		c.Publish(topic, payload(i), 1, uint16(i%65535+1))
		c.Want(codec.PUBACK, nil)
	}
}

func numbered(i int) string { return fmt.Sprintf("%05d", i) }

func TestQueueLimits(t *testing.T) {
	for _, tt := range []struct {
		name            string
		change          changeFunc
		flight, waiting int
	}{
		{"messages", func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxQueuedMessages = 50 }, 20, 50},
		{"bytes", func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxQueuedBytes = 101 }, 20, 21},
		{"both", func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxQueuedBytes, o.MaxQueuedMessages = 500, 3
		}, 20, 3},
		{"window", func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxInflight, o.MaxQueuedMessages = 7, 10
		}, 7, 10},
		{"window in bytes", func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxInflightBytes, o.MaxQueuedMessages = 11, 10
		}, 3, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, tt.change, func(t *testing.T, x *fixture) {
				sub := x.connect("sub", codec.V311, func(p *codec.Connect) { p.CleanStart = false })
				sub.Subscribe("q", 1)
				pub := x.connect("pub", codec.V311, nil)
				const n = 100
				publishAll(pub, "q", n, numbered)
				all := tt.flight + tt.waiting
				m := brokertest.Settle(t, x.b)
				if m.InflightMessages != int64(tt.flight) || m.QueuedMessages != int64(tt.waiting) ||
					m.QueuedBytes != int64(5*tt.waiting) || m.Dropped[broker.DropQueueFull] != int64(n-all) {
					t.Fatalf("%d in flight, %d queued, %d bytes, dropped %v",
						m.InflightMessages, m.QueuedMessages, m.QueuedBytes, m.Dropped)
				}
				for i := range all { // new messages were dropped, never old ones
					receive(t, sub, "q", numbered(i), 1)
				}
				sub.WantNothing()
				exchange(t, pub, "q", "there is room again", 1)
				receive(t, sub, "q", "there is room again", 1)
			})
		})
	}
}

func TestOfflineQueueLimits(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxQueuedMessages = 30 }
	onEach(t, limit, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(expiry(1000)))
		sub.Subscribe("q", 2)
		sub.Disconnect()
		pub := x.connect("pub", codec.V311, nil)
		publishAll(pub, "q", 40, numbered)
		pub.Publish("q", "QoS 0", 0, 0)
		exchange(t, pub, "other", "", 1)
		m := brokertest.Settle(t, x.b)
		if m.Dropped[broker.DropQueueFull] != 10 || m.Dropped[broker.DropOffline] != 1 {
			t.Errorf("dropped %v", m.Dropped)
		}
		sub, _ = x.present("sub", codec.V5, nil)
		for i := range 30 {
			receive(t, sub, "q", numbered(i), 1)
		}
		sub.WantNothing()
	})
}

func TestQueueQoS0Messages(t *testing.T) {
	queue := func(o *broker.Options, _ *broker.ListenerOptions) { o.QueueQoS0, o.MaxQueuedMessages = true, 3 }
	onEach(t, queue, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, with(expiry(1000)))
		sub.Subscribe("q", 0)
		sub.Disconnect()
		pub := x.connect("pub", codec.V311, nil)
		publishAll(pub, "q", 5, numbered)
		if n := x.dropped(broker.DropQueueFull); n != 2 {
			t.Errorf("%d dropped", n)
		}
		sub, _ = x.present("sub", codec.V5, nil)
		for i := range 3 {
			receive(t, sub, "q", numbered(i), 0)
		}
		sub.WantNothing()
	})
}

// A client whose socket is stuck keeps what is in flight and what waits, and gets all of it in order on its
// next connection, the first part with DUP [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func TestStuckReceiverResumesInOrder(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MaxQueuedMessages, o.MaxBufferedBytes = 100, 64<<10
	}
	onEach(t, onSockets(limit), func(t *testing.T, x *fixture) {
		filler := strings.Repeat("y", 1<<20)
		payload := func(i int) string { return fmt.Sprint(i, " ", filler) }
		sub := x.connect("sub", codec.V5, with(expiry(1000)))
		deaf(t, sub)
		sub.Subscribe("q", 1)
		pub := x.connect("pub", codec.V311, nil)
		publishAll(pub, "q", 50, payload)
		m := brokertest.Settle(t, x.b)
		sent := int(m.InflightMessages)
		if sent == 0 || sent > 20 || m.QueuedMessages != int64(50-sent) {
			t.Fatalf("%d in flight, %d queued", sent, m.QueuedMessages)
		}
		sub.Close()
		brokertest.Until(t, x.b, "the end", func(m *broker.Metrics) bool { return m.Connections == 1 })
		publishAll(pub, "q", 10, func(i int) string { return fmt.Sprint("later ", i) })
		sub, _ = x.present("sub", codec.V5, with(expiry(1000)))
		for i := range 50 {
			if p := receive(t, sub, "q", payload(i), 1); p.Dup != (i < sent) {
				t.Errorf("message %d has DUP %v [MQTT-3.3.1-1]", i, p.Dup)
			}
		}
		for i := range 10 {
			receive(t, sub, "q", fmt.Sprint("later ", i), 1)
		}
		if n := x.dropped(broker.DropQueueFull); n != 0 {
			t.Errorf("%d dropped", n)
		}
	})
}

// flood writes b again and again until the broker has closed the only connection.
func (x *fixture) flood(c *brokertest.Client, b []byte) {
	x.t.Helper()
	chunk := bytes.Repeat(b, max(1, 1<<20/len(b)))
	if err := c.Conn.SetWriteDeadline(time.Now().Add(brokertest.Timeout)); err != nil {
		x.t.Fatal(err)
	}
	for range 100 {
		_, err := c.Conn.Write(chunk)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			x.t.Fatal("the broker neither reads on nor closes")
		}
		if m := brokertest.Settle(x.t, x.b); m.Connections == 0 {
			return
		}
	}
	x.t.Fatal("100 MB and the broker has not closed")
}

// Who makes the broker answer and never reads the answers is closed.
func TestUnreadAnswers(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxBufferedBytes = 64 << 10 }
	sub := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("a")}}}
	uns := codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("a")}}
	pub := codec.Publish{Topic: []byte("nobody"), QoS: 1, PacketID: 1}
	pub2 := codec.Publish{Topic: []byte("nobody"), QoS: 2, PacketID: 1}
	ack := func(t codec.Type) []byte {
		a := codec.Ack{Type: t, PacketID: 1}
		return a.Append(nil, codec.V5)
	}
	for name, packet := range map[string][]byte{
		"PINGREQ": codec.AppendPingreq(nil), "SUBSCRIBE": sub.Append(nil, codec.V5),
		"UNSUBSCRIBE": uns.Append(nil, codec.V5), "PUBLISH QoS 1": pub.Append(nil, codec.V5),
		"PUBLISH QoS 2": pub2.Append(nil, codec.V5), "PUBREL": ack(codec.PUBREL), "PUBREC": ack(codec.PUBREC),
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, limit, func(_ *testing.T, x *fixture) {
				c := x.connect("c", codec.V5, nil) // its pipe takes little, as a deaf socket does
				x.flood(c, packet)
			})
		})
	}
}

// A slow line is no reason to close: the answers are few, only the messages are large.
func TestPingWhileMessagesAreInTransit(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MaxBufferedBytes, o.MaxPacketSize = 64<<10, 0
	}
	onEach(t, limit, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("big", 1)
		pub := x.connect("pub", codec.V311, nil)
		filler := strings.Repeat("z", 24<<20) // more than the kernel takes
		publishAll(pub, "big", 2, func(int) string { return filler })
		for range 100 {
			sub.Raw(codec.AppendPingreq(nil))
		}
		m := brokertest.Until(t, x.b, "reading the pings", func(m *broker.Metrics) bool {
			return m.PacketsReceived >= 3+3+100-1 || m.Connections == 1
		})
		if m.Connections != 2 || m.InflightMessages != 1 || m.QueuedMessages != 1 {
			t.Fatalf("%d connections, %d in flight, %d queued",
				m.Connections, m.InflightMessages, m.QueuedMessages)
		}
		receive(t, sub, "big", filler, 1)
		for range 100 {
			sub.Want(codec.PINGRESP, nil)
		}
		receive(t, sub, "big", filler, 1)
		sub.WantNothing()
	})
}

// Members of a shared subscription that do not read are passed over, for QoS 0 as well.
func TestStuckMemberOfASharedSubscription(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxBufferedBytes = 64 << 10 }
	onEach(t, onSockets(limit), func(t *testing.T, x *fixture) {
		stuck := x.connect("stuck", codec.V5, nil)
		deaf(t, stuck)
		reads := x.connect("reads", codec.V5, nil)
		for _, c := range []*brokertest.Client{stuck, reads} {
			c.Subscribe("$share/g/s", 0)
		}
		pub := x.connect("pub", codec.V5, nil)
		filler := strings.Repeat("x", 20<<10)
		const n = 1500
		for range n {
			pub.Publish("s", filler, 0, 0)
			exchange(t, pub, "nobody", "", 1)
			brokertest.Settle(t, x.b)
			reads.Raw(codec.AppendPingreq(nil))
			for {
				h, _, err := reads.Next()
				if err != nil {
					t.Fatal(err)
				}
				if h.Type == codec.PINGRESP {
					break
				}
			}
		}
		if lost := x.dropped(broker.DropSlowReceiver); lost > 20 { // one each time its socket fills again
			t.Errorf("%d of %d messages were dropped, want those by which the member was found full", lost, n)
		}
	})
}

// Two loops that flood a third lose nothing: publishers feel it.
func TestPublishersFeelBackpressure(t *testing.T) {
	unlimited := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxQueuedMessages = 0 }
	onEach(t, unlimited, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V311, nil)
		sub.Subscribe("f/#", 1)
		const publishers, each = 6, 100
		filler := strings.Repeat("x", 64<<10)
		var pubs []*brokertest.Client
		for i := range publishers {
			pubs = append(pubs, x.connect(fmt.Sprint("p", i), codec.V311, nil))
		}
		done := make(chan struct{})
		for i, c := range pubs {
			go func() { // ends with its messages, or with the test's connections
				defer func() { done <- struct{}{} }()
				var b []byte
				for k := range each {
					p := codec.Publish{Topic: fmt.Append(nil, "f/", i), QoS: 1, PacketID: uint16(k + 1)}
					p.Payload = fmt.Append(nil, k, filler)
					b = p.Append(b[:0], codec.V311)
					if _, err := c.Conn.Write(b); err != nil {
						return
					}
				}
			}()
		}
		var next [publishers]int
		for range publishers * each {
			var p codec.Publish
			sub.Want(codec.PUBLISH, &p)
			sub.Ack(codec.PUBACK, p.PacketID)
			i := int(p.Topic[2] - '0')
			if want := fmt.Append(nil, next[i], "x"); !bytes.HasPrefix(p.Payload, want) {
				t.Fatalf("publisher %d: message begins with %.8q, want %q [MQTT-4.6.0-1]", i, p.Payload, want)
			}
			next[i]++
		}
		for range publishers {
			<-done
		}
		if m := brokertest.Settle(t, x.b); m.DroppedTotal() != 0 {
			t.Errorf("dropped %v", m.Dropped)
		}
	})
}

// A crowd that takes several turns: each member gets each message once and in order, members that come and
// go meanwhile included.
func TestLargeCrowdGetsEverythingInOrder(t *testing.T) {
	one := func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = 1 }
	for _, portable := range []bool{false, true} {
		t.Run(map[bool]string{false: "one loop", true: "portable"}[portable], func(t *testing.T) {
			x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
				one(o, l)
				o.Portable = portable
			})
			const members, messages = 2500, 40 // more than a slice, more than the backlog
			var subs []*brokertest.Client
			for i := range members {
				c := x.connect(fmt.Sprint("s", i), codec.V311, nil)
				c.Subscribe("crowd", 0)
				subs = append(subs, c)
			}
			pub := x.connect("pub", codec.V311, nil)
			for i := range messages {
				pub.Publish("crowd", fmt.Sprint(i), 0, 0)
				if i == messages/2 {
					for _, c := range subs[:100] {
						c.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("crowd")}})
					}
				}
			}
			exchange(t, pub, "nobody", "", 1)
			for _, c := range subs[100:] {
				for i := range messages {
					c.WantPublish("crowd", fmt.Sprint(i))
				}
				c.WantNothing()
			}
			for _, c := range subs[:100] {
				i := 0
				for ; ; i++ {
					h, body, err := c.Next()
					if err != nil {
						t.Fatal(err)
					}
					if h.Type == codec.UNSUBACK {
						break
					}
					if !bytes.HasSuffix(body, fmt.Append(nil, "crowd", i)) {
						t.Fatalf("message %q, want number %d", body, i)
					}
				}
				c.WantNothing() // nothing after UNSUBACK [MQTT-3.10.4-2]
			}
			if m := brokertest.Settle(t, x.b); m.Subscriptions != members-100 || m.DroppedTotal() != 0 {
				t.Errorf("%d subscriptions, dropped %v", m.Subscriptions, m.Dropped)
			}
		})
	}
}
