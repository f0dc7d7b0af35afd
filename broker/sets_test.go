package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/codec/im"
	"noctule/topictree"
)

// grantor is an Admitter that gives each client what the test has put down for it.
type grantor struct {
	mu     sync.Mutex
	grants map[string][]behalf.Grant
}

// Admit implements broker.Admitter.
func (g *grantor) Admit(_ context.Context, a *broker.Admission) codec.Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	a.Grants = g.grants[a.ClientID]
	return codec.Success
}

func (g *grantor) set(id string, list ...behalf.Grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.grants == nil {
		g.grants = make(map[string][]behalf.Grant)
	}
	g.grants[id] = list
}

func onEachGrantor(t *testing.T, f func(t *testing.T, x *fixture, g *grantor)) {
	t.Helper()
	onEachWith(t, func(o *broker.Options, _ *broker.ListenerOptions) *grantor {
		g := &grantor{}
		o.Admitters = []broker.Admitter{g}
		return g
	}, f)
}

var perConnect = &behalf.Origin{Name: "presub:list", PerConnect: true}

// TestSubscribedBeforeConnack publishes as soon as the publisher can know of the client: nothing is missed.
func TestSubscribedBeforeConnack(t *testing.T) {
	onEachGrantor(t, func(t *testing.T, x *fixture, g *grantor) {
		pub := x.connect("pub", codec.V5, nil)
		for i := range 200 {
			id := fmt.Sprint("c", i)
			g.set(id, behalf.Grant{Origin: perConnect, Topics: topics("u/"+id, "all", fmt.Sprint("g/", i%7))})
			c := brokertest.Dial(t, x.addr, codec.V5)
			ack := c.Connack(id, nil)
			pub.Publish("u/"+id, "m", 0, 0)
			c.WantPublish("u/"+id, "m")
			said := map[string]string{}
			for id, v := range ack.Properties.All() {
				if id == codec.UserProperty {
					said[string(v.Bytes)] = string(v.Pair)
				}
			}
			if said["presub-count"] != "3" || said["presub-revision"] == "" {
				t.Fatalf("CONNACK says %v", said)
			}
		}
	})
}

// TestResumedSessionIsReconciled changes the list between two connections.
func TestResumedSessionIsReconciled(t *testing.T) {
	onEachGrantor(t, func(t *testing.T, x *fixture, g *grantor) {
		pub := x.connect("pub", codec.V5, nil)
		retain(pub, "kept", "r")
		retain(pub, "new", "r")
		g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("kept", "revoked", "own")})
		c := x.connect("c", codec.V5, with(expiry(100)))
		c.WantPublish("kept", "r")
		c.Subscribe("own", 0)
		x.ask(behalf.Request{ClientID: "c", Topics: topics("api")})
		c.Disconnect()

		g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("kept", "new")})
		c, present := x.present("c", codec.V5, with(expiry(100)))
		if !present {
			t.Fatal("no session")
		}
		c.WantPublish("new", "r") // kept does not come again
		wantOnly(pub, c, "revoked")
		for _, topic := range []string{"kept", "new", "own", "api"} {
			wantOnly(pub, c, topic, "m")
		}
		c.Disconnect()

		g.set("c", behalf.Grant{Origin: perConnect, Keep: true}) // the list will come later
		c, _ = x.present("c", codec.V5, with(expiry(100)))
		wantOnly(pub, c, "kept", "m")
		c.Disconnect()

		g.set("c") // nobody has a list any more
		c, _ = x.present("c", codec.V5, with(expiry(100)))
		wantOnly(pub, c, "kept")
		wantOnly(pub, c, "own", "m")
		wantOnly(pub, c, "api", "m")
		c.Disconnect()
		x.advance(101)
		if m := brokertest.Settle(t, x.b); m.Granted != 0 || m.Sets != 0 || m.Subscriptions != 0 || m.SessionsExpired != 1 {
			t.Errorf("after expiry %d granted, %d sets, %d subscriptions", m.Granted, m.Sets, m.Subscriptions)
		}
	})
}

