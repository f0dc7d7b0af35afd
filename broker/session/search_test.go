package session

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker/message"
	"noctule/codec"
)

// action is one step that the world can take.
type action uint8

const (
	publish1 action = iota
	publish2
	publish0
	publishBig1
	publishBig2
	publishFading
	clientNext
	clientRefuses
	answerFirst
	answerSecond
	brokerNext
	brokerRefuses
	ownPublish1
	ownPublish2
	repeatOwn
	clientCut
	brokerCut
	connectTwo
	connectOne
	connectSmall
	beSlow
	drained
	tick
	commitTurn
	crashes
	readAway
	supplyAll
	supplyNothing
	idsAdvance
)

// actionSpec says when an action is possible and what it does.
type actionSpec struct {
	name string
	can  func(w *world) bool
	do   func(w *world)
}

var actions = [...]actionSpec{
	publish1:      {"a message of QoS 1 for the client", always, func(w *world) { w.publish(1, plain) }},
	publish2:      {"a message of QoS 2 for the client", always, func(w *world) { w.publish(2, plain) }},
	publish0:      {"a message of QoS 0 for the absent client", (*world).offline, func(w *world) { w.publish(0, plain) }},
	publishBig1:   {"a large message of QoS 1 for the client", always, func(w *world) { w.publish(1, big) }},
	publishBig2:   {"a large message of QoS 2 for the client", always, func(w *world) { w.publish(2, big) }},
	publishFading: {"a message of QoS 1 that will expire", func(w *world) bool { return w.now == 0 }, func(w *world) { w.publish(1, fading) }},

	clientNext:    {"the client takes a packet", (*world).downReady, func(w *world) { w.clientTakes(false) }},
	clientRefuses: {"the client takes a packet and refuses it", (*world).downNew, func(w *world) { w.clientTakes(true) }},
	answerFirst:   {"the client answers", func(w *world) bool { return w.answers.n > 0 }, func(w *world) { w.send(w.answers.take(0)) }},
	answerSecond:  {"the client answers out of order", func(w *world) bool { return w.answers.n > 1 }, func(w *world) { w.send(w.answers.take(1)) }},
	brokerNext:    {"the broker takes a packet", func(w *world) bool { return w.up.n > 0 }, func(w *world) { w.brokerTakes(false) }},
	brokerRefuses: {"the broker takes a packet and refuses it", (*world).upNew, func(w *world) { w.brokerTakes(true) }},
	ownPublish1:   {"the client publishes with QoS 1", (*world).mayPublish, func(w *world) { w.clientPublish(1) }},
	ownPublish2:   {"the client publishes with QoS 2", (*world).mayPublish, func(w *world) { w.clientPublish(2) }},
	repeatOwn:     {"the client publishes again, on the same connection", (*world).mayRepeat, (*world).repeat},

	clientCut:    {"the client is gone", func(w *world) bool { return w.clientUp }, (*world).cutClient},
	brokerCut:    {"the broker sees the connection end", func(w *world) bool { return w.serverUp }, (*world).cutServer},
	connectTwo:   {"the client connects, Receive Maximum 2", (*world).away, func(w *world) { w.connect(2, false) }},
	connectOne:   {"the client connects, Receive Maximum 1", (*world).away, func(w *world) { w.connect(1, false) }},
	connectSmall: {"the client connects, takes no large message", (*world).away, func(w *world) { w.connect(2, true) }},
	beSlow:       {"the client's socket is full at the next message", (*world).fast, func(w *world) { w.slow = true }},
	drained:      {"the client's socket takes more", func(w *world) bool { return w.serverUp && w.s.held }, func(w *world) { w.s.Continue(w.now, w) }},
	tick:         {"time passes", func(w *world) bool { return w.now == 0 }, func(w *world) { w.now = 1 }},

	commitTurn:    {"a turn is stored", func(w *world) bool { return w.disk.waiting > 0 }, (*world).commit},
	crashes:       {"the broker crashes and starts", always, (*world).crash},
	readAway:      {"the store reads", func(w *world) bool { return w.wanted && !w.reading && w.serverUp }, (*world).readMessages},
	supplyAll:     {"what was read comes", func(w *world) bool { return w.reading }, (*world).supply},
	idsAdvance:    {"65 533 packet ids come and go", (*world).mayAdvance, func(w *world) { w.s.out.flight.last = 65534 }},
	supplyNothing: {"nothing was read", func(w *world) bool { return w.wanted && !w.serverUp }, (*world).supply},
}

