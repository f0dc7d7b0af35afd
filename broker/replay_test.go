package broker_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/codec/im"
)

// taker is a client that takes what comes, and says what that was. What is sent again, with its packet id of
// QoS 2 or with DUP, since the acknowledgement was lost with a connection, counts once.
type taker struct {
	t    testing.TB
	c    *brokertest.Client
	held map[uint16]bool // QoS 2, between PUBLISH and PUBREL
	got  []codec.Publish
	mute bool // acknowledges nothing
}

// on makes k go on with another connection of its session.
func (k *taker) on(c *brokertest.Client) *taker {
	k.c = c
	return k
}

func take(t testing.TB, c *brokertest.Client) *taker {
	return &taker{t: t, c: c, held: map[uint16]bool{}}
}

// handle takes one packet; true if it was a PUBLISH, or a part of one's handshake.
func (k *taker) handle(h codec.Header, body []byte) bool {
	k.t.Helper()
	switch h.Type {
	case codec.PUBLISH:
		var p codec.Publish
		if err := p.Parse(h.Flags, body, k.c.Version); err != nil {
			k.t.Fatal(err)
		}
		again := p.QoS == 2 && k.held[p.PacketID] || p.QoS == 1 && p.Dup && k.has(&p)
		if !again {
			k.got = append(k.got, p)
		}
		switch {
		case k.mute:
		case p.QoS == 1:
			k.c.Ack(codec.PUBACK, p.PacketID)
		case p.QoS == 2:
			k.held[p.PacketID] = true
			k.c.Ack(codec.PUBREC, p.PacketID)
		}
	case codec.PUBREL:
		a := codec.Ack{Type: h.Type}
		if err := a.Parse(h.Flags, body, k.c.Version); err != nil {
			k.t.Fatal(err)
		}
		delete(k.held, a.PacketID)
		k.c.Ack(codec.PUBCOMP, a.PacketID)
	default:
		return false
	}
	return true
}

func (k *taker) has(p *codec.Publish) bool {
	return slices.ContainsFunc(k.got, func(q codec.Publish) bool {
		return bytes.Equal(p.Topic, q.Topic) && bytes.Equal(p.Payload, q.Payload) && bytes.Equal(p.Properties, q.Properties)
	})
}

// n takes packets until n messages have come in all.
func (k *taker) n(n int) *taker {
	k.t.Helper()
	for len(k.got) < n {
		h, body, err := k.c.Next()
		if err != nil {
			k.t.Fatalf("after %d of %d messages: %v", len(k.got), n, err)
		}
		k.handle(h, body)
	}
	return k
}

// all takes packets until the broker is at rest and nothing comes any more.
func (k *taker) all(b *broker.Broker) *taker {
	k.t.Helper()
	for quiet := 0; quiet < 3; {
		brokertest.Settle(k.t, b)
		_ = b.Save(k.t.Context()) // if it has a store: PINGRESP does not wait for it as messages of QoS 2 do
		if quiet++; brokertest.Settle(k.t, b).QueueReads > 0 {
			quiet = 0
		}
		k.c.Raw(codec.AppendPingreq(nil))
		for {
			h, body, err := k.c.Next()
			if err != nil {
				k.t.Fatal(err)
			}
			if h.Type == codec.PINGRESP {
				break
			}
			if k.handle(h, body) && !k.mute {
				quiet = 0
			}
		}
	}
	return k
}

// payloads are what has come, sorted.
func (k *taker) payloads() []string {
	var list []string
	for i := range k.got {
		list = append(list, string(k.got[i].Topic)+" "+string(k.got[i].Payload))
	}
	slices.Sort(list)
	return list
}

// want checks that each of the retained topics t/0 to t/n-1 has come so often as once.
func (k *taker) want(n int) {
	k.t.Helper()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("t/%d %d", i, i))
	}
	slices.Sort(want)
	if got := k.payloads(); !slices.Equal(got, want) {
		counts := map[string]int{}
		for _, p := range got {
			counts[p]++
		}
		k.t.Errorf("%d messages, %d different ones, want %d", len(got), len(slices.Collect(maps.Keys(counts))), n)
	}
}

