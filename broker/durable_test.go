package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/codec"
)

// A power cut for a broker: its store stops taking commits at a moment, and the next broker begins with
// what the store has.
type cut struct {
	*store.Memory
	mu    sync.Mutex
	off   bool
	left  int // commits until it goes off; 0: it stays on
	fails error
	most  int           // bytes that one commit may have, 0: any number
	gate  chan struct{} // commits wait for it if it is set

	readGate  chan struct{} // reads wait for it if it is set
	readFails error
	reads     int // messages that were read
}

// ReadMessages implements store.Reader.
func (c *cut) ReadMessages(ids []uint64, f func(i int, value []byte) error) error {
	c.mu.Lock()
	gate, err := c.readGate, c.readFails
	c.reads += len(ids)
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if err != nil {
		return err
	}
	return c.Memory.ReadMessages(ids, f)
}

var errOff = errors.New("power is off")

func (c *cut) Commit(batches ...[]byte) error {
	c.mu.Lock()
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left > 0 {
		if c.left--; c.left == 0 {
			c.off = true
		}
	}
	if c.off {
		return errOff
	}
	if c.fails != nil {
		return c.fails
	}
	size := 0
	for _, raw := range batches {
		size += len(raw)
	}
	if c.most > 0 && size > c.most {
		return errors.New("no space left on device")
	}
	return c.Memory.Commit(batches...)
}

func (c *cut) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails = err
}

// durable is brokers one after the other on the same store.
type durable struct {
	*fixture
	mem    *store.Memory
	store  *cut
	loops  int
	change changeFunc
}

func newDurable(t *testing.T, loops int, change changeFunc) *durable {
	d := &durable{mem: store.NewMemory(), loops: loops, change: change}
	d.start(t)
	return d
}

func (d *durable) start(t *testing.T) {
	t.Helper()
	d.store = &cut{Memory: d.mem}
	s := d.store
	clock := d.fixture
	x := &fixture{t: t, clock: brokertest.NewClock()}
	if clock != nil {
		x.clock = clock.clock
	}
	x.b, x.addr = brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Clock, o.Loops, o.Store = x.clock.Source(), d.loops, s
		if d.change != nil {
			d.change(o, l)
		}
	})
	d.fixture = x
}

// crash ends the broker as a kill does, as far as the store is concerned, and starts the next with as many
// loops.
func (d *durable) crash(t *testing.T, loops int) {
	t.Helper()
	d.store.mu.Lock()
	d.store.off = true
	d.store.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	_ = d.b.Shutdown(ctx) // what it could not keep is no error here
	wantReferences(t, d.mem)
	d.loops = loops
	d.start(t)
}

