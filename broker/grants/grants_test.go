package grants

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/codec/im"
	"noctule/topictree"
)

// TestChecksFindFaults breaks a table in many ways, each of which a Census must find; when it is mended it finds nothing.
func TestChecksFindFaults(t *testing.T) {
	w := newWorld(t, 1)
	a := w.connect("a", "")
	b := w.connect("b", "")
	w.replace("a", "o", "x", "y")
	w.replace("b", "o", "x", "y")
	w.run()
	table, receivers := w.loops[0].table, w.loops[0].receivers
	g := a.list.first
	x := g.set
	plant := func(want string, do, undo func()) {
		t.Helper()
		if err := w.check(); err != nil {
			t.Fatalf("before %s: %v", want, err)
		}
		do()
		if err := w.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found %v, want %q", err, want)
		}
		undo()
		if err := w.check(); err != nil {
			t.Fatalf("after %s: %v", want, err)
		}
	}
	plant("1 counted", func() { x.grants-- }, func() { x.grants++ })
	plant("3 counted", func() { x.grants++ }, func() { x.grants-- })
	plant("pins or more, -1 counted", func() { x.pins-- }, func() { x.pins++ })
	plant("1 pins or more", func() { table.loose = append(table.loose, x) }, func() { table.loose = nil })
	plant("uprooting true", func() { x.uprooting = true }, func() { x.uprooting = false })
	plant("1 with topics, are gone", func() { delete(table.sets, x.key) }, func() { table.sets[x.key] = x })
	plant("is a member of a set", func() { g.at++ }, func() { g.at-- })
	plant("3 members, 2 of them know", func() { x.members.Enter(b) }, func() { receivers.Exit(&x.members, 2, false) })
	ref := fanout.Ref[*session]{Set: &x.members, Options: x.topics[0].Options}
	plant("2 topics, 3 planted", func() { receivers.Attach(x.topics[0].ID, ref) },
		func() { receivers.Detach(x.topics[0].ID, &x.members) })
	plant("sorted false", func() { x.topics[0], x.topics[1] = x.topics[1], x.topics[0] },
		func() { x.topics[0], x.topics[1] = x.topics[1], x.topics[0] })
}

// model is what a session must have: topics by origin, and what it has unsubscribed from.
type model map[string]*modelGrant

type modelGrant struct {
	filters map[string]int64 // with when each ends, in seconds; 0: never
	muted   map[string]bool
}

// TestModel makes random requests, connects, UNSUBSCRIBEs, moves and ends, and holds what sessions have, and who gets
// what comes, against a naive model. Topics end by themselves, random ones at random times. References of sets balance all the time, and at the end nothing is left.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range 40 {
		m := &modelTest{t: t, world: newWorld(t, 1+round%3), rnd: rand.New(rand.NewPCG(seed, uint64(round)))}
		m.known = map[string]model{}
		for range 150 {
			m.step()
		}
		for _, id := range m.ids() {
			m.end(id)
		}
		m.run()
		for _, l := range m.loops {
			if n := l.table.Count(); n.Sets != 0 || n.Topics != 0 || n.Plain != 0 || l.receivers.Len() != 0 || l.shares != 0 {
				t.Fatalf("left over: %+v, %d filters, %d members", n, l.receivers.Len(), l.shares)
			}
		}
	}
}

type modelTest struct {
	*world
	t     *testing.T
	rnd   *rand.Rand
	known map[string]model // by client id
}

func (m *modelTest) ids() []string { return slices.Sorted(maps.Keys(m.known)) }

func (m *modelTest) filters() map[string]int64 {
	list := map[string]int64{}
	ends := m.rnd.IntN(2) == 0
	for _, f := range []string{"a", "b", "c", "d", "$share/g/a", "$share/h/b"} {
		if m.rnd.IntN(3) == 0 {
			list[f] = 0
			if ends && m.rnd.IntN(2) == 0 {
				list[f] = m.now/1000 + 1 + m.rnd.Int64N(4)
			}
		}
	}
	return list
}

// listOf is what a model has as a list.
func listOf(filters map[string]int64) *behalf.Set {
	var list []behalf.Topic
	var ends []int64
	for f, at := range filters {
		list, ends = append(list, behalf.Topic{Filter: f, QoS: 1}), append(ends, at)
	}
	return behalf.NewEndingSet(list, ends)
}

// set is what becomes of the model by a list in place of another.
func (m *modelTest) set(id, origin string, filters map[string]int64) {
	g := m.known[id][origin]
	if g == nil {
		if len(filters) == 0 {
			return
		}
		g = &modelGrant{muted: map[string]bool{}}
		m.known[id][origin] = g
	}
	g.filters = maps.Clone(filters)
	g.forget()
}