// retainMany publishes n retained messages, t/0 to t/n-1, each with its number.
func retainMany(x *fixture, qos uint8, n int) {
	x.t.Helper()
	c := x.connect("many", codec.V311, nil)
	for i := range n {
		c.Send(&codec.Publish{
			Retain: true, QoS: qos, PacketID: uint16(i + 1), Topic: fmt.Appendf(nil, "t/%d", i), Payload: fmt.Append(nil, i),
		})
		switch qos {
		case 1:
			c.Want(codec.PUBACK, nil)
		case 2:
			c.Want(codec.PUBREC, nil)
			c.Ack(codec.PUBREL, uint16(i+1))
			c.Want(codec.PUBCOMP, nil)
		}
	}
	c.Disconnect()
	brokertest.Until(x.t, x.b, "retaining", func(m *broker.Metrics) bool { return m.Retained >= int64(n) })
}

// subscribeAll subscribes to several filters in one packet, whose SUBACK is what comes next.
func subscribeAll(c *brokertest.Client, qos uint8, filters ...string) {
	p := codec.Subscribe{PacketID: 9}
	for _, f := range filters {
		p.Filters = append(p.Filters, codec.Filter{Name: []byte(f), QoS: qos})
	}
	c.Send(&p)
	c.Want(codec.SUBACK, nil)
}

// persistent asks for a session that stays.
func persistent(v codec.Version) connectFunc {
	return func(p *codec.Connect) {
		p.CleanStart = false
		if v == codec.V5 {
			with(expiry(1000))(p)
		}
	}
}

// ends are the ways in which a connection ends and its session stays.
var ends = []struct {
	name string
	end  func(x *fixture, c *brokertest.Client)
}{
	{"cut", func(_ *fixture, c *brokertest.Client) { c.Hangup() }},
	{"DISCONNECT", func(_ *fixture, c *brokertest.Client) { c.Disconnect() }},
	{"taken over", func(*fixture, *brokertest.Client) {}},
	{"protocol error", func(_ *fixture, c *brokertest.Client) {
		c.Raw([]byte{0x10, 0}) // a second CONNECT [MQTT-3.1.0-2]
	}},
}

// The retained messages of a subscription all arrive though the connection ends while they are on their way
// [MQTT-3.3.1-9], and none twice that was acknowledged.
func TestRetainedGoOnWithTheSession_MQTT_3_3_1_9(t *testing.T) {
	const n = 300
	onEach(t, nil, func(t *testing.T, x *fixture) {
		retainMany(x, 2, n)
		i := 0
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			for qos := range uint8(3) {
				for _, end := range ends {
					for _, before := range []int{0, 50} {
						i++
						id := fmt.Sprint("s", i)
						t.Run(fmt.Sprintf("%v QoS %d, %s after %d", v, qos, end.name, before), func(t *testing.T) {
							x := x.in(t)
							c := x.connect(id, v, persistent(v))
							if code := c.Subscribe("t/#", qos); code != codec.Reason(qos) {
								t.Fatalf("SUBACK %v", code)
							}
							k := take(t, c)
							if qos == 0 {
								before = n // TCP takes all of so few
							}
							k.n(before)
							end.end(x, c)
							c, present := x.present(id, v, persistent(v))
							if !present {
								t.Fatal("no session")
							}
							k.on(c).all(x.b).want(n)
						})
					}
				}
			}
		}
	})
}

// A connection that ends again and again without having acknowledged anything.
func TestRetainedGoOnThroughManyConnections(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		retainMany(x, 1, 100)
		c := x.connect("s", codec.V311, persistent(codec.V311))
		subscribeAll(c, 1, "t/#", "t/+")
		for i := range 10 {
			if i%2 == 0 {
				c.Hangup()
			}
			c, _ = x.present("s", codec.V311, nil)
		}
		k := take(t, c).all(x.b)
		counts := map[string]int{}
		for _, p := range k.payloads() {
			counts[p]++
		}
		for i := range 100 {
			if n := counts[fmt.Sprintf("t/%d %d", i, i)]; n != 2 {
				t.Errorf("t/%d came %d times for two subscriptions", i, n)
			}
		}
	})
}