// wantReferences holds the records of a store against those that they refer to: whatever moment a crash comes at, no
// queue refers to a message that has gone.
func wantReferences(t *testing.T, s store.Store) {
	t.Helper()
	var refs state.References
	for table := range store.Tables {
		err := s.Walk(table, func(k, v []byte) error {
			if err := refs.Look(table, k, v); err != nil {
				t.Errorf("%s: %x: %v", table, k, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// restart ends the broker in order.
func (d *durable) restart(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	if err := d.b.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	d.start(t)
}

func onLoops(t *testing.T, f func(t *testing.T, loops int)) {
	for _, loops := range []int{1, 4} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			t.Parallel()
			f(t, loops)
		})
	}
}

// onBounds is onLoops with all queues in memory and with none.
func onBounds(t *testing.T, f func(t *testing.T, loops int, change changeFunc)) {
	for name, change := range map[string]changeFunc{"in memory": nil, "on disk": bounded(1)} {
		t.Run(name, func(t *testing.T) {
			onLoops(t, func(t *testing.T, loops int) { f(t, loops, change) })
		})
	}
}

var keep = with(uintProp(codec.SessionExpiry, 1000))

// puback publishes with QoS 1 and waits for the acknowledgement.
func puback(c *brokertest.Client, topic, payload string) {
	c.Publish(topic, payload, 1, 9)
	c.Want(codec.PUBACK, nil)
}

// pubcomp publishes with QoS 2, the whole handshake.
func pubcomp(c *brokertest.Client, topic, payload string) {
	c.Publish(topic, payload, 2, 9)
	c.Want(codec.PUBREC, nil)
	c.Ack(codec.PUBREL, 9)
	c.Want(codec.PUBCOMP, nil)
}

func TestQueuedMessagesSurviveAKill(t *testing.T) {
	onBounds(t, func(t *testing.T, loops int, change changeFunc) {
		d := newDurable(t, loops, change)
		const subscribers = 5 // on several loops
		for i := range subscribers {
			c := d.connect(fmt.Sprint("s", i), codec.V5, keep)
			c.SubscribeWith(codec.Filter{Name: []byte("a/+"), QoS: 2, RetainAsPublished: true}, uintProp(codec.SubscriptionIdentifier, 7)(nil))
			c.Close()
		}
		pub := d.connect("p", codec.V5, nil)
		puback(pub, "a/1", "one")
		pubcomp(pub, "a/2", "two")
		pub.Send(&codec.Publish{
			QoS: 1, PacketID: 3, Retain: true, Topic: []byte("a/3"), Payload: []byte("three"),
			Properties: codec.AppendUserProperty(codec.AppendUintProperty(nil, codec.MessageExpiry, 60), []byte("k"), []byte("v")),
		})
		pub.Want(codec.PUBACK, nil)
		d.crash(t, 5-loops)
		d.advance(10)
		for i := range subscribers {
			c, present := d.present(fmt.Sprint("s", i), codec.V5, keep)
			if !present {
				t.Fatal("no session present")
			}
			for {
				h, body, err := c.Next()
				if err != nil || h.Type != codec.PUBLISH {
					t.Fatalf("%s, %v", h.Type, err)
				}
				var p codec.Publish
				if err := p.Parse(h.Flags, body, codec.V5); err != nil {
					t.Fatal(err)
				}
				id, _ := p.Properties.Uint(codec.SubscriptionIdentifier)
				if id != 7 {
					t.Errorf("subscription identifier %d", id)
				}
				if string(p.Topic) == "a/3" {
					left, _ := p.Properties.Uint(codec.MessageExpiry)
					if !p.Retain || left != 50 {
						t.Errorf("retain %v, %d s left", p.Retain, left)
					}
					break
				}
			}
			c.Close()
		}
		late := d.connect("late", codec.V311, nil)
		late.Subscribe("a/#", 1)
		if p := late.WantPublish("a/3", "three"); !p.Retain {
			t.Error("not retained")
		}
	})
}

// Every shared message goes to one member, and none is lost, whatever loop dealt it.
func TestSharedMessagesSurviveAKill(t *testing.T) {
	onBounds(t, func(t *testing.T, loops int, change changeFunc) {
		d := newDurable(t, loops, change)
		for i := range 4 {
			c := d.connect(fmt.Sprint("s", i), codec.V5, keep)
			c.Subscribe("$share/g/s", 1)
			c.Close()
		}
		pub := d.connect("p", codec.V5, nil)
		for i := range 40 {
			puback(pub, "s", fmt.Sprint(i))
		}
		d.crash(t, loops)
		brokertest.Settle(t, d.b)
		seen := map[string]int{}
		for i := range 4 {
			c, _ := d.present(fmt.Sprint("s", i), codec.V5, keep)
			for _, payload := range take(t, c).all(d.b).payloads() {
				if seen[payload]++; seen[payload] > 1 {
					t.Errorf("%s came twice", payload)
				}
			}
		}
		if len(seen) != 40 {
			t.Errorf("%v", seen)
		}
	})
}

// The handshakes of exactly once go on where they were, with their packet ids [MQTT-4.4.0-1].
func TestHandshakesSurviveAKill(t *testing.T) {
	onBounds(t, func(t *testing.T, loops int, change changeFunc) {
		d := newDurable(t, loops, change)
		sub := d.connect("s", codec.V5, keep)
		sub.Subscribe("t", 2)
		pub := d.connect("p", codec.V5, keep)
		for i := range 4 {
			pub.Publish("t", fmt.Sprint(i), 2, uint16(i+1))
			pub.Want(codec.PUBREC, nil)
		}
		for i := range 3 {
			pub.Ack(codec.PUBREL, uint16(i+1))
			pub.Want(codec.PUBCOMP, nil)
			sub.WantPublish("t", fmt.Sprint(i))
		}
		sub.Ack(codec.PUBREC, 1)
		sub.Want(codec.PUBREL, nil)
		sub.Ack(codec.PUBREC, 2)
		sub.Want(codec.PUBREL, nil)
		sub.Ack(codec.PUBCOMP, 2)
		brokertest.Until(t, d.b, "PUBCOMP", func(m *broker.Metrics) bool { return m.InflightMessages == 2 })
		save(t, d.b)
		d.crash(t, loops)

		sub, _ = d.present("s", codec.V5, keep)
		var a codec.Ack
		if sub.Want(codec.PUBREL, &a); a.PacketID != 1 {
			t.Errorf("PUBREL %d", a.PacketID)
		}
		if p := sub.WantPublish("t", "2"); p.PacketID != 3 || !p.Dup {
			t.Errorf("message 3 with id %d, dup %v", p.PacketID, p.Dup)
		}
		pub, _ = d.present("p", codec.V5, keep)
		pub.Send(&codec.Publish{Topic: []byte("t"), Payload: []byte("3"), QoS: 2, PacketID: 4, Dup: true})
		pub.Want(codec.PUBREC, nil)
		pub.Ack(codec.PUBREL, 4)
		if pub.Want(codec.PUBCOMP, &a); a.Reason != codec.Success {
			t.Errorf("PUBCOMP %s", a.Reason)
		}
		pub.Ack(codec.PUBREL, 1) // done before
		if pub.Want(codec.PUBCOMP, &a); a.Reason != codec.PacketIdentifierNotFound {
			t.Errorf("PUBCOMP %s", a.Reason)
		}
		sub.WantPublish("t", "3")
		sub.WantNothing()
	})
}

func save(t *testing.T, b *broker.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	if err := b.Save(ctx); err != nil {
		t.Fatal(err)
	}
}

// Nothing that promises durable state leaves before the commit; what needs none does not wait.
func TestPromisesWaitForTheCommit(t *testing.T) {
	d := newDurable(t, 1, nil)
	sub := d.connect("s", codec.V5, keep)
	sub.Subscribe("durable", 2)
	clean := d.connect("c", codec.V5, nil)
	clean.Subscribe("clean", 1)
	pub := d.connect("p", codec.V5, keep)
	brokertest.Settle(t, d.b)
	save(t, d.b)

	gate := make(chan struct{})
	d.store.mu.Lock()
	d.store.gate = gate
	d.store.mu.Unlock()
	pub.Publish("durable", "x", 1, 1) // PUBACK waits, the message of QoS 1 does not
	pub.Publish("durable", "y", 2, 2) // PUBREC waits
	pub.Publish("clean", "z", 1, 3)   // PUBACK waits behind them [MQTT-4.6.0-2]
	sub.WantPublish("durable", "x")
	clean.WantPublish("clean", "z")
	clean.Publish("clean", "own", 1, 1) // nothing durable about it
	clean.WantPublish("clean", "own")
	clean.Want(codec.PUBACK, nil)
	other := brokertest.Dial(t, d.addr, codec.V5)
	p := codec.Connect{Version: codec.V5, ClientID: []byte("new"), Properties: uintProp(codec.SessionExpiry, 5)(nil)}
	other.Send(&p) // CONNACK waits
	for _, c := range []*brokertest.Client{pub, other} {
		if err := c.Conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes left before the commit", n)
		}
	}
	close(gate)
	other.Want(codec.CONNACK, nil)
	pub.Want(codec.PUBACK, nil)
	pub.Want(codec.PUBREC, nil)
	pub.Want(codec.PUBACK, nil)
}

// While the store cannot be written nothing is acknowledged that needs it; the rest goes on; it recovers.
func TestFailingStore(t *testing.T) {
	d := newDurable(t, 2, nil)
	five := d.connect("five", codec.V5, keep)
	five.Subscribe("t", 1)
	old := d.connect("old", codec.V311, nil)
	third := d.connect("third", codec.V311, func(p *codec.Connect) { p.CleanStart = false })
	parked := d.connect("parked", codec.V5, keep)
	parked.Subscribe("parked", 1)
	parked.Hangup()
	puback(five, "parked", "drained")
	brokertest.Settle(t, d.b)
	save(t, d.b)
	d.store.fail(errors.New("no space left on device"))

	five.Publish("t", "lost", 1, 1) // the first finds out
	if p := five.WantPublish("t", "lost"); p.QoS != 1 {
		t.Error(p)
	}
	brokertest.Until(t, d.b, "failing", func(m *broker.Metrics) bool { return m.Store.Failing })
	refused := d.connect("refused", codec.V5, nil)
	refused.Publish("t", "x", 1, 2)
	var a codec.Ack
	if refused.Want(codec.PUBACK, &a); a.Reason != codec.QuotaExceeded {
		t.Errorf("PUBACK %s", a.Reason)
	}
	refused.Publish("t", "x", 2, 3)
	if refused.Want(codec.PUBREC, &a); a.Reason != codec.QuotaExceeded {
		t.Errorf("PUBREC %s", a.Reason)
	}
	old.Publish("t", "x", 1, 2)
	old.WantClosed()
	third.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("x")}}})
	var s codec.Suback
	if third.Want(codec.SUBACK, &s); s.Codes[0] != 0x80 {
		t.Errorf("SUBACK %s", s.Codes[0])
	}
	c := brokertest.Dial(t, d.addr, codec.V5)
	if ack := c.Connack("kept", keep); ack.Reason != codec.ServerUnavailable {
		t.Errorf("CONNACK %s", ack.Reason)
	}
	parked, present := d.present("parked", codec.V5, keep) // what is stored comes back, and makes room
	if !present {
		t.Error("no session")
	}
	p := parked.WantPublish("parked", "drained")
	parked.Ack(codec.PUBACK, p.PacketID)
	parked.WantNothing()
	if _, err := five.Conn.Write([]byte{0xC0, 0}); err != nil { // its PUBACK waits, PINGRESP does not
		t.Fatal(err)
	}
	five.Want(codec.PINGRESP, nil)
	zero := d.connect("zero", codec.V5, nil) // clean and QoS 0 go on
	zero.Subscribe("zero", 0)
	zero.Publish("zero", "z", 0, 0)
	zero.WantPublish("zero", "z")

	d.store.fail(nil)
	five.Want(codec.PUBACK, nil) // it waited
	brokertest.Until(t, d.b, "recovered", func(m *broker.Metrics) bool { return !m.Store.Failing })
	puback(five, "other", "x")
	save(t, d.b)
	d.crash(t, 2)
	five, _ = d.present("five", codec.V5, keep)
	five.WantPublish("t", "lost")
	parked, _ = d.present("parked", codec.V5, keep)
	parked.WantNothing()
}

