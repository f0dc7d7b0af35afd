package broker_test

import (
	"fmt"
	"testing"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// Nothing runs beside these tests: they count what the whole process allocates and holds.

func TestDeliveryToGrantedDoesNotAllocate(t *testing.T) {
	x := newFixture(t, onSockets(func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = 1 }))
	var subs []*brokertest.Client
	for i := range 5 {
		c := x.connect(fmt.Sprint("s", i), codec.V311, nil)
		x.ask(behalf.Request{ClientID: fmt.Sprint("s", i), Topics: topics("a/+:1", "b")})
		x.ask(behalf.Request{ClientID: fmt.Sprint("s", i), Origin: origin("other"), Topics: topics("a/+", "c")})
		if i%2 == 0 {
			c.Subscribe("own", 0)
		}
		subs = append(subs, c)
	}
	pub := x.connect("pub", codec.V311, nil)
	p := codec.Publish{Topic: []byte("a/topic"), Payload: make([]byte, 64)}
	want := 0
	for range 3 {
		pub.Send(&p)
		for _, c := range subs {
			h, body, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			want = h.Size + len(body)
		}
	}
	if n := testing.AllocsPerRun(500, rounds(t, pub, p.Append(nil, codec.V311), subs, want)); n > 0 {
		t.Errorf("%v allocations for a message and its delivery to %d clients", n, len(subs))
	}
}

// TestGrantedMemory holds what a session takes whose list others have too: the same with 10 topics and with 200.
func TestGrantedMemory(t *testing.T) {
	const sessions = 2000
	use := func(n int) int64 {
		g := &grantor{}
		x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
			o.Loops, o.Admitters = 1, []broker.Admitter{g}
		})
		var list []string
		for i := range n {
			list = append(list, fmt.Sprint("/e/e1/im/g/", i))
		}
		set := topics(list...)
		add := func(id string) {
			g.set(id, behalf.Grant{Origin: perConnect, Topics: set})
			x.connect(id, codec.V5, with(expiry(1000))).Disconnect()
			g.mu.Lock()
			delete(g.grants, id)
			g.mu.Unlock()
		}
		for i := range 200 {
			add(fmt.Sprint("warm-", i))
		}
		before := heap()
		for i := range sessions {
			add(fmt.Sprint("c-", i))
		}
		return (heap() - before) / sessions
	}
	few, many := use(10), use(200)
	t.Logf("%d B a session with 10 topics, %d B with 200", few, many)
	if many > few+150 || many > 2500 { // the test's own connections are part of it
		t.Errorf("%d B a session with 10 topics, %d B with 200", few, many)
	}
}