// UNSUBSCRIBE ends what is still to be sent [MQTT-3.10.4-2], a clean start too [MQTT-3.1.2-4].
func TestRetainedEndWithTheSubscription_MQTT_3_10_4_2(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		retainMany(x, 1, 100)
		for i, end := range []func(c *brokertest.Client){
			func(c *brokertest.Client) { // before the connection ends
				c.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("t/#")}})
			},
			func(c *brokertest.Client) { // behind it
				c.Hangup()
			},
		} {
			id := fmt.Sprint("s", i)
			c := x.connect(id, codec.V311, persistent(codec.V311))
			c.Subscribe("t/#", 1)
			take(t, c).n(10)
			end(c)
			c, _ = x.present(id, codec.V311, nil)
			c.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("t/#")}})
			k := take(t, c)
			for done := false; !done; { // what is in flight comes again, and what came before UNSUBSCRIBE
				h, body, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
				done = !k.handle(h, body)
			}
			before := len(k.got)
			if k.all(x.b); len(k.got) > before+20 { // the window's
				t.Errorf("%d messages after UNSUBSCRIBE", len(k.got)-before)
			}
		}
		c := x.connect("clean", codec.V311, persistent(codec.V311))
		c.Subscribe("t/#", 1)
		c.Hangup()
		c = x.connect("clean", codec.V311, nil)
		if k := take(t, c).all(x.b); len(k.got) > 0 {
			t.Errorf("%d messages in a new session", len(k.got))
		}
	})
}

// The rights of the connection that gets the messages count, not of the one that has subscribed.
func TestRetainedThatGoOnAreAskedAbout(t *testing.T) {
	x := newFixture(t, withACL(t, "topic write #", "user reader", "topic read t/#"))
	retainMany(x, 1, 100)
	c := x.connect("s", codec.V311, both(unclean, as("reader")))
	c.Subscribe("t/#", 1)
	c.Hangup()
	now := withACL(t, "topic write #", "user reader", "topic read t/1", "topic read t/22")
	x.reload(func(l *broker.ListenerOptions) { now(nil, l) })
	c, _ = x.present("s", codec.V311, as("reader"))
	if k := take(t, c).all(x.b); !slices.Equal(k.payloads(), []string{"t/1 1", "t/22 22"}) {
		t.Errorf("%q was sent", k.payloads())
	}
}

// What servers have subscribed a session to goes on in the same way.
func TestRetainedOnBehalfGoOnWithTheSession(t *testing.T) {
	const n = 100
	onEach(t, nil, func(t *testing.T, x *fixture) {
		retainMany(x, 2, n)
		for _, qos := range []uint8{1, 2} {
			id := fmt.Sprint("s", qos)
			c := x.connect(id, codec.V5, persistent(codec.V5))
			x.ask(behalf.Request{ClientID: id, Topics: topics(fmt.Sprintf("t/+:%d", qos), "t:0")})
			k := take(t, c).n(30)
			c.Hangup()
			c, _ = x.present(id, codec.V5, persistent(codec.V5))
			k.on(c).n(60)
			c, _ = x.present(id, codec.V5, persistent(codec.V5))
			k.on(c).all(x.b).want(n)
		}
	})
}

// A small max_inflight_bytes and max_queued_bytes, or payloads that fill the output, lose no retained message.
func TestRetainedAreNotLostAtLimits(t *testing.T) {
	limits := map[string]changeFunc{
		"bytes in flight and in the queue": func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MaxInflightBytes, o.MaxQueuedBytes = 1000, 1000
		},
		"output": func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxBufferedBytes = 64 << 10 },
	}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			onEach(t, limit, func(t *testing.T, x *fixture) {
				const n = 60
				pub := x.connect("pub", codec.V311, nil)
				for i := range n {
					retain(pub, fmt.Sprint("t/", i), string(make([]byte, 20<<10)))
				}
				for qos := range uint8(3) {
					c := x.connect("sub", codec.V311, nil)
					subscribeAll(c, qos, "t/#", "t/+")
					if k := take(t, c).all(x.b); len(k.got) != 2*n {
						t.Errorf("QoS %d: %d of %d messages", qos, len(k.got), 2*n)
					}
				}
			})
		})
	}
}

