package broker_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
)

// overlap is n filters that match the topic, n at most 1<<13: each level of it or a "+".
func overlap(n int) (topic string, filters [][]byte) {
	levels := strings.Split("a/b/c/d/e/f/g/h/i/j/k/l/m", "/")
	for i := range n {
		f := append([]string(nil), levels...)
		for k := range f {
			if i>>k&1 != 0 {
				f[k] = "+"
			}
		}
		filters = append(filters, []byte(strings.Join(f, "/")))
	}
	return strings.Join(levels, "/"), filters
}

// subscribeMany subscribes to filters, many in a packet.
func subscribeMany(t testing.TB, c *brokertest.Client, qos uint8, filters [][]byte) {
	t.Helper()
	for len(filters) > 0 {
		n := min(500, len(filters))
		p := codec.Subscribe{PacketID: 1}
		for _, f := range filters[:n] {
			p.Filters = append(p.Filters, codec.Filter{Name: f, QoS: qos})
		}
		filters = filters[n:]
		c.Send(&p)
		var ack codec.Suback
		c.Want(codec.SUBACK, &ack)
		for _, r := range ack.Codes {
			if r >= 0x80 {
				t.Fatalf("SUBACK %s", r)
			}
		}
	}
}

// A message that matches many filters comes once for each, in the order of its publisher, and other clients
// are served meanwhile; those of others on the same topic do not overtake [MQTT-4.6.0-6].
func TestManyFiltersOfOneClient(t *testing.T) {
	for _, qos := range []uint8{0, 1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			wide := func(o *broker.Options, _ *broker.ListenerOptions) {
				o.MaxInflight, o.MaxQueuedMessages, o.MaxBufferedBytes = 0, 0, 64<<20
			}
			onEach(t, wide, func(t *testing.T, x *fixture) {
				const n = 5000
				topic, filters := overlap(n)
				sub := x.connect("sub", codec.V5, nil)
				subscribeMany(t, sub, qos, filters)
				pub := x.connect("pub", codec.V311, nil)
				for i := range 3 { // in one piece, so that the later ones are there while the first is under way
					pub.Publish(topic, fmt.Sprint(i), qos, uint16(i+1))
				}
				if qos == 2 {
					for i := range 3 {
						pub.Want(codec.PUBREC, nil)
						pub.Ack(codec.PUBREL, uint16(i+1))
					}
				}
				pub.Raw(codec.AppendPingreq(nil))
				for i := range 3 {
					for k := range n {
						p := sub.WantPublish(topic, fmt.Sprint(i))
						if p.QoS != qos {
							t.Fatalf("copy %d of %d has QoS %d", k, i, p.QoS)
						}
					}
				}
				sub.WantNothing()
			})
		})
	}
}

// Without duplicates an MQTT 3 client has one copy of what matches many of its filters, at the highest QoS
// of them [MQTT-3.3.5-1]; an MQTT 5 client one for each.
func TestManyFiltersOnce_MQTT_3_3_5_1(t *testing.T) {
	once := func(o *broker.Options, _ *broker.ListenerOptions) { o.AllowDuplicates = false }
	onEach(t, once, func(t *testing.T, x *fixture) {
		const n = 5000
		topic, filters := overlap(n)
		old, five := x.connect("old", codec.V311, nil), x.connect("five", codec.V5, nil)
		subscribeMany(t, old, 0, filters)
		subscribeMany(t, old, 1, filters[n-1:])
		subscribeMany(t, five, 0, filters)
		pub := x.connect("pub", codec.V311, nil)
		for i := range 2 {
			pub.Publish(topic, fmt.Sprint(i), 1, uint16(i+1))
		}
		for i := range 2 {
			if p := old.WantPublish(topic, fmt.Sprint(i)); p.QoS != 1 {
				t.Errorf("QoS %d", p.QoS)
			}
			old.Ack(codec.PUBACK, uint16(i+1))
			for range n {
				five.WantPublish(topic, fmt.Sprint(i))
			}
		}
		old.WantNothing()
		five.WantNothing()
	})
}