func TestRetainedIsResumed(t *testing.T) {
	onEachGrantor(t, func(_ *testing.T, x *fixture, g *grantor) {
		pub := x.connect("pub", codec.V5, nil)
		for i := range 100 {
			retain(pub, fmt.Sprint("r/", i), "x")
		}
		g.set("c", behalf.Grant{Origin: perConnect, Topics: topics("r/+:1")})
		c := x.connect("c", codec.V5, with(expiry(100)))
		for range 20 { // the window; no PUBACK
			c.Want(codec.PUBLISH, nil)
		}
		c.WantNothing()
		c.Hangup()
		c, _ = x.present("c", codec.V5, with(expiry(100)))
		seen := map[string]bool{}
		for len(seen) < 100 {
			var p codec.Publish
			c.Want(codec.PUBLISH, &p)
			seen[string(p.Topic)] = true
			c.Ack(codec.PUBACK, p.PacketID)
		}
	})
}

// TestRetainedOfReplacedList gives an offline session a list, and another in its place, before it comes back
// for the retained messages; then one again that was taken away.
func TestRetainedOfReplacedList(t *testing.T) {
	onEach(t, nil, func(_ *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V5, nil)
		for _, topic := range []string{"r/1", "r/2", "r/3"} {
			retain(pub, topic, "x")
		}
		x.connect("c", codec.V5, with(expiry(100))).Disconnect()
		for _, list := range [][]string{{"r/1:1", "r/2:1"}, {"r/2:1"}, {}, {"r/1", "r/3"}, {"r/3"}} {
			x.ask(behalf.Request{ClientID: "c", Action: im.Replace, Topics: topics(list...)})
		}
		c, _ := x.present("c", codec.V5, with(expiry(100)))
		c.WantPublish("r/3", "x")
		c.WantNothing()
	})
}

// TestManyMembers has more members than a slice, who change their set while messages are under way.
func TestManyMembers(t *testing.T) {
	const clients, rounds = 2500, 6
	g := &grantor{}
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops, o.Admitters = 1, []broker.Admitter{g}
	})
	pub := x.connect("pub", codec.V5, nil)
	a, b := topics("all", "a"), topics("all", "b")
	var list []*brokertest.Client
	for i := range clients {
		id := fmt.Sprint(i)
		g.set(id, behalf.Grant{Origin: perConnect, Topics: a})
		list = append(list, x.connect(id, codec.V311, nil))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx := context.Background()
		for i := range clients {
			to := a
			if i%2 == 0 {
				to = b
			}
			for range 2 {
				x.b.Apply(ctx, &behalf.Request{
					ClientID: fmt.Sprint(i), Origin: perConnect, Action: im.Replace, Topics: to,
				})
			}
		}
	})
	for i := range rounds {
		pub.Publish("all", fmt.Sprint(i), 1, 1)
		pub.Want(codec.PUBACK, nil)
	}
	wg.Wait()
	brokertest.Settle(t, x.b)
	for i, c := range list {
		for k := range rounds {
			c.In(t).WantPublish("all", fmt.Sprint(k))
		}
		if i%500 == 0 {
			c.WantNothing()
		}
	}
	if m := brokertest.Settle(t, x.b); m.Sets != 2 || m.Granted != 2*clients {
		t.Errorf("%d sets, %d granted", m.Sets, m.Granted)
	}
}

// model is what a naive broker would hold: topics by client, origin and filter.
type model map[string]map[string]map[string]bool

// covers reports whether a client gets a topic.
func (m model) covers(client, topic string) int {
	n := map[string]bool{}
	for _, filters := range m[client] {
		for f := range filters {
			if topictree.MatchFilter([]byte(f), []byte(topic)) {
				n[f] = true
			}
		}
	}
	return len(n)
}