// mayAdvance reports whether so many messages can have come and gone that packet ids are about to begin again.
func (w *world) mayAdvance() bool {
	o := w.s.out
	return o != nil && o.flight.old == nil && o.flight.last > 0 && o.flight.last < 1000
}

func always(*world) bool { return true }

func (w *world) offline() bool { return !w.serverUp }
func (w *world) away() bool    { return !w.clientUp }
func (w *world) fast() bool    { return w.serverUp && !w.slow && !w.s.held }

// downReady reports whether a packet has left the broker.
func (w *world) downReady() bool { return w.clientUp && w.down.n > 0 && w.down.at[0].gate == 0 }

func (w *world) downNew() bool {
	return w.downReady() && w.down.at[0].qos == 2 && w.gotAt(w.down.at[0].id) < 0
}

func (w *world) upNew() bool { return w.up.n > 0 && w.up.at[0].qos == 2 }

func (w *world) mayPublish() bool { return w.clientUp && w.serverUp && w.owns < 2 }

// mayRepeat is for MQTT 3, which does not forbid it.
func (w *world) mayRepeat() bool {
	return w.clientUp && w.serverUp && w.owns > 0 && w.own[0].qos == 2 && !w.own[0].comp && w.up.n+w.down.n < 4
}

func (w *world) repeat() {
	m := &w.own[0]
	w.send(packet{t: codec.PUBLISH, id: m.id, n: m.n, qos: m.qos, dup: true})
}

// readMessages notes what is wanted now, supply brings it.
func (w *world) readMessages() {
	w.reading, w.reads = true, 0
	w.s.Wants(func(_ uint64, st *message.Stored) bool {
		w.read[w.reads] = uint8(st.ID)
		w.reads++
		return int(w.reads) < len(w.read)
	})
}

func (w *world) supply() {
	if !w.serverUp {
		w.reads = 0
	}
	w.serverSupply()
}

// serverSupply brings what was read.
func (w *world) serverSupply() {
	var list []Supplied
	for _, n := range w.read[:w.reads] {
		m := w.sc.made.down[w.fates[n].kind][n]
		seq := uint64(0)
		w.s.Wants(func(q uint64, st *message.Stored) bool {
			if st == m.Stored {
				seq = q
			}
			return seq == 0
		})
		list = append(list, Supplied{Seq: seq, Message: m})
	}
	w.wanted, w.reading, w.reads, w.read = false, false, 0, [2]uint8{}
	w.s.Supply(list, w.now, w)
}

// scenario is one search: what can happen in it.
type scenario struct {
	name    string
	limits  Limits
	v5      bool
	durable bool
	memory  int64 // Bound of Limits.Memory; below 0: none
	exact   bool  // packet ids are a part of the state as they are
	shared  bool  // messages come by a shared subscription
	actions []action
	depth   int // of the short run
	made    *catalogue
	spare   []*world
	settled seen // states from which all comes to rest

	// Scratch:
	before, after [stateMax]byte
	way           [200]uint64
}

func (sc *scenario) grant(qos uint8) Grant {
	g := Grant{QoS: qos}
	if sc.shared && qos > 0 {
		g.Share = 1
	}
	return g
}

var (
	outward  = []action{publish1, publish2, clientNext, answerFirst, answerSecond, brokerNext}
	inward   = []action{ownPublish1, ownPublish2, brokerNext, clientNext}
	breaking = []action{clientCut, brokerCut, connectTwo}
	storing  = []action{commitTurn, crashes}
)

