package grants

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/codec/im"
	"noctule/topictree"
)

// world is tables of some loops with sessions that have nothing but what they have been given. Its loops are one
// goroutine, the test's: what is posted runs before the next that is awaited.
type world struct {
	t        *testing.T
	d        *Doors[*session]
	index    *topictree.Index
	retained *retained.Index
	loops    []*loop
	posted   []func()
	now      int64
	limits   Limits
	short    bool
	warned   []string
	changed  []string // client ids
	ended    []behalf.Ended
}

// loop is one of them, with its sessions.
type loop struct {
	*world
	table     *Table[*session]
	receivers *fanout.Table[*session]
	sessions  map[string]*session
	shares    int // members
}

// session is a client.
type session struct {
	about About
	list  List[*session]
	own   map[topictree.FilterID]bool
	queue retained.Queue
	of    *loop
}

func newWorld(t *testing.T, loops int) *world {
	w := &world{
		t: t, index: topictree.New(topictree.Options{}), retained: retained.New(), now: 1000,
		limits: Limits{Pending: 100, PendingBytes: 1 << 20, Retained: true},
	}
	w.d = NewDoors[*session](w.index, w.retained, w, func() bool { return w.short })
	for i := range loops {
		l := &loop{world: w, receivers: fanout.New[*session](w.index, i, 100), sessions: map[string]*session{}}
		l.table = w.d.Open(Config[*session]{
			Loop: w, Host: l, Shares: l, Receivers: l.receivers, ByUser: true,
			Warn: func(format string, args ...any) { w.warned = append(w.warned, fmt.Sprintf(format, args...)) },
			Go:   w.Again, Ended: func(e behalf.Ended) { w.ended = append(w.ended, e) },
		}, w.limits)
		w.loops = append(w.loops, l)
	}
	return w
}

// MustBeHere implements Loop.
func (w *world) MustBeHere() {}

// Now implements Loop.
func (w *world) Now() int64 { return w.now }

// Again implements Loop.
func (w *world) Again(f func()) { w.posted = append(w.posted, f) }

// Home implements Loops: by the last letter.
func (w *world) Home(id string) int { return int(id[len(id)-1]) % len(w.loops) }

// Post implements Loops.
func (w *world) Post(_ int, f func()) { w.posted = append(w.posted, f) }

// Await implements Loops.
func (w *world) Await(ctx context.Context, _ int, f func(done func())) bool {
	if ctx.Err() != nil {
		w.posted = append(w.posted, func() { f(func() {}) }) // it may still run
		return false
	}
	over := false
	w.run()
	f(func() { over = true })
	w.run()
	return over
}

// run runs what is posted.
func (w *world) run() {
	for len(w.posted) > 0 {
		f := w.posted[0]
		w.posted = w.posted[1:]
		f()
	}
}

// tick has all loops do what is due.
func (w *world) tick() {
	for _, l := range w.loops {
		l.table.Expire(w.now)
	}
	w.run()
}

// Session implements Host.
func (l *loop) Session(id string) (*session, bool) {
	c, ok := l.sessions[id]
	return c, ok
}

// Replays implements Host.
func (l *loop) Replays(c *session, _ bool) (*retained.Queue, uint64) { return &c.queue, 0 }

// Changed implements Host.
func (l *loop) Changed(c *session) { l.changed = append(l.changed, c.about.ID) }

var errFull = errors.New("full")

// Join implements Shares.
func (l *loop) Join(
	c *session,
	group, filter []byte,
	o fanout.Options,
	_ uint32,
) (*fanout.Share[*session], error) {
	if string(group) == "full" {
		return nil, errFull
	}
	id, err := l.index.AddShared(group, filter, 0)
	l.shares++
	return &fanout.Share[*session]{C: c, ID: id, Options: o}, err
}

// Leave implements Shares.
func (l *loop) Leave(_ *session, m *fanout.Share[*session]) {
	l.index.RemoveShared(m.ID)
	l.shares--
}

