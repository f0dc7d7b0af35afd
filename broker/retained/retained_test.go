package retained_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/broker/store"
	"noctule/topictree"
)

func msg(topic, payload string) *message.Message {
	return message.New([]byte(topic), []byte(payload), 1, true)
}

// log counts what a store is told.
type log struct {
	mu sync.Mutex
	b  store.Batch
}

// Shared implements retained.Log.
func (l *log) Shared(f func(b *store.Batch)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.b)
}

// Loops publish on the same topics at once: numbers are given once, each topic keeps the highest of its own, and
// the bytes are those of what is there.
func TestIndexNumbers(t *testing.T) {
	x, l := retained.New(), &log{}
	var wg sync.WaitGroup
	const loops, each, topics = 4, 500, 7
	for range loops {
		wg.Go(func() {
			for i := range each {
				before := x.Mark()
				m := msg(fmt.Sprint("t/", i%topics), strings.Repeat("x", i%10))
				if err := x.Put(m, l); err != nil {
					t.Error(err)
				}
				if len(m.Payload) > 0 && (m.Number <= before || m.Number > x.Mark()) {
					t.Errorf("number %d, mark %d before and %d after", m.Number, before, x.Mark())
				}
			}
		})
	}
	wg.Wait()
	var bytes int64
	n := 0
	seen := map[uint64]bool{}
	x.Cursor([]byte("#")).Next(1000, func(_ string, m *message.Message) {
		if seen[m.Number] {
			t.Errorf("number %d twice", m.Number)
		}
		seen[m.Number] = true
		bytes += m.Size()
		n++
	})
	if bytes != x.Bytes() || n != x.Len() {
		t.Errorf("%d messages of %d bytes, said %d of %d", n, bytes, x.Len(), x.Bytes())
	}
}