// Each of many share groups has one copy.
func TestManyShareGroups_MQTT_4_8_2_4(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		const n = 5000
		var filters [][]byte
		for i := range n {
			filters = append(filters, fmt.Appendf(nil, "$share/g%d/s", i))
		}
		a, b := x.connect("a", codec.V5, nil), x.connect("b", codec.V5, nil)
		subscribeMany(t, a, 0, filters)
		subscribeMany(t, b, 0, filters)
		pub := x.connect("pub", codec.V311, nil)
		for i := range 2 {
			pub.Publish("s", fmt.Sprint(i), 0, 0)
		}
		for i := range 2 { // strict round robin
			c := []*brokertest.Client{a, b}[i]
			for range n {
				c.WantPublish("s", fmt.Sprint(i))
			}
		}
		a.WantNothing()
		b.WantNothing()
	})
}

// While messages pass through many filters, clients come, leave and end: who stays gets all.
func TestManyFiltersWhileClientsChange(t *testing.T) {
	wide := func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxBufferedBytes = 64 << 20 }
	onEach(t, wide, func(t *testing.T, x *fixture) {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		const n, rounds = 3000, 8
		topic, filters := overlap(n)
		stay := x.connect("stay", codec.V5, nil)
		subscribeMany(t, stay, 0, filters)
		pub := x.connect("pub", codec.V311, nil)
		for i := range rounds {
			other := x.connect(fmt.Sprint("other", i%3), codec.V311, nil)
			list := filters[rnd.IntN(n/2):]
			for part := range slices.Chunk(list, 500) {
				p := codec.Subscribe{PacketID: 1}
				for _, f := range part {
					p.Filters = append(p.Filters, codec.Filter{Name: f})
				}
				other.Send(&p)
			}
			retained := codec.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), Retain: i%2 == 0}
			pub.Send(&retained)
			uns := codec.Unsubscribe{PacketID: 1, Filters: list[:min(len(list), 700)]}
			other.Send(&uns)
			if i%2 == 0 {
				other.Close()
			}
		}
		for i := range rounds {
			for range n {
				stay.WantPublish(topic, fmt.Sprint(i))
			}
		}
		stay.WantNothing()
	})
}

// A session with very many subscriptions ends in slices: its client id is free at once, and nothing is
// left.
func TestEndOfManySubscriptions(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		_, filters := overlap(6000)
		for i := range 6000 {
			filters = append(filters, fmt.Appendf(nil, "$share/g%d/s", i))
		}
		pub := x.connect("pub", codec.V311, nil)
		other := x.connect("other", codec.V311, nil)
		other.Subscribe("$share/g0/s", 0)
		for range 2 {
			c := x.connect("c", codec.V5, nil)
			subscribeMany(t, c, 1, filters)
			again := x.connect("c", codec.V5, nil) // a clean start takes over
			again.Subscribe("own", 0)
			pub.Publish("own", "x", 0, 0)
			again.WantPublish("own", "x")
			again.WantNothing()
			again.Disconnect()
		}
		brokertest.Until(t, x.b, "the end of all subscriptions", func(m *broker.Metrics) bool {
			return m.Subscriptions == 0 && m.SharedSubscriptions == 1
		})
		pub.Publish("s", "x", 0, 0)
		other.WantPublish("s", "x") // no member that has gone
	})
}

// A session with very many subscriptions comes back: what it may not read does not reach it, whether or not
// all of them have been held against its rights yet.
func TestRightsOfManySubscriptions(t *testing.T) {
	may := withACL(t, "topic read a/#", "topic write #")
	wide := func(o *broker.Options, l *broker.ListenerOptions) {
		may(o, l)
		o.MaxBufferedBytes = 64 << 20
	}
	onEach(t, wide, func(t *testing.T, x *fixture) {
		keep := func(p *codec.Connect) { p.CleanStart = false }
		topic, filters := overlap(3000)
		subscribeMany(t, x.connect("c", codec.V311, keep), 0, filters)
		pub := x.connect("pub", codec.V311, nil)
		for range 2 {
			c, present := x.present("c", codec.V311, keep)
			if !present {
				t.Fatal("no session")
			}
			denied := "x" + topic[1:] // half of the filters match
			pub.Publish(denied, "no", 0, 0)
			pub.Publish(topic, "yes", 0, 0)
			for range filters {
				c.WantPublish(topic, "yes")
			}
			c.WantNothing()
		}
		if n := x.dropped(broker.DropDenied); n != int64(len(filters)) {
			t.Errorf("%d copies denied", n)
		}
	})
}

