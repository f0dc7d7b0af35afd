package grants

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"noctule/broker/behalf"
	"noctule/codec/im"
)

// TestEndsAreOneSet: what ends at the same second is one set, whoever has it; it costs one place in the heap, and
// its members are moved to one set. What else they have goes on, and those who want to hear hear of it.
func TestEndsAreOneSet(t *testing.T) {
	w := newWorld(t, 2)
	const n = 3*moveStep + 7
	table := w.loops[0].table
	for i := range n {
		id := fmt.Sprint("c", i, "b")
		w.connect(id, "")
		w.ask(id, im.Subscribe, &behalf.Origin{Name: "o"}, listOf(map[string]int64{"a": 5, "b": 0, "c": 9}))
	}
	w.run()
	if got := table.Count(); got.Sets != 1 || got.Topics != 3*n || table.ends.Len() != 1 {
		t.Fatalf("%+v, %d that end", got, table.ends.Len())
	}
	for _, tt := range []struct {
		now  int64
		a, c int
		told int
	}{{4999, n, n, 0}, {5000, 0, n, 1}, {8999, 0, n, 1}, {9000, 0, 0, 2}, {99000, 0, 0, 2}} {
		w.now = tt.now
		w.tick()
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		if a, b, c := w.receives("a"), w.receives("b"), w.receives("c"); len(a) != tt.a || len(b) != n || len(c) != tt.c {
			t.Errorf("at %d: %d, %d and %d", tt.now, len(a), len(b), len(c))
		}
		if got := table.Count(); got.Sets != 1 || len(w.ended) != tt.told {
			t.Errorf("at %d: %+v, told %+v", tt.now, got, w.ended)
		}
	}
	for _, e := range w.ended {
		if e.Sessions != n || e.Topics != n || e.Origin != "o" || e.ClientID == "" {
			t.Errorf("%+v", e)
		}
	}
	if len(w.changed) != 3*n { // its request, and two ends
		t.Errorf("%d have changed", len(w.changed))
	}
}

// TestEndIsPutOff: a request that names a topic again says anew when it ends, and one that says nothing that it
// stays, as a session does that is resumed with another expiry.
func TestEndIsPutOff(t *testing.T) {
	w := newWorld(t, 1)
	w.connect("p", "")
	o := &behalf.Origin{Name: "o"}
	first := w.ask("p", im.Subscribe, o, listOf(map[string]int64{"a": 5, "b": 5, "c": 4}))
	second := w.ask("p", im.Subscribe, o, listOf(map[string]int64{"a": 0, "b": 7}))
	if second.Revision == first.Revision || second.Results[0].State != im.Existing {
		t.Errorf("%+v, then %+v", first, second)
	}
	for _, tt := range []struct {
		now  int64
		want string
	}{{4999, "ab"}, {5000, "ab"}, {7000, "a"}, {1 << 40, "a"}} {
		w.now = tt.now
		w.tick()
		for _, f := range []string{"a", "b", "c"} {
			if got := len(w.receives(f)) == 1; got != strings.Contains(tt.want, f) {
				t.Errorf("at %d: %q comes %v", tt.now, f, got)
			}
		}
	}
}

// TestEndsOfWhatWaits: what waits for a client loses what has ended, is told without it, and has run out with its
// last topic.
func TestEndsOfWhatWaits(t *testing.T) {
	w := newWorld(t, 1)
	o := &behalf.Origin{Name: "o"}
	var heard []behalf.Answer
	r := &behalf.Request{
		ClientID: "p", Action: im.Subscribe, Origin: o, Topics: listOf(map[string]int64{"a": 3, "b": 5}),
		Wait: time.Hour, Later: func(a behalf.Answer) { heard = append(heard, a) },
	}
	w.d.Apply(t.Context(), r)
	w.now = 3000
	w.tick()
	out := behalf.Listing{ClientID: "p"}
	if w.loops[0].table.Waiting(&out); len(out.Pending) != 1 || out.Pending[0].Count != 1 ||
		out.Pending[0].Topics[0].Filter != "b" || out.Pending[0].Ends[0] != 5 || out.Pending[0].Until.Unix() != 5 {
		t.Errorf("%+v", out.Pending)
	}
	w.connect("p", "")
	if len(w.receives("a")) != 0 || len(w.receives("b")) != 1 || len(heard) != 1 || len(heard[0].Results) != 2 ||
		heard[0].Results[0].State != im.New || heard[0].Results[1].State != im.Absent {
		t.Errorf("a %v, b %v, heard %+v", w.receives("a"), w.receives("b"), heard)
	}
	r.ClientID, heard = "q", nil
	w.d.Apply(t.Context(), r)
	w.now = 5000
	w.tick()
	if len(heard) != 1 || heard[0].Code != behalf.NoSession || w.d.Waits() != 0 || len(w.receives("b")) != 0 {
		t.Errorf("heard %+v, %d wait, b %v", heard, w.d.Waits(), w.receives("b"))
	}
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
}

// TestEndsWhileMembersCome has a session take a set while its members are being moved off it.
func TestEndsWhileMembersCome(t *testing.T) {
	w := newWorld(t, 1)
	list := listOf(map[string]int64{"a": 2, "b": 0})
	o := &behalf.Origin{Name: "o"}
	for i := range 2 * moveStep {
		id := fmt.Sprint("c", i)
		w.connect(id, "")
		w.ask(id, im.Subscribe, o, list)
	}
	table := w.loops[0].table
	w.now = 2000
	m := table.nextDue()
	m.to = table.hold(t.Context(), m.from.ending.topics.After(m.now), false)
	if !m.step() {
		t.Fatal("all at once")
	}
	w.end("c500") // and its place is another's
	w.connect("late", "", behalf.Grant{Origin: o, Topics: list})
	for m.step() {
	}
	table.letGo(m.to)
	table.letGo(m.from)
	w.run()
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	if len(w.receives("a")) != 0 || len(w.receives("b")) != 2*moveStep {
		t.Errorf("a comes to %d, b to %d", len(w.receives("a")), len(w.receives("b")))
	}
}
