package route

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/topictree"
	"noctule/wsnet"
)

// loop is an event loop whose turns the test makes.
type loop struct{ mail, again []wsnet.Task }

func (l *loop) Again(t wsnet.Task)    { l.again = append(l.again, t) }
func (l *loop) MustPost(t wsnet.Task) { l.mail = append(l.mail, t) }
func (*loop) Now() int64              { return 1 }

// client is a receiver of the tests.
type client struct {
	name   string
	number int
	once   bool // it gets one copy of what several subscriptions bring it
	place  uint32
	own    map[topictree.FilterID]fanout.Options
	at     map[topictree.FilterID]int
	shares map[topictree.FilterID]*fanout.Share[*client]
	ready  fanout.Readiness
	got    []string
}

func (c *client) Subscribed(id topictree.FilterID) fanout.Member[*client] {
	return fanout.Member[*client]{C: c, Options: c.own[id]}
}
func (c *client) Placed(id topictree.FilterID, at int) { c.at[id] = at }
func (c *client) PlacedIn(*fanout.Set[*client], int)   {}
func (c *client) Take(mb fanout.Member[*client], m *message.Message) {
	c.got = append(c.got, fmt.Sprintf("%s:%d", m.Payload, mb.Options.QoS()))
}

func (c *client) Picks(
	_ topictree.FilterID, h fanout.Hit[*client], _ *message.Message,
) (mb fanout.Member[*client], once *uint32, ok bool) {
	if c.once {
		once = &c.place
	}
	return h.Member, once, true
}

func (c *client) TakeShared(sh *fanout.Share[*client], m *message.Message) bool {
	c.got = append(c.got, fmt.Sprintf("%s:%s", m.Payload, sh.ID.Filter()))
	return true
}

// bench is routers of several loops, and who is on them.
type bench struct {
	t       *testing.T
	index   *topictree.Index
	all     Routers[*client]
	loops   []*loop
	clients []*client
	halts   []int
	held    int
	lost    int
}

func newBench(t *testing.T, loops, clients, slice int, once bool) *bench {
	b := &bench{t: t, index: topictree.New(topictree.Options{}), halts: make([]int, loops)}
	for i := range loops {
		b.loops = append(b.loops, &loop{})
		b.all.New(Options[*client]{
			Index: b.index, Table: fanout.New[*client](b.index, i, slice), Loop: b.loops[i], Number: i,
			Slice: slice, Once: once,
			Only: func(c *client, id topictree.FilterID, m *message.Message) { c.Take(c.Subscribed(id), m) },
			Deliver: func(_ topictree.FilterID, h fanout.Hit[*client], m *message.Message) {
				h.C.Take(h.Member, m)
			},
			Halt: func(on bool) {
				if on {
					b.halts[i]++
				} else {
					b.halts[i]--
				}
			},
			Hold: func() func() { b.held++; return func() { b.held-- } },
			Lost: func() { b.lost++ },
		})
	}
	for i := range clients {
		b.clients = append(b.clients, &client{
			name: fmt.Sprint("c", i), number: i % loops, once: i%2 == 0,
			own: map[topictree.FilterID]fanout.Options{}, at: map[topictree.FilterID]int{},
			shares: map[topictree.FilterID]*fanout.Share[*client]{},
		})
	}
	return b
}

func (b *bench) router(c *client) *Router[*client] { return b.all.list[c.number] }

func (b *bench) subscribe(c *client, filter string, qos uint8) {
	b.t.Helper()
	r := b.router(c)
	o := fanout.NewOptions(qos, false, false)
	if group, name, ok := strings.Cut(strings.TrimPrefix(filter, "$share/"), "/"); ok && name != "" &&
		strings.HasPrefix(filter, "$share/") {
		home := len(name) % len(b.loops)
		id, err := b.index.AddShared([]byte(group), []byte(name), home)
		if err != nil {
			b.t.Fatal(err)
		}
		if c.shares[id] != nil {
			b.index.RemoveShared(id)
			return
		}
		c.shares[id] = &fanout.Share[*client]{C: c, ID: id, Home: home, Loop: c.number, Ready: &c.ready, Options: o}
		r.Join(c.shares[id])
		return
	}
	id, err := b.index.Add([]byte(filter), c.number)
	if err != nil {
		b.t.Fatal(err)
	}
	_, had := c.own[id]
	if c.own[id] = o; had {
		r.Table.Change(id, c.at[id], c.Subscribed(id))
		return
	}
	c.at[id] = r.Table.Join(id, c.Subscribed(id))
}

func (b *bench) publish(loop int, topic, payload string) bool {
	r := b.all.list[loop]
	m := &message.Message{Topic: []byte(topic), Payload: []byte(payload)}
	matched := r.Publish(m, 1)
	clear(m.Payload) // the loan ends
	return matched
}

// turn is a turn of one loop; false if it had nothing to do.
func (b *bench) turn(i int) bool {
	l := b.loops[i]
	tasks := append(l.mail, l.again...)
	l.mail, l.again = nil, nil
	for _, t := range tasks {
		t.Run(nil)
	}
	b.all.list[i].Post()
	if err := b.all.list[i].Check(); err != nil {
		b.t.Fatal(err)
	}
	return len(tasks) > 0
}