// forget takes out of what is muted what is not there.
func (g *modelGrant) forget() {
	maps.DeleteFunc(g.muted, func(f string, _ bool) bool { _, ok := g.filters[f]; return !ok })
}

// wait lets time pass, and ends what is due.
func (m *modelTest) wait() {
	m.now += 500 * m.rnd.Int64N(5)
	m.tick()
	for _, known := range m.known {
		for _, g := range known {
			maps.DeleteFunc(g.filters, func(_ string, at int64) bool { return at != 0 && at <= m.now/1000 })
			g.forget()
		}
	}
}

func (m *modelTest) step() {
	id := string(rune('p' + m.rnd.IntN(5)))
	origin := "o" + fmt.Sprint(m.rnd.IntN(3))
	list := m.filters()
	o := &behalf.Origin{Name: origin}
	known := m.known[id]
	switch op := m.rnd.IntN(9); {
	case op == 8:
		m.wait()
	case known == nil:
		m.connect(id, "", behalf.Grant{Origin: o, Topics: listOf(list)})
		m.known[id] = model{}
		m.set(id, origin, list)
	case op == 0:
		m.end(id)
		delete(m.known, id)
	case op == 1:
		m.connect(id, "", behalf.Grant{Origin: o, Topics: listOf(list)})
		m.set(id, origin, list)
	case op == 2:
		m.withdraw(id, []string{"a", "b", "c", "$share/g/a"}[m.rnd.IntN(4)])
	case op == 3:
		m.move(o, list)
	default:
		a := []behalf.Action{im.Subscribe, im.Unsubscribe, im.Replace}[op%3]
		if got := m.ask(id, a, o, listOf(list)); got.Code != behalf.Done {
			m.t.Fatalf("%v: %+v", a, got)
		}
		m.asked(id, origin, a, list)
	}
	m.compare()
}

func (m *modelTest) asked(id, origin string, a behalf.Action, list map[string]int64) {
	next := map[string]int64{}
	if g := m.known[id][origin]; g != nil && a != im.Replace {
		next = maps.Clone(g.filters)
	}
	for f, at := range list {
		if next[f] = at; a == im.Unsubscribe {
			delete(next, f)
		}
	}
	m.set(id, origin, next)
	if g := m.known[id][origin]; g != nil && a != im.Unsubscribe {
		for f := range list {
			delete(g.muted, f)
		}
	}
}

func (m *modelTest) withdraw(id, filter string) {
	had := false
	for _, g := range m.known[id] {
		if _, ok := g.filters[filter]; ok && !g.muted[filter] {
			had, g.muted[filter] = true, true
		}
	}
	l := m.loops[m.Home(id)]
	if done, denied := l.table.Withdraw(l.sessions[id], filter); done != had || denied {
		m.t.Fatalf("UNSUBSCRIBE of %q by %s: %v %v, want %v", filter, id, done, denied, had)
	}
}

// move gives all sessions that have the list of some session another one.
func (m *modelTest) move(o *behalf.Origin, list map[string]int64) {
	var from map[string]int64
	for _, id := range m.ids() {
		if g := m.known[id][o.Name]; g != nil && len(g.filters) > 0 {
			from = maps.Clone(g.filters)
		}
	}
	if from == nil {
		return
	}
	want := 0
	for _, id := range m.ids() {
		g := m.known[id][o.Name]
		if g != nil && maps.Equal(g.filters, from) && !maps.Equal(list, from) {
			want++
			m.set(id, o.Name, list)
		}
	}
	n, err := m.d.Move(context.Background(), o, listOf(from), listOf(list))
	if err != nil || n != want {
		m.t.Fatalf("%d moved from %v to %v, want %d: %v", n, from, list, want, err)
	}
}

// compare holds everything that can be seen against the model.
func (m *modelTest) compare() {
	m.t.Helper()
	m.run()
	if err := m.check(); err != nil {
		m.t.Fatal(err)
	}
	gets := map[string][]string{}
	for _, id := range m.ids() {
		c := m.loops[m.Home(id)].sessions[id]
		all := map[string]bool{}
		for _, h := range c.list.Holdings() {
			g := m.known[id][h.Origin]
			if g == nil {
				m.t.Fatalf("%s has %+v", id, h)
			}
			got := map[string]int64{}
			for i, x := range h.Topics {
				if got[x.Filter] = 0; h.Ends != nil {
					got[x.Filter] = h.Ends[i]
				}
			}
			slices.Sort(h.Muted)
			if !maps.Equal(got, g.filters) || !slices.Equal(h.Muted, slices.Sorted(maps.Keys(g.muted))) {
				m.t.Fatalf("%s has %v of %s, muted %v, want %v and %v", id, got, h.Origin, h.Muted, g.filters, g.muted)
			}
			for f := range g.filters {
				if !g.muted[f] {
					all[f] = true
				}
			}
		}
		m.shared(id, c, all)
		for f := range all {
			gets[f] = append(gets[f], id)
		}
	}
	for _, f := range []string{"a", "b", "c", "d"} {
		if got := m.receives(f); !slices.Equal(got, gets[f]) {
			m.t.Fatalf("%q comes to %v, want %v", f, got, gets[f])
		}
	}
}

