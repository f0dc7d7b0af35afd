package broker_test

import (
	"fmt"
	"slices"
	"testing"

	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
)

// atLeastOnce checks that each of t/0 to t/n-1 has come, and how often at most.
func (k *taker) atLeastOnce(n, most int) {
	k.t.Helper()
	counts := map[string]int{}
	for _, p := range k.payloads() {
		counts[p]++
	}
	for i := range n {
		if c := counts[fmt.Sprintf("t/%d %d", i, i)]; c == 0 || c > most {
			k.t.Errorf("t/%d came %d times, want 1 to %d", i, c, most)
		}
	}
}

// owed is what the store knows to be still to come, sorted.
func (d *durable) owed(t testing.TB) (list []string) {
	t.Helper()
	brokertest.Settle(t, d.b)
	if err := d.b.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := d.mem.Walk(store.Subscriptions, func(key, value []byte) error {
		r, err := store.ReadSubscription(key, value)
		if r.Owed {
			list = append(list, r.Filter)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.mem.Walk(store.Grants, func(key, value []byte) error {
		r, err := store.ReadGrant(key, value)
		list = append(list, r.Owed...)
		if r.OwedAll {
			list = append(list, "all of "+r.Origin)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// After a restart of the broker, ordered or not, the retained messages of a subscription that have not all been
// sent come still [MQTT-3.3.1-9]: they may begin anew, so each comes twice at most. With another number of loops
// too.
func TestRetainedGoOnAfterARestart_MQTT_3_3_1_9(t *testing.T) {
	const n = 60
	onBounds(t, func(t *testing.T, loops int, change changeFunc) {
		d := newDurable(t, loops, change)
		retainMany(d.fixture, 2, n)
		i := 0
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			for qos := uint8(1); qos <= 2; qos++ {
				for _, killed := range []bool{false, true} {
					for _, online := range []bool{false, true} {
						i++
						id := fmt.Sprint("s", i)
						c := d.connect(id, v, persistent(v))
						c.Subscribe("t/#", qos)
						k := take(t, c).n(25)
						if !online {
							c.Hangup()
						}
						if got := d.owed(t); !slices.Equal(got, []string{"t/#"}) {
							t.Errorf("owed: %q", got)
						}
						if killed {
							d.crash(t, 1+i%4)
						} else {
							d.restart(t)
						}
						c, present := d.present(id, v, persistent(v))
						if !present {
							t.Fatal("no session")
						}
						k.on(c).all(d.b).atLeastOnce(n, 2)
						if got := d.owed(t); len(got) > 0 {
							t.Errorf("owed behind the end: %q", got)
						}
						c.Disconnect()
					}
				}
			}
		}
	})
}

// QoS 0: what is in the way of the connection may be lost with it, not what was not sent.
func TestRetainedOfQoS0GoOnAfterARestart(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		pub := d.connect("pub", codec.V311, nil)
		big := string(make([]byte, 200<<10))
		for i := range 100 { // more than sockets hold
			retain(pub, fmt.Sprint("big/", i), big)
		}
		retain(pub, "small", "x")
		c := d.connect("s", codec.V311, unclean)
		subscribeAll(c, 0, "big/#", "small")
		d.crash(t, loops)
		c, _ = d.present("s", codec.V311, nil)
		k := take(t, c).all(d.b)
		topics := map[string]bool{}
		for i := range k.got {
			topics[string(k.got[i].Topic)] = true
		}
		if len(topics) != 101 {
			t.Errorf("%d of 101 topics", len(topics))
		}
	})
}

// UNSUBSCRIBE, and the end of the session, end the note too; a subscription that is renewed without its retained
// messages keeps it.
func TestNotesOfRetainedEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		retainMany(d.fixture, 1, 60)
		c := d.connect("s", codec.V5, keep)
		subscribeAll(c, 1, "t/#", "t/+", "none/#")
		take(t, c).n(5)
		if got := d.owed(t); !slices.Equal(got, []string{"t/#", "t/+"}) {
			t.Errorf("owed: %q", got)
		}
		c.Hangup()
		c, _ = d.present("s", codec.V5, keep)
		k := take(t, c)
		until := func(want codec.Type) {
			for {
				h, body, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
				if h.Type == want {
					return
				}
				if h.Type != codec.PUBLISH {
					k.handle(h, body)
				}
			}
		}
		c.Send(&codec.Subscribe{PacketID: 5, Filters: []codec.Filter{{Name: []byte("t/#"), QoS: 2, RetainHandling: 2}}})
		until(codec.SUBACK)
		c.Send(&codec.Unsubscribe{PacketID: 6, Filters: [][]byte{[]byte("t/+")}})
		until(codec.UNSUBACK)
		if got := d.owed(t); !slices.Equal(got, []string{"t/#"}) {
			t.Errorf("owed after UNSUBSCRIBE: %q", got)
		}
		c.Disconnect()
		d.connect("s", codec.V5, nil).Disconnect() // a clean start
		if got := d.owed(t); len(got) > 0 {
			t.Errorf("owed after the end: %q", got)
		}
	})
}

// The same for what servers have subscribed a session to; only what is still to come begins anew, if it is not
// much.
func TestRetainedOnBehalfGoOnAfterARestart(t *testing.T) {
	const n = 100
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		retainMany(d.fixture, 2, n)
		c := d.connect("s", codec.V5, keep)
		d.ask(behalf.Request{ClientID: "s", Topics: topics("t/0:2", "t/1:2")})
		k := take(t, c).all(d.b)
		k.want(2)
		c.Hangup()
		d.ask(behalf.Request{ClientID: "s", Topics: topics("t/2:2", "t/3:2", "none/#")})
		if got := d.owed(t); !slices.Equal(got, []string{"t/2", "t/3"}) {
			t.Errorf("owed: %q", got)
		}
		d.crash(t, loops)
		c, _ = d.present("s", codec.V5, keep)
		k.on(c).all(d.b).want(4)
		if got := d.owed(t); len(got) > 0 {
			t.Errorf("owed behind the end: %q", got)
		}
		c.Hangup()
		d.ask(behalf.Request{ClientID: "s", Origin: origin("other"), Topics: topics("t/#:2")})
		d.crash(t, 1+loops%4)
		c, _ = d.present("s", codec.V5, keep)
		k.on(c).n(40)
		d.crash(t, loops)
		c, _ = d.present("s", codec.V5, keep)
		k.on(c).all(d.b).atLeastOnce(n, 3)
		if got := d.owed(t); len(got) > 0 {
			t.Errorf("owed behind the end: %q", got)
		}
	})
}