// Subscribed implements fanout.Receiver.
func (c *session) Subscribed(topictree.FilterID) fanout.Member[*session] {
	return fanout.Member[*session]{C: c}
}

// Placed implements fanout.Receiver.
func (c *session) Placed(topictree.FilterID, int) {}

// PlacedIn implements fanout.Receiver.
func (c *session) PlacedIn(x *fanout.Set[*session], at int) { c.list.PlacedIn(x, at) }

// Given implements Client.
func (c *session) Given(bool) *List[*session] { return &c.list }

// Own implements Client.
func (c *session) Own(id topictree.FilterID) bool { return c.own[id] }

// About implements Client.
func (c *session) About() About {
	a := c.about
	a.Subscriptions = len(c.own)
	return a
}

// connect makes a session, or goes on with it, as a CONNECT does that finds lists.
func (w *world) connect(id, user string, list ...behalf.Grant) *session {
	w.t.Helper()
	at := w.Home(id)
	l := w.loops[at]
	pinned, ok := w.d.Plant(context.Background(), at, list, Free())
	if !ok {
		w.t.Fatal("not planted")
	}
	c := l.sessions[id]
	if c == nil {
		c = &session{about: About{Bounds: Free(), ID: id}, of: l}
		l.sessions[id] = c
	}
	before := c.about.Username
	c.about.Username, c.about.Online = user, true
	l.table.Rename(c, before, user)
	l.table.Admit(c, pinned)
	return c
}

// end ends a session.
func (w *world) end(id string) {
	l := w.loops[w.Home(id)]
	if c := l.sessions[id]; c != nil {
		l.table.Drop(c)
		l.table.Rename(c, c.about.Username, "")
		delete(l.sessions, id)
	}
}

// receives is who gets a message of a topic that is also a filter, sorted; each once, or the test fails.
func (w *world) receives(topic string) (ids []string) {
	w.t.Helper()
	id, ok := w.index.Lookup([]byte(topic))
	if !ok {
		return nil
	}
	for _, l := range w.loops {
		l.receivers.Each(id, message.New([]byte(topic), nil, 0, false),
			func(id topictree.FilterID, h fanout.Hit[*session], _ *message.Message) {
				if !h.C.own[id] && !h.C.list.Masks(h.By, id.Filter()) {
					ids = append(ids, h.C.about.ID)
				}
			})
	}
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != len(ids) {
		w.t.Fatalf("%q comes twice: %v", topic, ids)
	}
	return ids
}

// check holds all tables against what must be so.
func (w *world) check() error {
	for _, l := range w.loops {
		planted := map[*fanout.Set[*session]]int{}
		if _, err := l.receivers.Check(planted); err != nil {
			return err
		}
		census, members := l.table.Census(), 0
		for _, c := range l.sessions {
			if err := census.Add(c); err != nil {
				return err
			}
			for range c.list.Shares {
				members++
			}
		}
		if err := census.Fault(planted); err != nil {
			return err
		}
		if members != l.shares {
			return fmt.Errorf("%d members of shared subscriptions, %d joined", members, l.shares)
		}
	}
	return nil
}

func topics(filters ...string) *behalf.Set {
	list := make([]behalf.Topic, 0, len(filters))
	for _, f := range filters {
		list = append(list, behalf.Topic{Filter: f, QoS: 1})
	}
	return behalf.NewSet(list)
}

// ask applies a request for one session.
func (w *world) ask(id string, a behalf.Action, o *behalf.Origin, x *behalf.Set) behalf.Answer {
	return w.d.Apply(context.Background(), &behalf.Request{ClientID: id, Action: a, Origin: o, Topics: x})[0]
}

// replace is ask for im.Replace, which must be done.
func (w *world) replace(id, origin string, filters ...string) behalf.Answer {
	w.t.Helper()
	a := w.ask(id, im.Replace, &behalf.Origin{Name: origin}, topics(filters...))
	if a.Code != behalf.Done {
		w.t.Fatalf("%s of %s: %s", id, origin, a.Code)
	}
	return a
}