// shared holds that a session is a member of its shared subscriptions once each.
func (m *modelTest) shared(id string, c *session, all map[string]bool) {
	member := map[string]bool{}
	for x := range c.list.Shares {
		if f := x.ID.Filter(); member[f] || !all[f] {
			m.t.Fatalf("%s is a member of %q, twice %v", id, f, member[f])
		}
		member[x.ID.Filter()] = true
	}
	for f := range all {
		if strings.HasPrefix(f, "$share/") && !member[f] {
			m.t.Fatalf("%s is no member of %q", id, f)
		}
	}
}

// TestWaiting has requests that wait: for a client, for a user, folded, taken by the CONNECT, in vain, and too many.
func TestWaiting(t *testing.T) {
	w := newWorld(t, 2)
	ctx, o := context.Background(), &behalf.Origin{Name: "o"}
	var later []behalf.Answer
	r := behalf.Request{
		ClientID: "a", Action: im.Subscribe, Origin: o, Topics: topics("x"), Wait: time.Second,
		Later: func(a behalf.Answer) { later = append(later, a) },
	}
	apply := func(r behalf.Request) behalf.Answer {
		t.Helper()
		list := w.d.Apply(ctx, &r)
		if len(list) != 1 {
			t.Fatalf("%d answers", len(list))
		}
		w.run()
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	if a := apply(r); a.Code != behalf.Done || a.Results[0].State != im.Pending || w.d.Waits() != 1 {
		t.Errorf("%+v", a)
	}
	r.Topics = topics("y")
	if a := apply(r); a.Code != behalf.Done || w.d.Waits() != 1 {
		t.Errorf("%+v, %d wait", a, w.d.Waits())
	}
	list, err := w.d.Pending(ctx, func(origin string) bool { return origin == "o" })
	if err != nil || len(list) != 1 || list[0].Count != 2 || list[0].ClientID != "a" {
		t.Errorf("%+v, %v", list, err)
	}
	if w.connect("a", ""); len(later) != 2 || later[0].Revision == 0 || w.d.Waits() != 0 {
		t.Errorf("%+v", later)
	}
	if got := w.receives("y"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("y comes to %v", got)
	}
	r.ClientID, r.Username = "", "u"
	if apply(r); w.d.Waits() != 2 { // on each loop
		t.Errorf("%d wait", w.d.Waits())
	}
	if w.connect("b", "u"); !slices.Equal(w.receives("y"), []string{"a", "b"}) || len(later) != 3 {
		t.Errorf("y comes to %v, %d answers", w.receives("y"), len(later))
	}
	r.ClientID, r.Username, later = "c", "", nil
	apply(r)
	for w.now += 1000; later == nil; {
		for _, l := range w.loops {
			l.table.Expire(w.now)
		}
	}
	if later[0].Code != behalf.NoSession || w.d.Waits() != 0 {
		t.Errorf("%+v, %d wait", later, w.d.Waits())
	}
	for _, l := range w.loops {
		l.table.Limit(Limits{PendingBytes: 1 << 20})
	}
	if a := apply(r); a.Code != behalf.TooMuch || a.Limit == "" {
		t.Errorf("%+v", a)
	}
}

// TestJoinedRequestsAreAnswered: each of the requests that are joined in one list hears what becomes of it, once: that
// it has taken effect, has run out, or has been withdrawn. Each counts against what may wait.
func TestJoinedRequestsAreAnswered(t *testing.T) {
	w := newWorld(t, 2)
	o := &behalf.Origin{Name: "o"}
	heard := map[string][]behalf.Answer{}
	ask := func(name, client, user string, a im.Action, list *behalf.Set) behalf.Code {
		t.Helper()
		r := behalf.Request{ClientID: client, Username: user, Action: a, Origin: o, Topics: list, Wait: time.Second}
		if name != "" {
			r.Later = func(a behalf.Answer) { heard[name] = append(heard[name], a) }
		}
		code := w.d.Apply(t.Context(), &r)[0].Code
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		return code
	}
	want := func(code behalf.Code, topics int, state im.State, names ...string) {
		t.Helper()
		w.run()
		for _, name := range names {
			list := heard[name]
			if len(list) != 1 || list[0].Code != code || len(list[0].Results) != topics || list[0].Results[0].State != state {
				t.Errorf("%s: %+v", name, list)
			}
		}
		if len(heard) != len(names) {
			t.Errorf("%d have heard", len(heard))
		}
		clear(heard)
	}
	for _, id := range []string{"a", "b"} {
		ask("one", id, "", im.Subscribe, topics("x"))
		ask("", id, "", im.Subscribe, topics("y"))
		ask("two", id, "", im.Subscribe, topics("z"))
		ask("gone", id, "", im.Unsubscribe, topics("y"))
		if w.connect(id, ""); id == "a" {
			want(behalf.Done, 2, im.New, "one", "two")
		}
	}
	want(behalf.Done, 2, im.New, "one", "two")
	ask("one", "c", "", im.Subscribe, topics("x"))
	ask("two", "c", "", im.Replace, topics("y"))
	w.now += 1000
	for _, l := range w.loops {
		l.table.Expire(w.now)
	}
	want(behalf.NoSession, 1, im.Absent, "one", "two")
	for _, user := range []string{"", "u"} {
		id := "d"
		if user != "" {
			id = ""
		}
		ask("one", id, user, im.Subscribe, topics("x", "y"))
		ask("two", id, user, im.Subscribe, topics("x"))
		ask("", id, user, im.Unsubscribe, topics("x", "y"))
		want(behalf.NoSession, 2, im.Removed, "one", "two")
	}
	for i := range 10000 {
		if ask("many", "e", "", im.Subscribe, topics("x")) != behalf.TooMuch {
			continue
		}
		if i < 1000 {
			t.Errorf("%d are too many", i)
		}
		return
	}
	t.Error("there is no end to what joins one list")
}

// TestEndedRequests has requests whose time is over when the loop comes to them: nothing is left of them.
func TestEndedRequests(t *testing.T) {
	w := newWorld(t, 1)
	w.connect("a", "")
	w.replace("a", "o", "x")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, id := range []string{"a", "b"} {
		r := &behalf.Request{
			ClientID: id, Action: im.Replace, Origin: &behalf.Origin{Name: "o"}, Topics: topics("y"), Wait: time.Second,
		}
		if a := w.d.Apply(ctx, r)[0]; a.Code != behalf.Busy {
			t.Errorf("%+v", a)
		}
	}
	if _, err := w.d.Move(ctx, &behalf.Origin{Name: "o"}, topics("x"), topics("y")); err == nil {
		t.Error("moved")
	}
	if _, ok := w.d.Plant(ctx, 0, []behalf.Grant{{Origin: &behalf.Origin{Name: "o"}, Topics: topics("z")}}, Free()); ok {
		t.Error("planted")
	}
	w.run()
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	if n := w.loops[0].table.Count(); n.Sets != 1 || n.Topics != 1 {
		t.Errorf("%+v", n)
	}
}

// TestSessionsOfUsers: the index has those of users alone, and none of who has ended or is another's.
func TestSessionsOfUsers(t *testing.T) {
	w := newWorld(t, 1)
	for i := range 100 {
		w.connect(fmt.Sprint(i), fmt.Sprint("u", i%10))
	}
	w.end("13")
	w.connect("23", "u4")
	table := w.loops[0].table
	if list, known := table.Of([]string{"u3", "nobody"}); !known || len(list) != 8 {
		t.Errorf("%d, known %v", len(list), known)
	}
	if _, known := table.Of([]string{"u3", ""}); known {
		t.Error("those without a name are known")
	}
}

// TestRefusedShare has a shared subscription that cannot be joined: it is logged, the rest is there.
func TestRefusedShare(t *testing.T) {
	w := newWorld(t, 1)
	w.connect("a", "")
	w.replace("a", "o", "x", "$share/full/x")
	if len(w.warned) != 1 || !strings.Contains(w.warned[0], `"$share/full/x" refused: full`) {
		t.Errorf("%q", w.warned)
	}
	if got := w.receives("x"); !slices.Equal(got, []string{"a"}) || !slices.Equal(w.changed, []string{"a"}) {
		t.Errorf("%v, changed %v", got, w.changed)
	}
}

// TestOwnCounts: a session's own subscription takes the place of what it has been given.
func TestOwnCounts(t *testing.T) {
	w := newWorld(t, 1)
	a := w.connect("a", "")
	w.replace("a", "o", "x", "$share/g/x")
	id, _ := w.index.Lookup([]byte("x"))
	shared, err := w.index.AddShared([]byte("g"), []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	a.own = map[topictree.FilterID]bool{id: true, shared: true}
	w.loops[0].table.LeaveShare(a, shared)
	if w.loops[0].shares != 0 || len(w.receives("x")) != 0 {
		t.Errorf("%d members, %v", w.loops[0].shares, w.receives("x"))
	}
	answer := w.replace("a", "other", "x")
	if answer.Results[0].State != im.Existing || w.loops[0].shares != 0 {
		t.Errorf("%+v", answer)
	}
}
