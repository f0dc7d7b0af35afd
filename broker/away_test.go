package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/codec"
)

// bounded has a bound for queues in memory and no other.
func bounded(bytes int64) changeFunc {
	return func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MaxQueuedMessages, o.MaxQueuedMemory = 0, bytes
	}
}

// body is the payload of message i.
func body(i, size int) string { return fmt.Sprintf("%0*d", size, i) }

// publishRange publishes messages from up to to, with QoS 1, and waits until all are acknowledged.
func publishRange(t *testing.T, d *fixture, topic string, from, to, size int) {
	t.Helper()
	c := d.connect("publisher", codec.V311, nil)
	for at := from; at < to; at += 100 {
		end := min(at+100, to)
		for i := at; i < end; i++ {
			c.Publish(topic, body(i, size), 1, uint16(1+i%1000))
		}
		for range end - at {
			c.Want(codec.PUBACK, nil)
		}
	}
	c.Disconnect()
}

// takeRange takes and acknowledges messages from up to to, in order.
func takeRange(t *testing.T, c *brokertest.Client, from, to, size int) {
	t.Helper()
	for i := from; i < to; {
		var p codec.Publish
		if takeNext(t, c, &p) {
			if string(p.Payload) != body(i, size) {
				t.Fatalf("got %.40s, want %d", p.Payload, i)
			}
			i++
		}
	}
}

// takeNext takes and answers the next packet; true if it is a PUBLISH.
func takeNext(t *testing.T, c *brokertest.Client, p *codec.Publish) bool {
	t.Helper()
	h, body, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	if h.Type == codec.PUBREL {
		a := codec.Ack{Type: h.Type}
		if err := a.Parse(h.Flags, body, codec.V5); err != nil {
			t.Fatal(err)
		}
		c.Ack(codec.PUBCOMP, a.PacketID)
		return false
	}
	if h.Type != codec.PUBLISH {
		t.Fatalf("%s", h.Type)
	}
	if err := p.Parse(h.Flags, body, codec.V5); err != nil {
		t.Fatal(err)
	}
	switch p.QoS {
	case 1:
		c.Ack(codec.PUBACK, p.PacketID)
	case 2:
		c.Ack(codec.PUBREC, p.PacketID)
	}
	return true
}

// subscribed leaves an offline session behind.
func subscribed(d *fixture, id, filter string, qos uint8) {
	c := d.connect(id, codec.V5, keep)
	c.Subscribe(filter, qos)
	c.Hangup()
	brokertest.Until(d.t, d.b, "offline", func(m *broker.Metrics) bool { return m.Connections == 0 })
}

// A queue that is not in memory arrives whole and in order, across connections and kills, and what a client
// has not taken is not brought back for nothing.
func TestQueueOnDiskArrivesInOrder(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const n, size, bound = 2000, 100, 20000
		d := newDurable(t, loops, bounded(bound))
		subscribed(d.fixture, "s", "t", 2)
		publishRange(t, d.fixture, "t", 0, n, size)
		check := func(least int64) {
			t.Helper()
			m := brokertest.Settle(t, d.b)
			if in := m.QueuedBytes - m.QueuedDiskBytes; in > bound || m.QueuedBytes < least {
				t.Errorf("%d bytes queued, %d in memory", m.QueuedBytes, in)
			}
		}
		check(n * size)
		c, _ := d.present("s", codec.V5, keep)
		takeRange(t, c, 0, 500, size)
		c.Hangup()
		brokertest.Until(t, d.b, "offline", func(m *broker.Metrics) bool { return m.Connections == 0 })
		check((n - 600) * size)
		save(t, d.b)
		d.crash(t, 5-loops)
		check((n - 600) * size)
		publishRange(t, d.fixture, "t", n, n+100, size)
		c, _ = d.present("s", codec.V5, keep)
		takeRange(t, c, 500, n+50, size)
		publishRange(t, d.fixture, "t", n+100, n+200, size)
		takeRange(t, c, n+50, n+200, size)
		c.WantNothing()
		brokertest.Until(t, d.b, "empty", func(m *broker.Metrics) bool {
			return m.QueuedMessages == 0 && m.QueuedBytes == 0 && m.QueuedDiskBytes == 0
		})
		d.store.mu.Lock()
		defer d.store.mu.Unlock()
		if d.store.reads > 3*n {
			t.Errorf("%d reads of %d messages", d.store.reads, n)
		}
	})
}

// Sessions that share messages give them up and end on their own; what ends leaves nothing in the store.
func TestQueuesOnDiskAreRemoved(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, bounded(300))
		for i := range 6 {
			subscribed(d.fixture, fmt.Sprint("s", i), "t", uint8(1+i%2))
		}
		publishRange(t, d.fixture, "t", 0, 40, 50)
		d.crash(t, loops)
		for i := range 6 {
			id := fmt.Sprint("s", i)
			switch i % 3 {
			case 0:
				c, _ := d.present(id, codec.V5, keep)
				takeRange(t, c, 0, 40, 50)
				c.Hangup()
			case 1: // [MQTT-3.1.2-4]
				d.connect(id, codec.V5, func(p *codec.Connect) { p.CleanStart = true })
			}
		}
		brokertest.Until(t, d.b, "acknowledged", func(m *broker.Metrics) bool { return m.QueuedMessages == 80 })
		d.advance(1001) // the others expire
		brokertest.Until(t, d.b, "expired", func(m *broker.Metrics) bool { return m.QueuedMessages == 0 })
		save(t, d.b)
		n := 0
		err := d.mem.Walk(store.Messages, func(_, _ []byte) error { n++; return nil })
		if n != 0 || err != nil {
			t.Errorf("%d messages are left, %v", n, err)
		}
	})
}

