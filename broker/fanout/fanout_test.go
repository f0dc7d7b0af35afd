package fanout_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/topictree"
)

// receiver is a receiver in the tests, with what a Table tells it.
type receiver struct {
	name string
	own  map[topictree.FilterID]fanout.Options // what it has subscribed to itself
	at   map[topictree.FilterID]int
	in   map[*fanout.Set[*receiver]]int // places in sets
}

func newReceiver(name string) *receiver {
	return &receiver{
		name: name, own: map[topictree.FilterID]fanout.Options{}, at: map[topictree.FilterID]int{},
		in: map[*fanout.Set[*receiver]]int{},
	}
}

// Subscribed implements fanout.Receiver.
func (c *receiver) Subscribed(id topictree.FilterID) fanout.Member[*receiver] {
	return fanout.Member[*receiver]{C: c, Options: c.own[id]}
}

// Placed implements fanout.Receiver.
func (c *receiver) Placed(id topictree.FilterID, at int) { c.at[id] = at }

// PlacedIn implements fanout.Receiver.
func (c *receiver) PlacedIn(x *fanout.Set[*receiver], at int) { c.in[x] = at }

// message of a test: who had it before, and who has to get it.
type sent struct {
	id   topictree.FilterID
	m    *message.Message
	want []string // by name and how, sorted
	gone map[string]bool
	got  []string
}

// model is a Table beside a plain list of who has what.
type model struct {
	t         *testing.T
	index     *topictree.Index
	table     *fanout.Table[*receiver]
	rnd       *rand.Rand
	ids       []topictree.FilterID
	receivers []*receiver
	sets      []*fanout.Set[*receiver]
	has       map[topictree.FilterID]map[*fanout.Set[*receiver]]bool
	queued    []*sent
}

const slice = 4

// how says by what a receiver got a message.
func (x *model) how(h fanout.Hit[*receiver]) string {
	if h.By == nil {
		return h.C.name
	}
	return fmt.Sprintf("%s by %d", h.C.name, slices.Index(x.sets, h.By))
}

// want is who has a filter now.
func (x *model) want(id topictree.FilterID) []string {
	var list []string
	for _, c := range x.receivers {
		if _, ok := c.own[id]; ok {
			list = append(list, c.name)
		}
		for i, set := range x.sets {
			if _, member := c.in[set]; member && x.has[id][set] {
				list = append(list, fmt.Sprintf("%s by %d", c.name, i))
			}
		}
	}
	slices.Sort(list)
	return list
}

func (x *model) subscribe(c *receiver, id topictree.FilterID) {
	o := fanout.NewOptions(uint8(x.rnd.IntN(3)), false, true)
	_, had := c.own[id]
	c.own[id] = o
	mb := fanout.Member[*receiver]{C: c, Options: o}
	if had {
		x.table.Change(id, c.at[id], mb)
		return
	}
	x.add(id)
	c.at[id] = x.table.Join(id, mb)
}

func (x *model) add(id topictree.FilterID) {
	if got, err := x.index.Add([]byte(id.Filter()), 0); err != nil || got != id {
		x.t.Fatalf("index: %v", err)
	}
}

func (x *model) unsubscribe(c *receiver, id topictree.FilterID) {
	if _, ok := c.own[id]; !ok {
		return
	}
	delete(c.own, id)
	x.table.Leave(id, c.at[id])
	for _, q := range x.queued {
		if q.id == id {
			q.gone[c.name] = true
		}
	}
}

// enter puts a receiver into a set, or out of it, to another if that is to be.
func (x *model) enter(c *receiver, set, to *fanout.Set[*receiver]) {
	at, ok := c.in[set]
	if !ok {
		c.in[set] = set.Enter(c)
		return
	}
	moves := to != nil && to != set
	if moves {
		if _, there := c.in[to]; there {
			moves = false
		} else {
			c.in[to] = to.Enter(c)
		}
	}
	delete(c.in, set)
	x.table.Exit(set, at, moves)
	if moves {
		return // it gets by the old set what was published before
	}
	for _, q := range x.queued {
		q.gone[fmt.Sprintf("%s by %d", c.name, slices.Index(x.sets, set))] = true
	}
}