// What is published after SUBSCRIBE has taken effect comes once, live, with RETAIN 0 [MQTT-3.3.1-12], however
// far its retained messages have got: not live and as retained message again.
func TestRepublishedWhileRetainedAreSent_MQTT_3_3_1_12(t *testing.T) {
	const n, changed = 700, 100
	onEach(t, nil, func(t *testing.T, x *fixture) {
		retainMany(x, 2, n)
		pub := x.connect("pub", codec.V311, nil)
		i := 0
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			for qos := uint8(1); qos <= 2; qos++ {
				i++
				c := x.connect(fmt.Sprint("s", i), v, persistent(v))
				c.Subscribe("t/#", qos)
				for k := range changed {
					topic := fmt.Sprint("t/", k*n/changed)
					pub.Send(&codec.Publish{
						Retain: true, QoS: 1, PacketID: 1, Topic: []byte(topic), Payload: fmt.Append(nil, "new", i),
					})
					pub.Want(codec.PUBACK, nil)
				}
				k := take(t, c)
				if i%2 == 0 {
					c.Hangup()
					c, _ = x.present(fmt.Sprint("s", i), v, persistent(v))
					k.on(c)
				}
				k.all(x.b)
				count, topics := map[string]int{}, map[string]bool{}
				for _, p := range k.got {
					count[string(p.Topic)+" "+string(p.Payload)]++
					topics[string(p.Topic)] = true
					if fresh := string(p.Payload) == fmt.Sprint("new", i); p.Retain == fresh {
						t.Errorf("%s %s with RETAIN %v", p.Topic, p.Payload, p.Retain)
					}
				}
				for what, n := range count {
					if n != 1 {
						t.Errorf("MQTT %d QoS %d: %s came %d times", v, qos, what, n)
					}
				}
				for k := range changed {
					if what := fmt.Sprintf("t/%d new%d", k*n/changed, i); count[what] == 0 {
						t.Errorf("%s did not come", what)
					}
				}
				if len(topics) != n {
					t.Errorf("%d of %d topics", len(topics), n)
				}
			}
		}
	})
}

// Overlapping filters of one SUBSCRIBE, and a message from another loop right after SUBACK: one copy for each.
func TestRetainedRightAfterSuback(t *testing.T) {
	filters := []string{"t/x", "t/#", "t/+"}
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for i := range 200 {
			pub := x.connect(fmt.Sprint("pub", i), codec.V311, nil)
			sub := x.connect(fmt.Sprint("sub", i), codec.V311, nil)
			qos := uint8(i % 3)
			pub.Send(&codec.Publish{Retain: true, Topic: []byte("t/x"), Payload: fmt.Append(nil, "old", i)})
			subscribeAll(sub, qos, filters...)
			pub.Send(&codec.Publish{
				Retain: true, QoS: qos, PacketID: 1, Topic: []byte("t/x"), Payload: fmt.Append(nil, "new", i),
			})
			handshake(pub, qos, 1)
			pub.WantNothing() // it has been taken
			brokertest.Settle(t, x.b)
			k := take(t, sub).all(x.b)
			fresh := 0
			for _, p := range k.got {
				if string(p.Payload) == fmt.Sprint("new", i) {
					fresh++
				}
			}
			if fresh != len(filters) {
				t.Fatalf("round %d, QoS %d: %d copies for %d filters: %q", i, qos, fresh, len(filters), k.payloads())
			}
			pub.Close()
			sub.Close()
		}
	})
}

// The retained message does not overtake older ones that are still on their way from another loop
// [MQTT-4.6.0-6], nor do those come behind it: for new subscriptions and for those that are renewed.
func TestRetainedAndLiveInOrder_MQTT_4_6_0_6(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for qos := range uint8(3) {
			topic := fmt.Sprint("count/", qos)
			pub := x.connect(fmt.Sprint("pub", qos), codec.V311, nil)
			stop, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				for i := 1; ; i++ {
					select {
					case <-stop:
						return
					default:
						p := codec.Publish{
							Retain: true, QoS: qos, PacketID: uint16(i%60000 + 1), Topic: []byte(topic), Payload: fmt.Append(nil, i),
						}
						if _, err := pub.Conn.Write(p.Append(nil, codec.V311)); err != nil || !handshake(pub, qos, p.PacketID) {
							return
						}
					}
				}
			}()
			for round := range 60 {
				c := x.connect(fmt.Sprint("sub", qos, round), codec.V311, nil)
				last, seen := 0, 0
				k := take(t, c)
				for again := range 4 {
					filter := "count/+"
					if round%2 == 0 {
						filter = topic
					}
					c.Send(&codec.Subscribe{PacketID: 9, Filters: []codec.Filter{{Name: []byte(filter), QoS: qos}}})
					for suback := false; !suback || len(k.got) < 5*(again+1); {
						h, body, err := c.Next()
						if err != nil {
							t.Fatal(err)
						}
						suback = !k.handle(h, body) || suback
					}
					for ; seen < len(k.got); seen++ {
						p := &k.got[seen]
						n, _ := strconv.Atoi(string(p.Payload))
						if string(p.Topic) == topic && n < last {
							t.Fatalf("QoS %d: %d came behind %d, RETAIN %v", qos, n, last, p.Retain)
						}
						if string(p.Topic) == topic {
							last = n
						}
					}
				}
				c.Close()
			}
			close(stop)
			<-ended
		}
	})
}

