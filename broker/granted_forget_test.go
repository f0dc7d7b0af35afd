package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
)

// TestEmptiedOriginsMakeRoom has campaigns that come and go, each an origin of its own: none of them is
// refused, what stays stays in force in its order, the revision never goes back, and a refusal names the limit.
func TestEmptiedOriginsMakeRoom(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		c := x.connect("c", codec.V5, nil)
		pub := x.connect("pub", codec.V5, nil)
		x.ask(behalf.Request{ClientID: "c", Origin: origin("first"), Topics: topics("stays:1")})
		last := x.list("c").Revision
		for i := range 100 {
			o := origin(fmt.Sprint("campaign", i))
			if i == 50 {
				x.ask(behalf.Request{ClientID: "c", Origin: origin("middle"), Topics: topics("stays", "more")})
			}
			for _, a := range []behalf.Answer{
				x.ask(behalf.Request{ClientID: "c", Origin: o, Topics: topics("x")}),
				x.ask(behalf.Request{ClientID: "c", Origin: o, Action: im.Replace, Topics: topics()}),
			} {
				if a.Code != behalf.Done || a.Revision <= last {
					t.Fatalf("campaign %d: %s, revision %d after %d", i, a.Code, a.Revision, last)
				}
				last = a.Revision
			}
		}
		pub.Publish("stays", "m", 1, 9) // by the first, which has QoS 1, and once
		if p := c.WantPublish("stays", "m"); p.QoS != 1 {
			t.Errorf("QoS %d", p.QoS)
		}
		pub.Publish("more", "m", 0, 0)
		c.WantPublish("more", "m")
		for i := 0; ; i++ {
			a := x.ask(behalf.Request{ClientID: "c", Origin: origin(fmt.Sprint("full", i)), Topics: topics("y")})
			if a.Code == behalf.Done {
				continue
			}
			if i != 30 || a.Code != behalf.TooMuch || !strings.Contains(a.Limit, "32 origins") {
				t.Errorf("origin %d: %s %q", i, a.Code, a.Limit)
			}
			break
		}
	})
}

// TestEmptiedOriginsOfDurableSessions are forgotten on disk too, and those that are left come back in their
// order: of several with the same filter the first counts.
func TestEmptiedOriginsOfDurableSessions(t *testing.T) {
	d := newDurable(t, 2, nil)
	d.offline("c")
	ask := func(o, action string, list ...string) {
		t.Helper()
		r := behalf.Request{ClientID: "c", Origin: origin(o), Topics: topics(list...), Action: im.Replace}
		if a := d.ask(r); a.Code != behalf.Done {
			t.Fatalf("%s %s: %s %s", action, o, a.Code, a.Limit)
		}
	}
	for i := range 40 {
		o := fmt.Sprint("campaign", i)
		ask(o, "begin", "x")
		ask(o, "end")
		if i == 20 {
			ask("one", "begin", "same:1")
			ask("two", "begin", "same:0", "more:1")
		}
	}
	d.saved()
	before := d.list("c")
	d.restart(t)
	after := d.list("c")
	names := func(l behalf.Listing) (out []string) {
		for _, h := range l.Holdings {
			if len(h.Topics) > 0 {
				out = append(out, h.Origin)
			}
		}
		return out
	}
	if got := names(after); !slices.Equal(got, names(before)) || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("before %v, after %v", names(before), got)
	}
	if len(after.Holdings) > 33 || after.Revision < before.Revision {
		t.Errorf("%d origins, revision %d after %d", len(after.Holdings), after.Revision, before.Revision)
	}
	c := d.resumed("c")
	pub := d.connect("pub", codec.V5, nil)
	pub.Publish("same", "m", 1, 9)
	var p codec.Publish
	c.Want(codec.PUBLISH, &p)
	if p.QoS != 1 {
		t.Errorf("QoS %d by the second origin", p.QoS)
	}
}