// A disk that stands still makes the broker stop reading, not grow.
func TestSlowDiskHoldsPublishersBack(t *testing.T) {
	d := newDurable(t, 1, func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxQueuedMessages = 0 })
	sub := d.connect("s", codec.V5, keep)
	sub.Subscribe("t", 1)
	sub.Hangup()
	pub := d.connect("p", codec.V311, nil)
	save(t, d.b)
	gate := make(chan struct{})
	d.store.mu.Lock()
	d.store.gate = gate
	d.store.mu.Unlock()
	const size, most = 1 << 20, 200
	written := make(chan int, most)
	go func() { // ends when all is written, or with the connection
		defer close(written)
		for i := range most {
			p := codec.Publish{Topic: []byte("t"), Payload: make([]byte, size), QoS: 1, PacketID: uint16(i + 1)}
			if _, err := pub.Conn.Write(p.Append(nil, codec.V311)); err != nil {
				return
			}
			written <- i
		}
	}()
	n := 0
	for stuck := false; !stuck; {
		select {
		case _, more := <-written:
			if !more {
				t.Fatalf("the broker took %d MB while nothing was durable", n)
			}
			n++
		case <-time.After(500 * time.Millisecond): // nothing is taken any more
			stuck = true
		}
	}
	if n < 60 || n > 150 {
		t.Errorf("%d MB were taken", n)
	}
	close(gate)
	for range most {
		pub.Want(codec.PUBACK, nil)
	}
}