func TestIndexForgetsWhatHasExpired(t *testing.T) {
	x := retained.New()
	old, kept := msg("a", "1"), msg("b", "1")
	old.Expiry, kept.Expiry = 10, 30
	for _, m := range []*message.Message{old, kept} {
		if err := x.Put(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	var w retained.Sweep
	var late *message.Message
	w.Step(x, 20, func(m *message.Message) { late = m })
	if late == nil || string(late.Topic) != "a" {
		t.Fatalf("expired: %v", late)
	}
	if err := x.Put(msg("a", "2"), nil); err != nil { // meanwhile
		t.Fatal(err)
	}
	if x.Forget(late, nil); x.Len() != 2 {
		t.Error("a newer message was forgotten")
	}
	w.Step(x, 40, func(m *message.Message) { x.Forget(m, nil) })
	if x.Len() != 1 || x.Bytes() != 1 || !x.MayMatch([]byte("a")) || x.MayMatch([]byte("b")) {
		t.Errorf("%d messages, %d bytes", x.Len(), x.Bytes())
	}
}

// subscriber is a client that takes so many messages before it is asked to wait.
type subscriber struct {
	has    map[string]retained.Topic
	room   int
	behind bool
	got    []string
}

// Current implements retained.Receiver.
func (c *subscriber) Current(_ *retained.Replay, filter string) (retained.Topic, bool) {
	t, ok := c.has[filter]
	return t, ok
}

// Behind implements retained.Receiver.
func (c *subscriber) Behind(*retained.Replay, retained.Topic) bool { return c.behind }

// Room implements retained.Receiver.
func (c *subscriber) Room(*retained.Replay) retained.Progress {
	if c.room == 0 {
		return retained.Waits
	}
	return retained.Now
}

// Give implements retained.Receiver.
func (c *subscriber) Give(_ *retained.Replay, m *message.Message, mark uint64) {
	if m.Number > mark {
		return
	}
	c.room--
	c.got = append(c.got, string(m.Topic)+" "+string(m.Payload))
}

// run goes on with a queue until it waits or is over.
func (c *subscriber) run(q *retained.Queue, x *retained.Index, room int) (got string) {
	c.room, c.got = room, nil
	for !q.Empty() {
		left := retained.Steps
		if p := q.Run(x, c, 0, &left); p == retained.Over {
			q.Remove(q.First())
		} else if p != retained.Now {
			break
		}
	}
	slices.Sort(c.got)
	return strings.Join(c.got, ", ")
}

func subscribed(t *testing.T, filters ...string) *subscriber {
	t.Helper()
	index := topictree.New(topictree.Options{})
	c := &subscriber{has: map[string]retained.Topic{}}
	for _, f := range filters {
		id, err := index.Add([]byte(f), 0)
		if err != nil {
			t.Fatal(err)
		}
		c.has[f] = retained.Topic{ID: id, Options: fanout.NewOptions(1, false, false)}
	}
	return c
}

// A replay stops where the window is full and goes on there; what is stored behind its mark is not its own.
func TestQueueGoesOnWhereItStopped(t *testing.T) {
	x := retained.New()
	put := func(topic, payload string) {
		if err := x.Put(msg(topic, payload), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		put(fmt.Sprint("a/", i), "1")
	}
	c := subscribed(t, "a/+")
	id := c.has["a/+"].ID
	var q retained.Queue
	q.Begin(retained.One(id, true), x.Mark(), 0)
	live := msg("a/0", "1")
	live.Number = 1
	if c.behind = true; c.run(&q, x, 9) != "" || !q.Awaits(id, live) {
		t.Error("it began though messages of before are under way")
	}
	c.behind = false
	first := c.run(&q, x, 2) // the order of topics is the index's
	if strings.Count(first, ",") != 1 {
		t.Error(first)
	}
	if q.Awaits(id, live) {
		t.Error("a live copy is left out behind the beginning")
	}
	put("b", "1")
	var want []string
	for i := range 5 {
		if was := fmt.Sprintf("a/%d 1", i); !strings.Contains(first, was) {
			want = append(want, was)
		}
	}
	put(want[0][:3], "2") // comes live
	if got := c.run(&q, x, 9); got != want[1]+", "+want[2] || !q.Empty() {
		t.Errorf("%s behind %s", got, first)
	}
}

// Who subscribes again before the messages have begun has one replay, which leaves out what the first did.
func TestQueueHasOneReplayAFilter(t *testing.T) {
	x := retained.New()
	if err := x.Put(msg("a", "1"), nil); err != nil {
		t.Fatal(err)
	}
	c := subscribed(t, "a")
	id := c.has["a"].ID
	var q retained.Queue
	q.Begin(retained.One(id, true), x.Mark(), 0)
	live := msg("a", "1")
	live.Number = 1
	q.Begin(retained.One(id, false), x.Mark(), 0)
	if !q.Awaits(id, live) {
		t.Error("a copy that the first replay was to bring comes live too [MQTT-3.3.4-2]")
	}
	if got := c.run(&q, x, 9); got != "a 1" || !q.Empty() {
		t.Errorf("%q", got)
	}
}

// A list's topics come one after the other, those that have gone not at all, those that came back after a gap
// with what was stored in it.
func TestListAfterAGap(t *testing.T) {
	x := retained.New()
	put := func(topic, payload string) {
		if err := x.Put(msg(topic, payload), nil); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "1")
	put("b", "1")
	put("c", "1")
	c := subscribed(t, "a", "b", "c")
	list := []retained.Topic{c.has["a"], c.has["b"], c.has["c"]}
	var q retained.Queue
	r := retained.List()
	q.Add(r)
	r.Give(list, x.Mark(), 0)
	if got := c.run(&q, x, 1); got != "a 1" {
		t.Error(got)
	}
	put("b", "2")
	r.Outdate(list[1:2])
	if r.ToCome("b") || !r.Owes("c") {
		t.Error("b is still to come, or c is not")
	}
	r.Give(list[1:2], x.Mark(), 0)
	delete(c.has, "c")
	names, all := r.Owed(3)
	if got := strings.Join(names, " "); got != "a c b" && got != "c b" || all && len(names) < 3 {
		t.Error(names, all)
	}
	if got := c.run(&q, x, 9); got != "b 2" || !q.Empty() {
		t.Error(got)
	}
}