// settle makes turns until nobody has anything to do; then nothing is left behind.
func (b *bench) settle() {
	b.t.Helper()
	for busy := true; busy; {
		busy = false
		for i := range b.loops {
			busy = b.turn(i) || busy
		}
	}
	for i, r := range b.all.list {
		if r.backlog != 0 || b.halts[i] != 0 || r.Live.Message() != nil {
			b.t.Fatalf("loop %d: backlog %d, halts %d, live %v", i, r.backlog, b.halts[i], r.Live.Message())
		}
	}
	if b.held != 0 {
		b.t.Fatalf("%d are held", b.held)
	}
}

// want is what a client gets of one message, sorted; shared subscriptions, of which one of several gets it, are
// not among it.
func (b *bench) want(c *client, topic, payload string, once bool) (list []string) {
	best := -1
	for id, o := range c.own {
		if !topictree.MatchFilter([]byte(id.Filter()), []byte(topic)) {
			continue
		}
		if once && c.once {
			best = max(best, int(o.QoS()))
			continue
		}
		list = append(list, fmt.Sprintf("%s:%d", payload, o.QoS()))
	}
	if best >= 0 {
		list = append(list, fmt.Sprintf("%s:%d", payload, best))
	}
	slices.Sort(list)
	return list
}

// Each client gets each message by each subscription, or once at the highest QoS; of each shared subscription
// one member does; messages of one topic and loop come in order. Filters, loops, crowds and slices of all sizes.
func TestModelOfRouters_MQTT_3_3_5_1(t *testing.T) {
	for range 40 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 1))
		once := rnd.IntN(2) == 0
		b := newBench(t, 1+rnd.IntN(3), 1+rnd.IntN(30), 1+rnd.IntN(6), once)
		filters := []string{"#", "a/#", "+/b", "a/b", "a/+", "x", "$share/g/a/b", "$share/h/#", "$share/g/x"}
		for i := range rnd.IntN(3) * 100 { // more than manyFrom, sometimes
			filters = append(filters, fmt.Sprintf("$share/s%d/a/b", i))
		}
		groups := map[string]bool{}
		for range rnd.IntN(200) {
			f := filters[rnd.IntN(len(filters))]
			b.subscribe(b.clients[rnd.IntN(len(b.clients))], f, uint8(rnd.IntN(3)))
			groups[f] = groups[f] || strings.HasPrefix(f, "$share/")
		}
		b.settle()
		want, shared := map[*client][]string{}, map[string]int{}
		for i := range 30 {
			topic, payload := []string{"a/b", "x", "y"}[rnd.IntN(3)], fmt.Sprintf("%03d", i)
			some := false
			for _, c := range b.clients {
				list := b.want(c, topic, payload, once)
				want[c], some = append(want[c], list...), some || len(list) > 0
			}
			for f, is := range groups {
				if is && topictree.MatchFilter([]byte(strings.SplitN(f, "/", 3)[2]), []byte(topic)) {
					shared[payload+":"+f]++
					some = true
				}
			}
			if got := b.publish(rnd.IntN(len(b.loops)), topic, payload); got != some {
				t.Fatalf("seed %d: somebody gets it: %v", seed, got)
			}
			if rnd.IntN(2) == 0 {
				b.turn(rnd.IntN(len(b.loops)))
			}
		}
		for i := range b.loops {
			b.all.list[i].Post()
		}
		b.settle()
		for _, c := range b.clients {
			var own []string
			for _, g := range c.got {
				if strings.Contains(g, "$share") {
					shared[g]--
				} else {
					own = append(own, g)
				}
			}
			slices.Sort(own)
			slices.Sort(want[c])
			if !slices.Equal(own, want[c]) {
				t.Errorf("seed %d: %s got %v, want %v", seed, c.name, own, want[c])
			}
		}
		for what, n := range shared {
			if n != 0 {
				t.Errorf("seed %d: %s was dealt %d times too few", seed, what, n)
			}
		}
		if b.lost > 0 || t.Failed() {
			t.Fatalf("seed %d: %d lost", seed, b.lost)
		}
	}
}

// Messages of one topic come in their order, though one is in slices, or many filters match [MQTT-4.6.0-6].
func TestOrder_MQTT_4_6_0_6(t *testing.T) {
	for _, once := range []bool{false, true} {
		b := newBench(t, 2, 20, 3, once)
		for _, c := range b.clients {
			b.subscribe(c, "a/#", 0)
		}
		for i := range 2 * manyFrom {
			b.subscribe(b.clients[1], fmt.Sprintf("$share/g%d/a/b", i), 0)
		}
		b.settle()
		for i := range 50 {
			b.publish(0, "a/b", fmt.Sprintf("%03d", i))
			if i%7 == 0 {
				b.turn(1)
			}
		}
		b.all.list[0].Post()
		b.settle()
		for _, c := range b.clients {
			own := slices.DeleteFunc(c.got, func(g string) bool { return strings.Contains(g, "$share") })
			if len(own) != 50 || !slices.IsSorted(own) {
				t.Errorf("once %v: %s got %v", once, c.name, own)
			}
		}
	}
}