func TestRetainedMessagesSurvive(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		c := d.connect("c", codec.V5, nil)
		retain(c, "kept", "1")
		retain(c, "kept", "2")
		retain(c, "removed", "x")
		retain(c, "removed", "")
		c.Send(&codec.Publish{Retain: true, QoS: 1, PacketID: 1, Topic: []byte("expires"), Payload: []byte("x"), Properties: uintProp(codec.MessageExpiry, 5)(nil)})
		c.Want(codec.PUBACK, nil)
		d.clock.Advance(t, d.b, 6*time.Second)
		d.crash(t, loops)
		c = d.connect("c", codec.V5, nil)
		c.Subscribe("#", 1)
		c.WantPublish("kept", "2")
		c.WantNothing()
		d.restart(t)
		c = d.connect("c", codec.V5, nil)
		c.Subscribe("#", 0)
		c.WantPublish("kept", "2")
		c.WantNothing()
	})
}

// A broker that has gone has closed its connections without DISCONNECT: their wills are due [MQTT-3.1.2-8].
func TestWillsSurviveAKill(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		watch := d.connect("watch", codec.V5, keep)
		watch.Subscribe("will/#", 1)
		watch.Close()
		will := func(delay uint32) connectFunc {
			return func(p *codec.Connect) {
				keep(p)
				p.HasWill = true
				p.Will = codec.Will{Topic: fmt.Appendf(nil, "will/%s", p.ClientID), Payload: []byte("gone"), QoS: 1}
				if delay > 0 {
					p.Will.Properties = uintProp(codec.WillDelay, delay)(nil)
				}
			}
		}
		d.connect("now", codec.V5, will(0))
		d.connect("later", codec.V5, will(20))
		d.connect("ended", codec.V5, will(0)).Disconnect()
		d.connect("hung", codec.V5, will(30)).Hangup()
		d.connect("back", codec.V5, will(25))
		brokertest.Settle(t, d.b)
		save(t, d.b)
		d.crash(t, loops)
		d.present("back", codec.V5, keep)
		watch, _ = d.present("watch", codec.V5, keep)
		watch.WantPublish("will/now", "gone")
		watch.WantNothing()
		d.advance(21)
		watch.WantPublish("will/later", "gone")
		watch.WantNothing()
		d.advance(20)
		watch.WantPublish("will/hung", "gone")
		watch.WantNothing()
	})
}