// Message Expiry counts while a message is on disk [MQTT-3.3.2-5], and QoS 0 that is queued goes there too.
func TestQueueOnDiskExpiresAndHoldsQoS0(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxQueuedMemory, o.QueueQoS0 = 1, true
		})
		subscribed(d.fixture, "s", "t", 2)
		pub := d.connect("p", codec.V5, nil)
		for i := range 90 {
			p := codec.Publish{Topic: []byte("t"), Payload: []byte(body(i, 9)), QoS: uint8(i % 3), PacketID: 1}
			if i%2 == 1 {
				p.Properties = uintProp(codec.MessageExpiry, 10)(nil)
			}
			pub.Send(&p)
			switch p.QoS {
			case 1:
				pub.Want(codec.PUBACK, nil)
			case 2:
				pub.Want(codec.PUBREC, nil)
				pub.Ack(codec.PUBREL, 1)
				pub.Want(codec.PUBCOMP, nil)
			}
		}
		m := brokertest.Until(t, d.b, "queued", func(m *broker.Metrics) bool { return m.QueuedMessages == 90 })
		if m.QueuedDiskBytes != m.QueuedBytes {
			t.Errorf("%d of %d bytes on disk", m.QueuedDiskBytes, m.QueuedBytes)
		}
		d.advance(11)
		c, _ := d.present("s", codec.V5, keep)
		for i := 0; i < 90; i += 2 {
			takeRange(t, c, i, i+1, 9)
		}
		brokertest.Until(t, d.b, "taken", func(m *broker.Metrics) bool {
			return m.QueuedMessages+m.QueueReads == 0
		})
		if n := d.dropped(broker.DropExpired); n != 45 {
			t.Errorf("%d expired", n)
		}
	})
}

func TestSharedQueuesOnDisk(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, bounded(200))
		for i := range 4 {
			subscribed(d.fixture, fmt.Sprint("s", i), "$share/g/t", 1)
		}
		publishRange(t, d.fixture, "t", 0, 200, 20)
		d.crash(t, loops)
		seen := map[string]int{}
		for i := range 4 {
			c, _ := d.present(fmt.Sprint("s", i), codec.V5, keep)
			last := ""
			for range 50 {
				var p codec.Publish
				c.Want(codec.PUBLISH, &p)
				c.Ack(codec.PUBACK, p.PacketID)
				if string(p.Payload) <= last {
					t.Errorf("%s after %s", p.Payload, last)
				}
				last = string(p.Payload)
				seen[last]++
			}
			c.WantNothing()
		}
		if len(seen) != 200 {
			t.Errorf("%d of 200 messages", len(seen))
		}
	})
}

// A connection that comes or goes while messages are read for the one before loses and doubles nothing.
func TestConnectionsChangeWhileQueuesAreRead(t *testing.T) {
	d := newDurable(t, 1, bounded(100))
	subscribed(d.fixture, "s", "t", 1)
	publishRange(t, d.fixture, "t", 0, 300, 10)
	stop := func() (goOn func()) {
		gate := make(chan struct{})
		d.store.mu.Lock()
		defer d.store.mu.Unlock()
		d.store.readGate = gate
		return func() {
			d.store.mu.Lock()
			d.store.readGate = nil
			d.store.mu.Unlock()
			close(gate)
		}
	}
	goOn := stop()
	first, _ := d.present("s", codec.V5, keep)
	takeRange(t, first, 0, 10, 10)              // what is in memory
	second, _ := d.present("s", codec.V5, keep) // [MQTT-3.1.4-3]
	var p codec.Disconnect
	if first.Want(codec.DISCONNECT, &p); p.Reason != codec.SessionTakenOver {
		t.Errorf("%s", p.Reason)
	}
	goOn()
	takeRange(t, second, 10, 100, 10)

	goOn = stop()
	second.Hangup()
	brokertest.Until(t, d.b, "offline", func(m *broker.Metrics) bool { return m.Connections == 0 })
	third, _ := d.present("s", codec.V5, keep)
	third.Hangup()
	brokertest.Until(t, d.b, "offline", func(m *broker.Metrics) bool { return m.Connections == 0 })
	goOn()
	brokertest.Settle(t, d.b)
	fourth, _ := d.present("s", codec.V5, keep)
	takeRange(t, fourth, 100, 200, 10)

	goOn = stop()
	fourth.Hangup()
	brokertest.Until(t, d.b, "offline", func(m *broker.Metrics) bool { return m.Connections == 0 })
	fifth, _ := d.present("s", codec.V5, keep)
	d.connect("s", codec.V5, func(p *codec.Connect) { p.CleanStart = true }).WantNothing()
	fifth.Close()
	goOn()
	m := brokertest.Until(t, d.b, "ended", func(m *broker.Metrics) bool { return m.QueuedMessages == 0 })
	if m.QueuedDiskBytes != 0 {
		t.Errorf("%d bytes on disk", m.QueuedDiskBytes)
	}
}