// With a store, what is acknowledged while it passes through many filters survives a kill in the midst of
// that: each session has it, and after an orderly end one copy for each subscription.
func TestManyFiltersSurviveAKill(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxQueuedMessages, o.MaxInflight = 0, 0
		})
		const sessions, each = 5, 900
		topic, filters := overlap(sessions * each)
		for i := range sessions {
			c := d.connect(fmt.Sprint("s", i), codec.V5, keep)
			subscribeMany(t, c, 2, filters[i*each:(i+1)*each])
			c.Close()
		}
		pub := d.connect("p", codec.V5, nil)
		puback(pub, topic, "one")
		pubcomp(pub, topic, "two")
		brokertest.Until(t, d.b, "the end of the fan-out", func(m *broker.Metrics) bool {
			return m.QueuedMessages+m.InflightMessages == 2*sessions*each
		})
		d.restart(t)
		pub = d.connect("p", codec.V5, nil)
		puback(pub, topic, "three")
		d.crash(t, loops)
		for i := range sessions {
			c, present := d.present(fmt.Sprint("s", i), codec.V5, keep)
			if !present {
				t.Fatal("no session present")
			}
			for _, payload := range []string{"one", "two"} {
				for range each {
					c.WantPublish(topic, payload)
				}
			}
			c.WantPublish(topic, "three")
		}
	})
}

// The search for what a message matches goes in slices, whatever its QoS, with a store and without, and with one copy
// for MQTT 3 clients: after the turn that has read it there is something left to do.
func TestManyFiltersAreSearchedInSlices(t *testing.T) {
	const n = 6000
	topic, filters := overlap(n)
	for _, qos := range []uint8{0, 1, 2} {
		for _, duplicates := range []bool{true, false} {
			for _, loops := range []int{1, 2} {
				t.Run(fmt.Sprintf("QoS %d, duplicates %v, %d loops", qos, duplicates, loops), func(t *testing.T) {
					t.Parallel()
					d := newDurable(t, loops, func(o *broker.Options, _ *broker.ListenerOptions) {
						o.AllowDuplicates, o.MaxInflight, o.MaxQueuedMessages = duplicates, 0, 0
					})
					subscribers := map[string]*brokertest.Client{}
					for i := range 3 { // on several loops
						old, five := d.connect(fmt.Sprint("old", i), codec.V311, nil), d.connect(fmt.Sprint("five", i), codec.V5, keep)
						for name, c := range map[string]*brokertest.Client{"old": old, "five": five} {
							subscribeMany(t, c, qos, filters)
							subscribers[fmt.Sprint(name, i)] = c
						}
					}
					pub := d.connect("pub", codec.V311, nil)
					if qos == 2 {
						pub.Publish(topic, "x", 2, 1)
						pub.Want(codec.PUBREC, nil)
					}
					brokertest.Settle(t, d.b)
					home := d.b.HomeOf("pub")
					first, goOn := standstill(t, d.b, home)
					<-first
					if qos == 2 {
						pub.Ack(codec.PUBREL, 1)
					} else {
						pub.Publish(topic, "x", qos, 1)
					}
					left := make(chan int, 1)
					d.b.OnLoop(home, func() { left <- d.b.Searches(home) })
					goOn()
					if k := <-left; k != 1 {
						t.Errorf("%d messages under way", k)
					}
					for name, c := range subscribers {
						copies := n
						if !duplicates && c.Version == codec.V311 {
							copies = 1
						}
						for range copies {
							if p := c.WantPublish(topic, "x"); p.QoS != qos {
								t.Fatalf("%s: QoS %d", name, p.QoS)
							}
						}
						c.WantNothing()
					}
					switch qos {
					case 1:
						pub.Want(codec.PUBACK, nil)
					case 2:
						pub.Want(codec.PUBCOMP, nil)
					}
					save(t, d.b)
					wantNoDebts(t, d)
				})
			}
		}
	}
}

// wantNoDebts waits until nothing is under way in the store.
func wantNoDebts(t *testing.T, d *durable) {
	t.Helper()
	brokertest.Settle(t, d.b)
	save(t, d.b)
	if n := d.debts(t); n != 0 {
		t.Errorf("%d debts are left", n)
	}
}