func TestSessionsExpireAcrossRestarts(t *testing.T) {
	d := newDurable(t, 2, nil)
	for _, id := range []string{"a", "b"} {
		c := d.connect(id, codec.V5, keep)
		c.Subscribe("t", 1)
		c.Hangup()
	}
	brokertest.Settle(t, d.b)
	save(t, d.b)
	d.advance(500)
	d.crash(t, 2)
	if _, present := d.present("a", codec.V5, keep); !present {
		t.Error("a is gone too early")
	}
	d.advance(501)
	if _, present := d.present("b", codec.V5, keep); present {
		t.Error("b is still there")
	}
	if _, present := d.present("a", codec.V5, keep); !present {
		t.Error("a is gone")
	}
}

// What ends leaves nothing in the store.
func TestNothingIsLeftBehind(t *testing.T) {
	onBounds(t, func(t *testing.T, loops int, change changeFunc) {
		d := newDurable(t, loops, change)
		pub := d.connect("p", codec.V5, keep)
		var subs []*brokertest.Client
		for i := range 6 {
			c := d.connect(fmt.Sprint("s", i), codec.V5, keep)
			c.Subscribe("t", uint8(i%3))
			c.Subscribe("$share/g/t", 2)
			subs = append(subs, c)
		}
		for i := range 30 {
			puback(pub, "t", fmt.Sprint(i))
			pubcomp(pub, "t", fmt.Sprint(i))
		}
		retain(pub, "r", "x")
		retain(pub, "r", "")
		for i, c := range subs {
			c.Close()
			d.connect(fmt.Sprint("s", i), codec.V5, nil)
		}
		pub.Close()
		d.connect("p", codec.V5, nil)
		// What sessions that have ended leave to their share groups is read from disk first.
		brokertest.Until(t, d.b, "estates are given on", func(m *broker.Metrics) bool { return m.QueueReads == 0 })
		brokertest.Settle(t, d.b)
		save(t, d.b)
		for table := store.Sessions; table < store.Tables; table++ {
			n := 0
			_ = d.mem.Walk(table, func(_, _ []byte) error { n++; return nil })
			if n > 0 {
				t.Errorf("%d records in %s", n, table)
			}
		}
	})
}

// A client that comes back with expiry interval 0 ends its session with this connection, and by a kill.
func TestExpiryZeroEndsAStoredSession(t *testing.T) {
	d := newDurable(t, 1, nil)
	c := d.connect("c", codec.V5, keep)
	c.Subscribe("t", 1)
	c.Close()
	_, present := d.present("c", codec.V5, nil)
	if !present {
		t.Fatal("not present")
	}
	d.crash(t, 1)
	if _, present := d.present("c", codec.V5, nil); present {
		t.Error("still present")
	}
}

func TestNoLocalAcrossRestarts(t *testing.T) { // [MQTT-3.8.3-3]
	d := newDurable(t, 2, nil)
	c := d.connect("c", codec.V5, keep)
	c.SubscribeWith(codec.Filter{Name: []byte("t"), QoS: 1, NoLocal: true}, nil)
	retain(c, "t", "own")
	d.crash(t, 2)
	c, _ = d.present("c", codec.V5, keep)
	c.SubscribeWith(codec.Filter{Name: []byte("t"), QoS: 1, NoLocal: true}, nil)
	c.WantNothing()
	puback(c, "t", "again")
	c.WantNothing()
}