// TestSetsAgainstModel makes random requests, subscribes, unsubscribes and publishes, and compares.
func TestSetsAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, loops := range []int{1, 3} {
		rnd := rand.New(rand.NewPCG(seed, uint64(loops)))
		x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = loops })
		pub := x.connect("pub", codec.V5, nil)
		m := model{}
		clients := map[string]*brokertest.Client{}
		for i := range 6 {
			id := fmt.Sprint("c", i)
			clients[id] = x.connect(id, codec.V5, nil)
			m[id] = map[string]map[string]bool{}
		}
		filters := []string{"a", "a/b", "a/+", "#", "b", "+/b", "b/#"}
		origins := []*behalf.Origin{origin("one"), origin("two"), origin("three")}
		for step := range 600 {
			id := fmt.Sprint("c", rnd.IntN(6))
			var pick []string
			for range 1 + rnd.IntN(3) {
				pick = append(pick, filters[rnd.IntN(len(filters))])
			}
			switch rnd.IntN(8) {
			case 0: // by itself
				clients[id].Subscribe(pick[0], 0)
				m.of(id, "client")[pick[0]] = true
			case 1: // ends it for all origins, until asked for anew
				clients[id].Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte(pick[0])}})
				clients[id].Want(codec.UNSUBACK, nil)
				for _, o := range m[id] {
					delete(o, pick[0])
				}
			default:
				o := origins[rnd.IntN(len(origins))]
				action := []behalf.Action{im.Subscribe, im.Subscribe, im.Unsubscribe}[rnd.IntN(3)]
				x.ask(behalf.Request{ClientID: id, Origin: o, Action: action, Topics: topics(pick...)})
				for _, f := range pick {
					if action == im.Unsubscribe {
						delete(m.of(id, o.Name), f)
					} else {
						m.of(id, o.Name)[f] = true
					}
				}
			}
			topic := []string{"a", "a/b", "b", "b/b", "c"}[rnd.IntN(5)]
			pub.Publish(topic, fmt.Sprint(step), 1, 1)
			pub.Want(codec.PUBACK, nil)
			brokertest.Settle(t, x.b)
			for id, c := range clients {
				if got, want := received(t, c), m.covers(id, topic); got != want {
					t.Fatalf("seed %d, step %d: %s got %d copies on %q, want %d (%v)", seed, step, id, got, topic, want, m[id])
				}
			}
		}
		for _, c := range clients {
			c.Disconnect()
		}
		if s := brokertest.Settle(t, x.b); s.Sets != 0 || s.Subscriptions != 0 || s.Granted != 0 {
			t.Errorf("seed %d: left over: %d sets, %d subscriptions, %d granted", seed, s.Sets, s.Subscriptions, s.Granted)
		}
	}
}

func (m model) of(client, origin string) map[string]bool {
	if m[client][origin] == nil {
		m[client][origin] = map[string]bool{}
	}
	return m[client][origin]
}

// TestTakeoverDuringRequest applies requests while their client reconnects all the time: each answer that
// says so was in effect for some session, and nothing is left over.
func TestTakeoverDuringRequest(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var wg sync.WaitGroup
		codes := make([]behalf.Code, 0, 300)
		wg.Go(func() {
			for i := 0; i < 300 || !slices.Contains(codes, behalf.Done); i++ { // it is connected at the end
				a := x.ask(behalf.Request{ClientID: "c", Topics: topics(fmt.Sprint(i % 10))})
				codes = append(codes, a.Code)
			}
		})
		for i := range 100 {
			x.connect("c", codec.V5, func(p *codec.Connect) {
				p.CleanStart = i%3 != 0
				p.Properties = props(expiry(100))
			})
		}
		wg.Wait()
		for _, code := range codes {
			if code != behalf.Done && code != behalf.NoSession && code != behalf.Busy {
				t.Errorf("code %s", code)
			}
		}
		x.connect("c", codec.V5, nil).Disconnect()
		if m := brokertest.Settle(t, x.b); m.Sets != 0 || m.Granted != 0 {
			t.Errorf("left over: %d sets, %d granted", m.Sets, m.Granted)
		}
	})
}