func (x *model) publish(id topictree.FilterID) {
	s := &sent{id: id, m: message.New([]byte("t"), nil, 0, false), want: x.want(id), gone: map[string]bool{}}
	if c, ok := x.table.Only(id); ok {
		s.got = append(s.got, c.name)
		x.check(s)
		return
	}
	queue := x.table.Deliver(id, s.m, func(_ topictree.FilterID, h fanout.Hit[*receiver], _ *message.Message) {
		s.got = append(s.got, x.how(h))
	})
	if !queue {
		x.check(s)
		return
	}
	first := x.table.Queue(id, s.m, len(x.queued)%2 == 0)
	if waits := slices.ContainsFunc(x.queued, func(q *sent) bool { return q.id == id }); first == waits {
		x.t.Fatalf("the first of %v: %v", id.Filter(), first)
	}
	x.queued = append(x.queued, s)
}

// serve serves the next slice of a filter.
func (x *model) serve(id topictree.FilterID) {
	at := slices.IndexFunc(x.queued, func(q *sent) bool { return q.id == id })
	if at < 0 {
		if x.table.Under(id) != nil {
			x.t.Fatal("a job that nobody knows of")
		}
		return
	}
	s := x.queued[at]
	if x.table.Under(id) != s.m {
		x.t.Fatal("the oldest is not first [MQTT-4.6.0-6]")
	}
	n := len(s.got)
	over, _ := x.table.Serve(id, func(_ topictree.FilterID, h fanout.Hit[*receiver], _ *message.Message) {
		s.got = append(s.got, x.how(h))
	})
	if len(s.got)-n > slice {
		x.t.Fatalf("%d in one slice", len(s.got)-n)
	}
	if over {
		x.queued = slices.Delete(x.queued, at, at+1)
		x.check(s)
	}
	x.table.Rest(id)
}

// check compares who got a message: each who had the filter and has it still, nobody twice, nobody else.
func (x *model) check(s *sent) {
	slices.Sort(s.got)
	if twice := len(slices.Compact(slices.Clone(s.got))) != len(s.got); twice {
		x.t.Errorf("twice: %v", s.got)
	}
	for _, w := range s.want {
		if !s.gone[w] && !slices.Contains(s.got, w) {
			x.t.Errorf("%s has not got it; got %v", w, s.got)
		}
	}
	for _, g := range s.got {
		if !slices.Contains(s.want, g) {
			x.t.Errorf("%s has got it, who came later", g)
		}
	}
}

// step does one thing at random.
func (x *model) step() {
	c, id := x.receivers[x.rnd.IntN(len(x.receivers))], x.ids[x.rnd.IntN(len(x.ids))]
	set, other := x.sets[x.rnd.IntN(len(x.sets))], x.sets[x.rnd.IntN(len(x.sets))]
	switch x.rnd.IntN(12) {
	case 0, 1, 2:
		x.subscribe(c, id)
	case 3:
		x.unsubscribe(c, id)
	case 4, 5:
		x.enter(c, set, other)
	case 6:
		if x.has[id][set] {
			delete(x.has[id], set)
			x.table.Detach(id, set)
		} else {
			x.add(id)
			x.has[id][set] = true
			x.table.Attach(id, fanout.Ref[*receiver]{Set: set, Options: 1})
		}
	case 7, 8:
		x.publish(id)
	default:
		x.serve(id)
	}
}