// Reads that fail withhold the queue of the session, and nothing else; afterwards it goes on.
func TestFailingReads(t *testing.T) {
	log := &lines{}
	d := newDurable(t, 1, func(o *broker.Options, l *broker.ListenerOptions) {
		bounded(100)(o, l)
		o.Log = slog.New(log)
	})
	subscribed(d.fixture, "s", "t", 1)
	publishRange(t, d.fixture, "t", 0, 50, 10)
	d.store.mu.Lock()
	d.store.readFails = errors.New("input/output error")
	d.store.mu.Unlock()
	c, _ := d.present("s", codec.V5, keep)
	takeRange(t, c, 0, 10, 10)
	other := d.connect("other", codec.V5, keep)
	other.Subscribe("t", 1)
	publishRange(t, d.fixture, "t", 50, 60, 10)
	takeRange(t, other, 50, 60, 10)
	for range 3 {
		d.advance(1)
	}
	c.WantNothing()
	log.mu.Lock()
	text := strings.Join(log.text, "\n")
	log.mu.Unlock()
	if strings.Count(text, "Queued messages of s cannot be read, it waits for them: input/output error") != 1 {
		t.Errorf("log: %s", text)
	}
	d.store.mu.Lock()
	d.store.readFails = nil
	d.store.mu.Unlock()
	d.advance(2)
	takeRange(t, c, 10, 60, 10)
	c.WantNothing()
	if !log.has("Queued messages can be read again.") {
		t.Errorf("log: %q", log.text)
	}
}

// Messages that are given up before they are durable wait for that; they are delivered once the disk takes
// them.
func TestQueueOnDiskThatIsNotWrittenYet(t *testing.T) {
	d := newDurable(t, 1, bounded(1))
	subscribed(d.fixture, "s", "t", 1)
	save(t, d.b)
	gate := make(chan struct{})
	d.store.mu.Lock()
	d.store.gate = gate
	d.store.mu.Unlock()
	pub := d.connect("p", codec.V311, nil)
	for i := range 10 {
		pub.Publish("t", body(i, 10), 1, uint16(i+1))
	}
	brokertest.Until(t, d.b, "queued", func(m *broker.Metrics) bool { return m.QueuedDiskBytes == 100 })
	c := brokertest.Dial(t, d.addr, codec.V5)
	p := codec.Connect{Version: codec.V5, ClientID: []byte("s"), Properties: uintProp(codec.SessionExpiry, 1000)(nil)}
	c.Send(&p)
	brokertest.Until(t, d.b, "connected", func(m *broker.Metrics) bool { return m.Connections == 2 })
	close(gate)
	c.Want(codec.CONNACK, nil)
	takeRange(t, c, 0, 10, 10)
}

// heapBytes is what is in use after a collection.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// 20 000 messages of 1 KB under a bound of 1 MB take less than 8 MB, while they come, after a restart and while
// they go; apart from the part of the log that is being folded, which waits in memory for commits.
func TestQueueOnDiskIsSmall(t *testing.T) {
	const n, size, bound, most = 20000, 1024, 1 << 20, 8 << 20
	path := filepath.Join(t.TempDir(), "db")
	before := heapBytes()
	small := func(when string) {
		t.Helper()
		used := heapBytes() - before
		t.Logf("%s: %d bytes", when, used)
		if used > most {
			t.Errorf("%s: %d bytes in use", when, used)
		}
	}
	open := func() (*fixture, func()) {
		s, err := bolt.Open(path, bolt.Options{NoSync: true, FoldBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		x := &fixture{t: t, clock: brokertest.NewClock()}
		x.b, x.addr = brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
			o.Clock, o.Loops, o.Store = x.clock.Source(), 2, s
			bounded(bound)(o, l)
		})
		return x, func() {
			if err := errors.Join(x.b.Shutdown(t.Context()), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	x, end := open()
	subscribed(x, "s", "t", 1)
	publishRange(t, x, "t", 0, n, size)
	if m := brokertest.Settle(t, x.b); m.QueuedBytes != n*size || m.QueuedBytes-m.QueuedDiskBytes > bound {
		t.Errorf("%d bytes queued, %d on disk", m.QueuedBytes, m.QueuedDiskBytes)
	}
	small("queued")
	c, _ := x.present("s", codec.V5, keep)
	takeRange(t, c, 0, n/4, size)
	small("a quarter was taken")
	c.Hangup()
	brokertest.Until(t, x.b, "offline", func(m *broker.Metrics) bool { return m.Connections == 0 })
	end()
	x, end = open()
	small("after a restart")
	c, _ = x.present("s", codec.V5, keep)
	takeRange(t, c, n/4, n, size)
	end()
}