// upgrade_outgoing_qos holds for retained messages too, as in Mosquitto: they are sent with the QoS of the
// subscription.
func TestUpgradeOutgoingQoSOfRetained(t *testing.T) {
	upgrade := func(o *broker.Options, _ *broker.ListenerOptions) { o.UpgradeOutgoingQoS = true }
	onEach(t, upgrade, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		for qos := range uint8(3) {
			p := codec.Publish{Retain: true, QoS: qos, Topic: fmt.Appendf(nil, "t/%d", qos), Payload: fmt.Append(nil, qos)}
			if qos > 0 {
				p.PacketID = 1
			}
			pub.Send(&p)
			handshake(pub, qos, p.PacketID)
			pub.WantNothing()
		}
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			for qos := range uint8(3) {
				c := x.connect(fmt.Sprint("s", v, qos), v, nil)
				c.Subscribe("t/#", qos)
				k := take(t, c).all(x.b)
				k.want(3)
				b := x.connect(fmt.Sprint("b", v, qos), v, nil)
				x.ask(behalf.Request{ClientID: fmt.Sprint("b", v, qos), Topics: topics(fmt.Sprint("t/#:", qos))})
				other := take(t, b).all(x.b)
				other.want(3)
				for _, p := range append(k.got, other.got...) {
					if p.QoS != qos || !p.Retain {
						t.Errorf("MQTT %d: %s with QoS %d, RETAIN %v, want QoS %d", v, p.Topic, p.QoS, p.Retain, qos)
					}
				}
			}
		}
	})
}

// handshake reads what a publisher gets for one message and answers; false when the connection has ended. It may
// be called on any goroutine.
func handshake(c *brokertest.Client, qos uint8, id uint16) bool {
	if qos == 0 && id%20 > 0 {
		return true
	}
	if qos == 0 { // not more than the broker takes
		if _, err := c.Conn.Write(codec.AppendPingreq(nil)); err != nil {
			return false
		}
	}
	_, _, ok := c.NextWithin(brokertest.Timeout)
	if ok && qos == 2 {
		rel := codec.Ack{Type: codec.PUBREL, PacketID: id}
		if _, err := c.Conn.Write(rel.Append(nil, c.Version)); err != nil {
			return false
		}
		_, _, ok = c.NextWithin(brokertest.Timeout)
	}
	return ok
}

// Messages that pass through a large crowd in slices are older than the retained message that a renewed
// subscription gets, so they come first [MQTT-4.6.0-6]; to a new subscription, on its own loop or another, only
// the last comes.
func TestRetainedBehindSlices_MQTT_4_6_0_6(t *testing.T) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = loops })
			for i := range 2100 * loops {
				c := x.connect(fmt.Sprint("crowd", i), codec.V311, unclean)
				c.Subscribe("t", 0)
				c.Disconnect()
			}
			for i := range 6 {
				c := x.connect(fmt.Sprint("c", i), codec.V311, nil)
				var burst []byte
				if i%2 == 0 {
					c.Subscribe("t", 0)
					k := take(t, c).all(x.b)
					k.got = nil
				}
				for n := range 5 {
					p := codec.Publish{Retain: true, Topic: []byte("t"), Payload: fmt.Append(nil, 10*i+n)}
					burst = p.Append(burst, codec.V311)
				}
				sub := codec.Subscribe{PacketID: 3, Filters: []codec.Filter{{Name: []byte("t")}}}
				c.Raw(sub.Append(burst, codec.V311))
				var got []string
				k := take(t, c)
				for quiet := 0; quiet < 2; quiet++ {
					h, body, ok := c.NextWithin(50 * time.Millisecond)
					if ok {
						k.handle(h, body)
						quiet = -1
					}
				}
				for j := range k.got {
					got = append(got, string(k.got[j].Payload))
				}
				want := []string{fmt.Sprint(10*i + 4)}
				if i%2 == 0 {
					want = nil
					for n := range 5 {
						want = append(want, fmt.Sprint(10*i+n))
					}
					want = append(want, fmt.Sprint(10*i+4))
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				c.Close()
			}
		})
	}
}