// Members and sets come and go while messages pass in slices: each message reaches who had the filter when it
// was published and has it still, once, in order.
func TestModelOfTable(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		x := &model{
			t: t, index: topictree.New(topictree.Options{}), rnd: rand.New(rand.NewPCG(seed, 1)),
			has: map[topictree.FilterID]map[*fanout.Set[*receiver]]bool{},
		}
		x.table = fanout.New[*receiver](x.index, 0, slice)
		for _, f := range []string{"a", "b/#", "+/c"} {
			id, err := x.index.Add([]byte(f), 1) // another loop's
			if err != nil {
				t.Fatal(err)
			}
			x.ids = append(x.ids, id)
			x.has[id] = map[*fanout.Set[*receiver]]bool{}
		}
		for i := range 12 {
			x.receivers = append(x.receivers, newReceiver(fmt.Sprint("r", i)))
		}
		for range 3 {
			x.sets = append(x.sets, &fanout.Set[*receiver]{})
		}
		for range 2000 {
			x.step()
			if _, err := x.table.Check(map[*fanout.Set[*receiver]]int{}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		x.empty()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// empty takes everything out again: nothing is left.
func (x *model) empty() {
	for _, id := range x.ids {
		for x.table.Under(id) != nil {
			x.serve(id)
		}
	}
	for _, id := range x.ids {
		if got := x.table.Size(id); got != len(x.want(id)) {
			x.t.Errorf("%d receivers of %s, want %d", got, id.Filter(), len(x.want(id)))
		}
		var page []string
		for from := 0; from < 100; from += 3 {
			x.table.Page(id, from, 3, func(c *receiver, _ fanout.Options) { page = append(page, c.name) })
		}
		if len(page) != len(x.want(id)) {
			x.t.Errorf("pages of %s: %v, want %v", id.Filter(), page, x.want(id))
		}
		for _, c := range x.receivers {
			x.unsubscribe(c, id)
		}
		for set := range maps.Clone(x.has[id]) {
			x.table.Detach(id, set)
		}
	}
	if x.table.Len() != 0 {
		x.t.Errorf("%d filters are left", x.table.Len())
	}
}

// A barrier is passed when what was under way when it was first asked about is over, whatever has come since.
func TestBarrier(t *testing.T) {
	index := topictree.New(topictree.Options{})
	table := fanout.New[*receiver](index, 0, slice)
	id, err := index.Add([]byte("a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * slice {
		c := newReceiver("r")
		table.Join(id, fanout.Member[*receiver]{C: c})
	}
	visit := func(topictree.FilterID, fanout.Hit[*receiver], *message.Message) {}
	var b fanout.Barrier
	if !table.Passed(id, &b) {
		t.Error("nothing is under way")
	}
	serve := func() {
		for over := false; !over; {
			over, _ = table.Serve(id, visit)
		}
		table.Rest(id)
	}
	for range 2 {
		table.Queue(id, message.New([]byte("a"), nil, 0, false), false)
	}
	for i := range 3 {
		if table.Passed(id, &b) != (i == 2) {
			t.Errorf("after %d of 2", i)
		}
		if i < 2 {
			serve()
			table.Queue(id, message.New([]byte("a"), nil, 0, false), false)
		}
	}
}

// Messages go round among those of the best rank.
func TestGroup(t *testing.T) {
	var g fanout.Group[*receiver]
	rank := map[*receiver]uint32{}
	var list []*receiver
	for i := range 4 {
		list = append(list, newReceiver(fmt.Sprint(i)))
		g.Join(list[i])
	}
	deal := func(n int) string {
		out := ""
		for range n {
			m, ok := g.Deal(9, func(m *receiver) uint32 { return rank[m] })
			if !ok {
				return out + "-"
			}
			out += m.name
		}
		return out
	}
	for i, tt := range []struct {
		change func()
		want   string
	}{
		{func() {}, "012301"},
		{func() { rank[list[2]], rank[list[3]] = 1, 2 }, "010101"},
		{func() { rank[list[0]], rank[list[1]] = 3, 3 }, "222222"},
		{func() { g.Leave(list[2]) }, "333333"},
		{func() { clear(rank); g.Leave(list[0]) }, "131313"},
		{func() { rank[list[1]], rank[list[3]] = 9, 9 }, "-"},
		{func() { g.Leave(list[1]); g.Leave(list[3]); g.Leave(list[3]) }, "-"},
	} {
		tt.change()
		if got := deal(6); got != tt.want {
			t.Errorf("%d: %s, want %s", i, got, tt.want)
		}
	}
	if g.Len() != 0 || len(g.Page(0, 5)) != 0 {
		t.Error("somebody is left")
	}
}
