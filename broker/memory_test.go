package broker_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// The tests of this file measure the process: none of them runs beside another test.

// heap is the bytes of live objects.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // finalizers and pools need a second collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// oneByOne is onEach without parallel tests.
func oneByOne(t *testing.T, change changeFunc, f func(t *testing.T, x *fixture)) {
	t.Helper()
	for _, v := range []struct {
		name     string
		loops    int
		portable bool
	}{{"one loop", 1, false}, {"four loops", 4, false}, {"portable", 3, true}} {
		t.Run(v.name, func(t *testing.T) {
			f(t, newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
				o.Loops, o.Portable = v.loops, v.portable
				if change != nil {
					change(o, l)
				}
			}))
		})
	}
}

// growth runs f twice to warm up and then n times; it fails when the heap has grown by more than limit bytes.
func growth(t *testing.T, limit int64, n int, f func()) {
	t.Helper()
	if testing.Short() && n > 9 {
		n /= 3
	}
	f()
	f()
	before := heap()
	for range n {
		f()
	}
	if grown := heap() - before; grown > limit {
		t.Errorf("the heap has grown by %d KB, at most %d KB", grown>>10, limit>>10)
	}
}

func TestMemoryOfAStuckReceiverIsFlat(t *testing.T) {
	limit := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MaxBufferedBytes, o.MaxInflight, o.MaxQueuedBytes = 256<<10, 0, 1<<20
	}
	for qos := range uint8(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			oneByOne(t, onSockets(limit), func(t *testing.T, x *fixture) {
				stuck := x.connect("stuck", codec.V5, with(expiry(100)))
				deaf(t, stuck)
				stuck.Subscribe("s", qos)
				pub := x.connect("pub", codec.V311, nil)
				filler := strings.Repeat("x", 4000)
				growth(t, 1<<20, 10, func() {
					for range 1000 {
						exchange(t, pub, "s", filler, max(qos, 1))
					}
				})
				why := broker.DropQueueFull
				if qos == 0 {
					why = broker.DropSlowReceiver
				}
				m := brokertest.Settle(t, x.b)
				if m.Dropped[why] < 2500 || m.QueuedBytes >= 1<<20+int64(len(filler)) {
					t.Errorf("dropped %v, %d bytes queued", m.Dropped, m.QueuedBytes)
				}
			})
		})
	}
}

// Retained messages for a subscriber that does not take them: its window is full, its socket is read. It may
// subscribe as often as it likes.
func TestMemoryOfRepeatedSubscribesIsFlat(t *testing.T) {
	oneByOne(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		for i := range 100 {
			retain(pub, fmt.Sprint("r/", i), "x")
		}
		c := x.connect("c", codec.V5, nil)
		c.Subscribe("r/#", 1)
		for range 20 {
			c.Want(codec.PUBLISH, nil) // and no PUBACK
		}
		many := &codec.Subscribe{PacketID: 1, Filters: make([]codec.Filter, 1000)}
		for i := range many.Filters {
			many.Filters[i] = codec.Filter{Name: []byte("r/#"), QoS: 1}
		}
		growth(t, 1<<20, 20, func() {
			for range 10 {
				c.Send(many)
				c.Want(codec.SUBACK, nil)
			}
		})
	})
}

func TestUnsubscribeEndsRetainedMessages_MQTT_3_10_4_2(t *testing.T) {
	oneByOne(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		for i := range 100 {
			retain(pub, fmt.Sprint("r/", i), "x")
		}
		c := x.connect("c", codec.V5, nil)
		c.Subscribe("r/#", 1)
		var ids []uint16
		for range 20 {
			var p codec.Publish
			c.Want(codec.PUBLISH, &p)
			ids = append(ids, p.PacketID)
		}
		c.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("r/#")}})
		c.Want(codec.UNSUBACK, nil)
		for _, id := range ids {
			c.Ack(codec.PUBACK, id)
		}
		c.WantNothing()
		growth(t, 1<<20, 20, func() {
			for range 200 {
				c.Subscribe("r/#", 1)
				c.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("r/#")}})
				for h := (codec.Header{}); h.Type != codec.UNSUBACK; { // at first some messages
					var err error
					if h, _, err = c.Next(); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	})
}

// A packet that was announced and does not come takes no memory for what it may become.
func TestMemoryOfAnnouncedPackets(t *testing.T) {
	oneByOne(t, nil, func(t *testing.T, x *fixture) {
		round := 0
		growth(t, 100*24<<10, 1, func() { // the portable poller reads into 16 KB per connection
			round++
			for i := range 100 {
				c := x.connect(fmt.Sprint(round, "-", i), codec.V311, nil)
				c.Raw([]byte{0x30, 0x80, 0x89, 0x7A, 0, 1, 'a'}) // PUBLISH of almost 2 MB
				c.Raw(make([]byte, 100))
			}
			brokertest.Settle(t, x.b)
		})
	})
}

// TestSumsFollowTheSessions has messages wait and in flight in sessions that end in every way.
func TestSumsFollowTheSessions(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		ends := map[string]func(c *brokertest.Client){
			"clean":   func(*brokertest.Client) { x.connect("clean", codec.V5, nil) },
			"expired": func(c *brokertest.Client) { c.Hangup() },
			"ended":   func(c *brokertest.Client) { c.Send(&codec.Disconnect{Properties: props(expiry(0))}); c.WantClosed() },
		}
		clients := map[string]*brokertest.Client{}
		for id := range ends {
			clients[id], _ = x.present(id, codec.V5, both(with(expiry(100)), with(func(p codec.Properties) codec.Properties {
				return codec.AppendUintProperty(p, codec.ReceiveMaximum, 2)
			})))
			clients[id].Subscribe("a", 1)
		}
		for range 5 {
			exchange(t, pub, "a", "12345", 1)
		}
		m := brokertest.Settle(t, x.b)
		if m.InflightMessages != 6 || m.QueuedMessages != 9 || m.QueuedBytes != 45 {
			t.Errorf("%d in flight, %d wait, %d bytes", m.InflightMessages, m.QueuedMessages, m.QueuedBytes)
		}
		for id, end := range ends {
			for range 2 {
				clients[id].WantPublish("a", "12345")
			}
			end(clients[id])
		}
		x.in(t).advance(200)
		m = brokertest.Settle(t, x.b)
		if m.InflightMessages != 0 || m.QueuedMessages != 0 || m.QueuedBytes != 0 {
			t.Errorf("at the end %d in flight, %d wait, %d bytes", m.InflightMessages, m.QueuedMessages, m.QueuedBytes)
		}
	})
}