// What a client sends right behind SUBSCRIBE, in the same segment, is answered behind its retained messages: a
// PINGREQ tells it that it has them all, and an UNSUBSCRIBE does not take them away.
func TestRetainedComeBeforeWhatFollowsSubscribe(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		const n = 10
		retainMany(x, 0, n)
		brokertest.Settle(t, x.b)
		for round := range 20 {
			c := x.connect(fmt.Sprint("c", round), codec.V5, nil)
			sub := codec.Subscribe{PacketID: 3, Filters: []codec.Filter{{Name: []byte("t/#")}}}
			burst := codec.AppendPingreq(sub.Append(nil, codec.V5))
			unsub := codec.Unsubscribe{PacketID: 4, Filters: [][]byte{[]byte("t/#")}}
			c.Raw(unsub.Append(burst, codec.V5))
			c.Want(codec.SUBACK, nil)
			for range n {
				c.Want(codec.PUBLISH, nil)
			}
			c.Want(codec.PINGRESP, nil)
			c.Want(codec.UNSUBACK, nil)
		}
	})
}

// What is stored while a topic of a list is gone comes when the topic comes back, though the messages of its
// first time had not begun then [MQTT-3.3.1-9].
func TestReplayOfWhatComesBack(t *testing.T) {
	listed := behalf.Request{ClientID: "c", Topics: topics("a/#:1", "b:1"), Action: im.Replace}
	without := func(r behalf.Request) behalf.Request {
		r.Topics = topics("a/#:1")
		return r
	}
	again := func(x *fixture) *brokertest.Client {
		c, _ := x.present("c", codec.V5, with(expiry(100), uintProp(codec.ReceiveMaximum, 1)))
		return c
	}
	for _, tt := range []struct {
		name   string
		policy behalf.Policy
		gone   func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client
		back   func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client
	}{
		{
			name: "unsubscribed, asked for anew",
			gone: func(c *brokertest.Client, x *fixture, _ behalf.Request) *brokertest.Client {
				unsubscribed(x.t, c, "b", codec.Success)
				return c
			},
			back: func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				x.ask(r)
				return c
			},
		},
		{
			name: "unsubscribed, back with the next CONNECT", policy: behalf.Sticky,
			gone: func(c *brokertest.Client, x *fixture, _ behalf.Request) *brokertest.Client {
				unsubscribed(x.t, c, "b", codec.Success)
				return c
			},
			back: func(_ *brokertest.Client, x *fixture, _ behalf.Request) *brokertest.Client { return again(x) },
		},
		{
			name: "replaced",
			gone: func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				x.ask(without(r))
				return c
			},
			back: func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				x.ask(r)
				return c
			},
		},
		{
			name: "offline, taken back and given again",
			gone: func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				c.Hangup()
				r.Action, r.Topics = im.Unsubscribe, topics("b")
				x.ask(r)
				return c
			},
			back: func(_ *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				r.Action, r.Topics = im.Subscribe, topics("b:1")
				x.ask(r)
				return again(x)
			},
		},
		{
			name: "offline, all taken back",
			gone: func(c *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				c.Hangup()
				r.Topics = topics()
				x.ask(r)
				return c
			},
			back: func(_ *brokertest.Client, x *fixture, r behalf.Request) *brokertest.Client {
				x.ask(r)
				return again(x)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, nil, func(t *testing.T, x *fixture) {
				pub := x.connect("pub", codec.V5, nil)
				retain(pub, "a/1", "1")
				retain(pub, "a/2", "1")
				retain(pub, "b", "1")
				c := x.connect("c", codec.V5, with(expiry(100), uintProp(codec.ReceiveMaximum, 1)))
				r := listed
				r.Origin = &behalf.Origin{Name: "api:test", Unsubscribe: tt.policy}
				x.ask(r)
				k := take(t, c)
				k.mute = true
				k.n(1) // of a/#; until it is acknowledged nothing more comes
				now := tt.gone(c, x, r)
				retain(pub, "b", "2")
				now = tt.back(now, x, r)
				if k.mute = false; now == c {
					c.Ack(codec.PUBACK, k.got[0].PacketID)
				}
				k.on(now).all(x.b)
				var of []string
				for i := range k.got {
					if p := &k.got[i]; string(p.Topic) == "b" {
						of = append(of, fmt.Sprintf("%s %v", p.Payload, p.Retain))
					}
				}
				if want := []string{"2 true"}; !slices.Equal(of, want) {
					t.Errorf("of b came %v, want %v", of, want)
				}
				retain(pub, "b", "3")
				k.all(x.b)
				if last := &k.got[len(k.got)-1]; string(last.Payload) != "3" || last.Retain {
					t.Errorf("the last is %s, RETAIN %v", last.Payload, last.Retain)
				}
			})
		})
	}
}