// debts is how many messages are under way, as far as the store knows.
func (d *durable) debts(t *testing.T) (n int) {
	t.Helper()
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	err := d.mem.Walk(store.Transits, func(_, _ []byte) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A kill in the midst of the search for what a message matches loses nothing that was acknowledged: who is found only
// later, a shared subscription too, has it after the start.
func TestManyFiltersSurviveAKillAmidTheSearch(t *testing.T) {
	for _, duplicates := range []bool{true, false} {
		t.Run(fmt.Sprint("duplicates ", duplicates), func(t *testing.T) {
			onLoops(t, func(t *testing.T, loops int) {
				d := newDurable(t, loops, func(o *broker.Options, _ *broker.ListenerOptions) {
					o.AllowDuplicates, o.MaxInflight, o.MaxQueuedMessages = duplicates, 0, 0
				})
				const sessions, each = 8, 750
				topic, filters := overlap(sessions * each)
				for i := range sessions {
					c := d.connect(fmt.Sprint("s", i), codec.V5, keep)
					subscribeMany(t, c, 1, filters[i*each:(i+1)*each])
					c.Close()
					c = d.connect(fmt.Sprint("m", i), codec.V5, keep)
					c.Subscribe(fmt.Sprintf("$share/g%d/%s", i, filters[i*each]), 1)
					c.Close()
				}
				pub := d.connect("pub", codec.V5, nil)
				brokertest.Settle(t, d.b)
				save(t, d.b)
				home := d.b.HomeOf("pub")
				first, goOn := standstill(t, d.b, home)
				<-first
				pub.Publish(topic, "x", 1, 1)
				var finish func()
				second := make(chan (<-chan struct{}), 1)
				d.b.OnLoop(home, func() { // in the turn that reads it
					var in <-chan struct{}
					in, finish = standstill(t, d.b, home) // in the one after
					second <- in
				})
				goOn()
				<-<-second
				if n := d.b.Searches(home); n != 1 {
					t.Errorf("%d messages under way", n)
				}
				for until := time.Now().Add(brokertest.Timeout); d.debts(t) == 0 && time.Now().Before(until); {
					runtime.Gosched() // the committer is at it
				}
				d.store.mu.Lock()
				d.store.off = true
				d.store.mu.Unlock()
				finish()
				d.crash(t, loops)
				brokertest.Settle(t, d.b)
				for i := range sessions {
					for _, name := range []string{"s", "m"} {
						c, _ := d.present(fmt.Sprint(name, i), codec.V5, keep)
						c.WantPublish(topic, "x")
					}
				}
				wantNoDebts(t, d)
			})
		})
	}
}

// A large crowd takes several turns for a message. What comes behind it, matches more filters by then, and goes to
// each client once, does not overtake it [MQTT-4.6.0-6], and takes several turns too.
func TestOneCopyBehindALargeCrowd(t *testing.T) {
	for loops, members := range map[int]int{1: 2500, 2: 4400} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
				o.Loops, o.AllowDuplicates = loops, false
			})
			var subs []*brokertest.Client
			for i := range members {
				c := x.connect(fmt.Sprint("s", i), codec.V311, nil)
				c.Subscribe("crowd", 0)
				subs = append(subs, c)
			}
			pub := x.connect("pub", codec.V311, nil)
			const messages = 6
			var raw []byte
			for i := range messages {
				p := codec.Publish{Topic: []byte("crowd"), Payload: fmt.Append(nil, i)}
				raw = p.Append(raw, codec.V311)
				if i == messages/2 { // the publisher gets the rest
					sub := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("#")}}}
					raw = sub.Append(raw, codec.V311)
				}
			}
			pub.Raw(raw)
			pub.Want(codec.SUBACK, nil)
			for i := messages/2 + 1; i < messages; i++ {
				pub.WantPublish("crowd", fmt.Sprint(i))
			}
			for _, c := range subs {
				for i := range messages {
					c.WantPublish("crowd", fmt.Sprint(i))
				}
			}
			if m := brokertest.Settle(t, x.b); m.DroppedTotal() != 0 || m.PublishSent != int64(messages*members+2) {
				t.Errorf("%d messages sent, dropped %v", m.PublishSent, m.Dropped)
			}
		})
	}
}