// TestRefusedConnectLeavesNothing hangs up or refuses after the list has been made.
func TestRefusedConnectLeavesNothing(t *testing.T) {
	onEachGrantor(t, func(t *testing.T, x *fixture, g *grantor) {
		var big []string
		for i := range 3000 {
			big = append(big, fmt.Sprint("t/", i))
		}
		for i := range 20 {
			id := fmt.Sprint("c", i)
			g.set(id, behalf.Grant{Origin: perConnect, Topics: topics(append(big, id)...)})
			c := brokertest.Dial(t, x.addr, codec.V5)
			c.Send(&codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte(id)})
			c.Close()
		}
		brokertest.Until(t, x.b, "the end of all sets", func(m *broker.Metrics) bool {
			return m.Sets == 0 && m.Granted == 0 && m.Subscriptions == 0 && m.Sessions == 0 && m.ConnectionsTotal >= 20
		})
	})
}

func TestTap(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
		defer cancel()
		got := make(chan string, 10)
		tap, err := x.b.Tap(ctx, "/e/+/connect/new", func(topic, payload []byte) { got <- string(topic) + "=" + string(payload) })
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			c := x.connect(fmt.Sprint(i), codec.V5, nil)
			c.Publish("/e/e1/connect/new", fmt.Sprint(i), 1, 1)
			var ack codec.Ack
			if c.Want(codec.PUBACK, &ack); ack.Reason != codec.Success {
				t.Errorf("PUBACK %s", ack.Reason)
			}
			if s := <-got; s != fmt.Sprint("/e/e1/connect/new=", i) {
				t.Errorf("tap got %q", s)
			}
		}
		tap.Close()
		c := x.connect("last", codec.V5, nil)
		brokertest.Settle(t, x.b)
		c.Publish("/e/e1/connect/new", "x", 1, 1)
		var ack codec.Ack
		if c.Want(codec.PUBACK, &ack); ack.Reason != codec.NoMatchingSubscribers {
			t.Errorf("PUBACK %s", ack.Reason)
		}
		if _, err := x.b.Tap(ctx, "a/#/b", nil); err == nil {
			t.Error("a bad filter is taken")
		}
	})
}

// TestEditingASetMovesItsMembers edits the list of many sessions at once.
func TestEditingASetMovesItsMembers(t *testing.T) {
	onEachGrantor(t, func(t *testing.T, x *fixture, g *grantor) {
		pub := x.connect("pub", codec.V5, nil)
		retain(pub, "new", "r")
		retain(pub, "kept", "r")
		from, to := topics("kept", "old"), topics("kept", "new")
		var clients []*brokertest.Client
		for i := range 700 { // more than a step
			id := fmt.Sprint("c", i)
			g.set(id, behalf.Grant{Origin: perConnect, Topics: from})
			c := x.connect(id, codec.V5, nil)
			c.WantPublish("kept", "r")
			clients = append(clients, c)
		}
		g.set("offline", behalf.Grant{Origin: perConnect, Topics: from})
		x.connect("offline", codec.V5, with(expiry(100))).Disconnect()
		x.ask(behalf.Request{ClientID: "c0", Origin: origin("other"), Topics: from}) // is not touched
		ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
		defer cancel()
		n, err := x.b.Move(ctx, perConnect, from, to)
		if n != 701 || err != nil {
			t.Errorf("%d moved, %v", n, err)
		}
		for i, c := range clients {
			if i > 0 {
				c.WantPublish("new", "r")
			}
		}
		for _, topic := range []string{"new", "old", "kept"} {
			exchange(t, pub, topic, "m", 1)
		}
		brokertest.Settle(t, x.b)
		for i, c := range clients {
			if got, want := received(t, c), 2; i > 0 && got != want {
				t.Fatalf("client %d got %d messages, want %d", i, got, want)
			}
		}
		if l := x.list("offline"); l.Holdings[1].Topics[1].Filter != "new" {
			t.Errorf("%+v", l.Holdings)
		}
		if n, err := x.b.Move(ctx, perConnect, from, to); n != 0 || err != nil {
			t.Errorf("%d moved again, %v", n, err)
		}
	})
}