func scenarios() []*scenario {
	two := Limits{Inflight: 2, Queued: 2, Unreleased: 2}
	join := slices.Concat[[]action]
	list := []*scenario{
		{
			name: "out v5", v5: true, limits: two, memory: -1, depth: 18,
			actions: join(outward, breaking, []action{clientRefuses, connectOne}),
		},
		{
			name: "out v3, slow, expiring", limits: two, memory: -1, depth: 11,
			actions: join(outward, breaking, []action{publish0, publishFading, tick, beSlow, drained}),
		},
		{
			name: "out v5, sizes, bytes, stored", v5: true, limits: two, memory: -1, depth: 9, durable: true,
			actions: join(outward, breaking, storing, []action{publishBig1, publishBig2, connectSmall}),
		},
		{
			name: "out v5, stored", v5: true, limits: two, memory: -1, depth: 11, durable: true, shared: true,
			actions: join(outward, breaking, storing, []action{clientRefuses}),
		},
		{
			name: "out v3, queue on disk", limits: two, memory: 2, depth: 8, durable: true, shared: true,
			actions: join(outward, breaking, storing, []action{publish0, readAway, supplyAll, supplyNothing, publishFading, tick}),
		},
		{
			name: "in v5, stored", v5: true, limits: two, memory: -1, depth: 30, durable: true,
			actions: join(inward, breaking, storing, []action{brokerRefuses}),
		},
		{
			name: "in v3", limits: two, memory: -1, depth: 30,
			actions: join(inward, breaking, []action{brokerRefuses, repeatOwn}),
		},
		{
			name: "both v5, stored", v5: true, limits: two, memory: -1, depth: 9, durable: true,
			actions: join(outward, breaking, storing, []action{ownPublish1, ownPublish2}),
		},
		{
			name: "both v5, all but sizes", v5: true, limits: two, memory: 2, depth: 6, durable: true, shared: true,
			actions: join(outward, breaking, storing, []action{
				ownPublish1, ownPublish2, clientRefuses, brokerRefuses, publish0, publishFading, tick, connectOne,
				beSlow, drained, readAway, supplyAll, supplyNothing,
			}),
		},
		{
			name: "ids begin again", v5: true, limits: two, memory: -1, depth: 16, exact: true,
			actions: join(outward, breaking, []action{idsAdvance}),
		},
	}
	list[1].limits.QueueQoS0, list[4].limits.QueueQoS0, list[8].limits.QueueQoS0 = true, true, true
	list[2].limits.InflightBytes = 2
	for _, sc := range list {
		sc.made = newCatalogue()
	}
	return list
}

// seen is a set of hashes, by open addressing. Two states in a search of 50 million have the same hash with a
// probability of 1 to 15 000.
type seen struct {
	slots []uint64
	n     int
}

// has reports whether h is a member.
func (s *seen) has(h uint64) bool {
	return len(s.slots) > 0 && s.slots[s.place(h)] != 0
}

// place is where h is, or would be.
func (s *seen) place(h uint64) uint64 {
	at := h & uint64(len(s.slots)-1)
	for s.slots[at] != 0 && s.slots[at] != h {
		at = (at + 1) & uint64(len(s.slots)-1)
	}
	return at
}

// add makes h a member; false if it is one.
func (s *seen) add(h uint64) bool {
	if 3*s.n >= 2*len(s.slots) {
		old := s.slots
		s.slots, s.n = make([]uint64, max(1<<10, 2*len(old))), 0
		for _, h := range old {
			if h != 0 {
				s.add(h)
			}
		}
	}
	at := s.place(h)
	if s.slots[at] != 0 {
		return false
	}
	s.slots[at] = h
	s.n++
	return true
}

// searching is one search, breadth first. A state is stored as the one before it and the action between them.
type searching struct {
	sc    *scenario
	until time.Duration // by busy; 0: to the depth given

	before []uint32
	by     []action
	seen   seen
	steps  int
	depth  int      // complete
	path   []*world // of the state looked at last
	nodes  []uint32
	over   bool // nothing is left

	// What is done at the moment, for a counterexample:
	at    uint32
	doing action
	part  string
}

func newSearch(sc *scenario) *searching {
	x := &searching{sc: sc, before: []uint32{0}, by: []action{0}}
	w := newWorld(sc)
	x.seen.add(w.hash())
	x.path, x.nodes = []*world{w}, []uint32{0}
	return x
}

