package route

import (
	"slices"
	"testing"

	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
)

// A message goes to the shared subscription whose mark and filter fit; one that is there twice, and may have
// come by two of them, goes to the one and then to the other. What is no shared subscription gets nothing.
func TestEstate(t *testing.T) {
	e := &Estate{}
	e.Add("a/b")
	e.Add("$share/g/a/b")
	m := &message.Message{Topic: []byte("a/b")}
	mark := Mark("$share/g/a/b")
	if group, filter, ok := e.Of(m, mark); !ok || string(group) != "g" || string(filter) != "a/b" {
		t.Errorf("%s %s %v", group, filter, ok)
	}
	if _, _, ok := e.Of(m, mark+1); ok {
		t.Error("another mark fits")
	}
	if _, _, ok := e.Of(&message.Message{Topic: []byte("a")}, mark); ok {
		t.Error("another topic fits")
	}
	other := ""
	for i := 0; other == ""; i++ {
		if name := "$share/h" + string(rune('a'+i)) + "/a/#"; Mark(name) == mark {
			other = name
		}
	}
	e.Add(other)
	var came []string
	for range 3 {
		_, filter, _ := e.Of(m, mark)
		came = append(came, string(filter))
	}
	if want := []string{"a/b", "a/#", "a/b"}; !slices.Equal(came, want) {
		t.Errorf("%q", came)
	}
}

// Who has asked hears of all but what the broker says of itself, until it is dropped, which it may be while
// it is told.
func TestRelays(t *testing.T) {
	var x Relays
	if !x.None() {
		t.Fatal("there is somebody")
	}
	var got []string
	var one, two *Relay
	one = &Relay{F: func(m *Forwarded) bool {
		got = append(got, "one "+string(m.Topic))
		x.Drop(one)
		return false
	}}
	two = &Relay{F: func(m *Forwarded) bool {
		got = append(got, "two "+string(m.Topic)+" "+m.Expiry.String())
		return m.Retain
	}}
	x.Add(one)
	x.Add(two)
	m := message.New([]byte("a"), nil, 1, true)
	m.Expire(1000, 5)
	if !x.Tell(m, 3000) || x.Tell(message.New([]byte("$SYS/x"), nil, 0, true), 0) ||
		x.Tell(message.New([]byte("b"), nil, 0, false), 0) {
		t.Error("somebody elsewhere gets it, or nobody")
	}
	if want := []string{"one a", "two a 3s", "two b 0s"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if x.Drop(two); !x.None() {
		t.Error("somebody is left")
	}
}

// What is owed for a filter goes to its receivers of this loop, what is owed for a topic to all that it
// brings it to, once each at the highest QoS; both only to those that are owed it.
func TestRepay(t *testing.T) {
	b := newBench(t, 2, 6, 100, false)
	for i, c := range b.clients {
		b.subscribe(c, "a/b", uint8(i%2))
		if i < 4 {
			b.subscribe(c, "a/#", 2)
		}
	}
	b.subscribe(b.clients[0], "$share/g/a/b", 1)
	owed := func(c *client) bool { return c != b.clients[2] }
	m := message.New([]byte("a/b"), []byte("x"), 2, false)
	b.all.list[0].Repay(m, "a/b", owed)
	b.all.list[0].Repay(m, "nobody", owed)
	b.all.list[1].Repay(m, "", owed)
	b.settle()
	for i, want := range [][]string{{"x:0"}, {"x:2"}, nil, {"x:2"}, {"x:0"}, {"x:1"}} {
		if got := b.clients[i].got; !slices.Equal(got, want) {
			t.Errorf("client %d got %q, want %q", i, got, want)
		}
	}
	ids := SharesOf(b.index, []byte("a/b"))
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = topictree.FilterID.Filter(id)
	}
	if group, _, ok := codec.SplitShare([]byte(names[0])); len(ids) != 1 || !ok || string(group) != "g" {
		t.Errorf("shared subscriptions %q", names)
	}
}