// A loop with too much under way reads no sockets, and goes on when it has caught up; who publishes to very many
// filters waits.
func TestBackpressure(t *testing.T) {
	b := newBench(t, 1, 10, 2, false)
	for _, c := range b.clients {
		b.subscribe(c, "a", 0)
	}
	for i := range backlogMax {
		if b.halts[0] != 0 {
			t.Fatalf("halted with %d", i)
		}
		b.publish(0, "a", "x")
	}
	if b.publish(0, "a", "x"); b.halts[0] != 1 || b.held != 0 {
		t.Errorf("halted %d times, %d held", b.halts[0], b.held)
	}
	b.settle()
	for i := range 2 * manyFrom {
		b.subscribe(b.clients[0], fmt.Sprintf("$share/g%d/a", i), 0)
	}
	if b.publish(0, "a", "y"); b.held != 1 {
		t.Errorf("%d held", b.held)
	}
	b.settle()
}

// Who counts what is on its way sees it end.
func TestPassagesAreCounted(t *testing.T) {
	b := newBench(t, 1, 1, 1, false)
	for i := range 2 * manyFrom {
		b.subscribe(b.clients[0], fmt.Sprintf("$share/g%d/a", i), 0)
	}
	r := b.all.list[0]
	for i := range 3 {
		if over, n := r.Passages(); over != uint32(i) || n != 0 || r.Searches() != 0 {
			t.Errorf("%d are over, %d under way", over, n)
		}
		b.publish(0, "a", "x")
		if over, n := r.Passages(); over != uint32(i) || n != 1 {
			t.Errorf("%d are over, %d under way, of %d and 1", over, n, i)
		}
		b.settle()
	}
}

// What is counted of who gets a topic: this loop's, shared ones once, and whom to ask.
func TestCount(t *testing.T) {
	b := newBench(t, 3, 6, 10, false)
	for _, c := range b.clients {
		b.subscribe(c, "a", 0)
		b.subscribe(c, "$share/g/a", 0)
	}
	b.subscribe(b.clients[0], "#", 0)
	b.settle()
	here, far := b.all.list[0].Count([]byte("a"))
	if here != 2+1+1 || len(far) != 2 {
		t.Fatalf("%d here, far %v", here, far)
	}
	for i, f := range far {
		if n := b.all.list[f.Loop].Sizes(f.IDs); f.Loop != i+1 || n != 2 {
			t.Errorf("loop %d: %d", f.Loop, n)
		}
	}
}

// A message for a member that has left is dealt again; when there is none, that is told.
func TestDealAgain(t *testing.T) {
	b := newBench(t, 2, 4, 10, false)
	for _, c := range b.clients {
		b.subscribe(c, "$share/g/t", 0) // dealt by loop 1
	}
	b.settle()
	leave := func(c *client) {
		for id, sh := range c.shares {
			delete(c.shares, id)
			b.router(c).Leave(sh)
		}
	}
	b.publish(1, "t", "x") // for c0, on loop 0
	b.all.list[1].Post()
	leave(b.clients[0])
	b.settle()
	var got []string
	for _, c := range b.clients {
		got = append(got, c.got...)
	}
	if len(got) != 1 || len(b.clients[0].got) != 0 {
		t.Errorf("got %v", got)
	}
	for _, c := range b.clients[1:] {
		leave(c)
	}
	b.publish(1, "t", "y") // nothing matches any more
	b.settle()
}

// crowdOf is a Router with n clients that all subscribe to two filters, the second time with QoS 1.
func crowdOf(t *testing.T, n int) (r *Router[*client], ids [2]topictree.FilterID) {
	b := newBench(t, 1, n, n, true)
	for k := range ids {
		for _, c := range b.clients {
			c.once = true
			b.subscribe(c, []string{"a", "+"}[k], uint8(k))
		}
		ids[k], _ = b.index.Lookup([]byte([]string{"a", "+"}[k]))
	}
	return b.all.list[0], ids
}

// A client with overlapping subscriptions is picked once, with the highest QoS. With NOCTULE_TIMED: four times
// as many clients take about four times as long, not sixteen times.
func TestPickIsLinear(t *testing.T) {
	work := func(n int) time.Duration {
		r, ids := crowdOf(t, n)
		start := time.Now()
		var p picks[*client]
		r.pickFor(&p, ids[0], &message.Message{})
		r.pickFor(&p, ids[1], &message.Message{})
		d := time.Since(start)
		if len(p.list) != n {
			t.Fatalf("%d picked", len(p.list))
		}
		for _, mb := range p.list {
			if mb.Options.QoS() != 1 {
				t.Fatal("the lower QoS was picked [MQTT-3.3.5-1]")
			}
		}
		return d
	}
	const n = 4000
	one := work(n)
	if os.Getenv("NOCTULE_TIMED") == "" {
		return
	}
	four := work(4 * n)
	for range 20 {
		if four <= 11*one {
			return
		}
		one, four = min(one, work(n)), min(four, work(4*n))
	}
	t.Errorf("%d: %v, %d: %v", n, one, 4*n, four)
}