// run searches to a depth. It returns a counterexample, the shortest there is; "" if it has found none.
func (x *searching) run(depth int) (found string) {
	defer func() {
		if r := recover(); r != nil {
			found = x.explain(r)
		}
	}()
	lo := 0
	for x.depth < depth {
		hi := len(x.by)
		for i := lo; i < hi; i++ {
			if i%256 == 0 && x.until > 0 && busy() > x.until {
				return ""
			}
			x.expand(uint32(i))
		}
		x.depth++
		if lo = hi; hi == len(x.by) {
			x.over = true
			return ""
		}
	}
	return ""
}

// expand takes each step that is possible from one state.
func (x *searching) expand(node uint32) {
	w := x.world(node)
	for _, a := range x.sc.actions {
		if !actions[a].can(w) {
			continue
		}
		x.at, x.doing, x.part = node, a, ""
		x.steps++
		c := w.clone()
		c.take(a)
		if !x.seen.add(c.hash()) {
			c.giveBack()
			continue
		}
		x.before, x.by = append(x.before, node), append(x.by, a)
		x.part = "; then answers that nobody owes"
		c.checkStrays()
		x.part = "; then all comes to rest"
		c.checkRest()
		if x.part = "; then the session ends"; x.sc.shared {
			c.checkEnd()
		}
		c.giveBack()
	}
}

// world makes a state again, from the last one that is on the way to both.
func (x *searching) world(node uint32) *world {
	var way []uint32
	for n := node; n != 0; n = x.before[n] {
		way = append(way, n)
	}
	slices.Reverse(way)
	k := 0
	for k < len(way) && k+1 < len(x.nodes) && x.nodes[k+1] == way[k] {
		k++
	}
	for _, w := range x.path[k+1:] {
		w.giveBack()
	}
	x.path, x.nodes = x.path[:k+1], x.nodes[:k+1]
	for _, n := range way[k:] {
		w := x.path[len(x.path)-1].clone()
		w.take(x.by[n])
		x.path, x.nodes = append(x.path, w), append(x.nodes, n)
	}
	return x.path[len(x.path)-1]
}

// explain tells the way to a breach.
func (x *searching) explain(r any) string {
	var way []action
	for n := x.at; n != 0; n = x.before[n] {
		way = append(way, x.by[n])
	}
	slices.Reverse(way)
	way = append(way, x.doing)
	var log []string
	w := newWorld(x.sc)
	w.log = &log
	func() {
		defer func() { _ = recover() }()
		for i, a := range way {
			w.say("%2d. %s", i+1, actions[a].name)
			w.take(a)
		}
		if x.part != "" {
			w.say("%s", x.part)
			w.checkStrays()
			w.checkRest()
			w.checkEnd()
		}
	}()
	if _, ok := r.(breach); !ok {
		r = fmt.Sprintf("panic: %v", r)
	}
	return fmt.Sprintf("%s: after %d steps%s: %v\n%s", x.sc.name, len(way), x.part, r, strings.Join(log, "\n"))
}

// TestSearch walks through all that can happen to a session, breadth first: what the broker and the client
// publish, each packet's arrival, answers in and out of order, refusals, cuts, take-overs, slow sockets, time,
// commits and crashes. In each state nothing is lost, no QoS 2 message comes twice, the window holds, the order
// is kept, packet ids are used once at a time and are free in the end; and from each state all that was
// accepted arrives. NOCTULE_SEARCH is how much time of one processor it takes.
func TestSearch(t *testing.T) {
	list := scenarios()
	var long time.Duration
	if s := os.Getenv("NOCTULE_SEARCH"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	for i, sc := range list {
		t.Run(strings.NewReplacer(" ", "-", ",", "").Replace(sc.name), func(t *testing.T) {
			x := newSearch(sc)
			depth := sc.depth - shallower
			begin := busy()
			if long > 0 { // what one leaves over is for the others
				x.until, depth = begin+long/time.Duration(len(list)-i), 1<<20
				defer func() { long -= busy() - begin }()
			}
			if found := x.run(depth); found != "" {
				t.Fatal("counterexample: ", found)
			}
			end := ""
			if x.over {
				end = ", and there are no others"
			}
			t.Logf("%s: %d states, %d steps, all to depth %d%s, in %v", sc.name, x.seen.n, x.steps, x.depth, end,
				(busy() - begin).Round(time.Millisecond))
		})
	}
}
