package behalf

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"noctule/codec"
	"noctule/codec/im"
)

// TestPlanOfAll works out what a session is to have for all small lists that it has and that are asked for, all
// actions, caps and rooms. What it has and the request does not take away stays however full it is; of the rest the
// first in the order of filters come in, and exactly the others are refused.
func TestPlanOfAll(t *testing.T) {
	filters := []string{"a", "b", "c"}
	lists := func() (all []map[string]uint8) {
		for code := range 27 {
			m := map[string]uint8{}
			for _, f := range filters {
				if code%3 > 0 {
					m[f] = uint8(code % 3)
				}
				code /= 3
			}
			all = append(all, m)
		}
		return all
	}()
	topics := func(m map[string]uint8) (list []Topic) {
		for f, q := range m {
			list = append(list, Topic{Filter: f, QoS: q})
		}
		return list
	}
	n := 0
	for _, have := range lists {
		for _, asked := range lists {
			for _, action := range []Action{im.Subscribe, im.Unsubscribe, im.Replace} {
				for _, maxQoS := range []uint8{1, 2} {
					for room := -1; room <= 4; room++ {
						n++
						x, terms := NewSet(topics(asked)), Terms{Room: room, MaxQoS: maxQoS}
						p := NewPlan(NewSet(topics(have)), action, x, &terms)
						got, refused := p.Want, p.Refused
						want, no := wantedByHand(filters, have, asked, action, maxQoS, room)
						same := got.Len() == len(want) && len(refused) == len(no)
						for f, q := range want {
							x, ok := got.Find(f)
							same = same && ok && x.QoS == q
						}
						for f := range no {
							same = same && refused[f] == codec.QuotaExceeded
						}
						if !same {
							t.Fatalf("has %v, %v of %v, QoS %d, room %d: %v, refused %v; want %v, %v", have, action, asked, maxQoS, room,
								got.Topics(), refused, want, no)
						}
						if again := NewPlan(got, action, x, &terms).Want; !equal(again, got) {
							t.Fatalf("has %v, %v of %v, QoS %d, room %d: once more it is %v, not %v", have, action, asked, maxQoS, room,
								again.Topics(), got.Topics())
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests", n)
}

// wantedByHand says the same with maps.
func wantedByHand(
	filters []string, have, asked map[string]uint8, action Action, maxQoS uint8, room int,
) (want map[string]uint8, refused map[string]bool) {
	want, refused = map[string]uint8{}, map[string]bool{}
	for _, f := range filters {
		h, had := have[f]
		a, is := asked[f]
		a = min(a, maxQoS)
		switch {
		case action == im.Unsubscribe && had && !is, action == im.Subscribe && had && !is:
			want[f] = h
		case action != im.Unsubscribe && is && had:
			want[f] = a
		}
	}
	for _, f := range filters { // new ones
		a, is := asked[f]
		if _, had := have[f]; !is || had || action == im.Unsubscribe {
			continue
		}
		if room >= 0 && len(want) >= room {
			refused[f] = true
			continue
		}
		want[f] = min(a, maxQoS)
	}
	return want, refused
}

// dice makes random lists and terms; its seed is in the log.
type dice struct{ *rand.Rand }

func newDice(t *testing.T) dice {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return dice{rand.New(rand.NewPCG(seed, 1))}
}

// set is a random one, of filters before and behind "$share" in their order, shared ones among them.
func (d dice) set() *Set {
	filters := []string{"!x", "#", "$share/g/a", "$share/h/b/+", "+/a", "a", "a/b", "b/#", "c", "no/a", "no/b"}
	var list []Topic
	for range d.IntN(8) {
		list = append(list, Topic{
			Filter: filters[d.IntN(len(filters))], QoS: uint8(d.IntN(3)), ID: uint32(d.IntN(2)),
			RetainHandling: uint8(d.IntN(3)), RetainAsPublished: d.IntN(2) == 0,
		})
	}
	return NewSet(list)
}

func (d dice) action() Action { return []Action{im.Subscribe, im.Unsubscribe, im.Replace}[d.IntN(3)] }

// mayNot is a client's rights: nothing below "no".
func mayNot(filter string) bool { return !strings.Contains(filter, "no/") }

func (d dice) terms() Terms {
	t := Terms{Room: d.IntN(8) - 1, MaxQoS: uint8(d.IntN(3)), Mount: []string{"", "m/"}[d.IntN(2)]}
	if d.IntN(2) == 0 {
		t.May = mayNot
	}
	return t
}

// TestPlanHoldsItsTerms draws requests and what they meet, and holds what comes out against what is promised.
func TestPlanHoldsItsTerms(t *testing.T) {
	d := newDice(t)
	for range 4000 {
		have, x, a, terms := d.set().Mounted("m/"), d.set(), d.action(), d.terms()
		if terms.Mount == "" {
			have = d.set()
		}
		before := [2][]Topic{slices.Clone(have.Topics()), slices.Clone(x.Topics())}
		p := NewPlan(have, a, x, &terms)
		what := fmt.Sprintf("has %v, %v of %v, %+v: %v, refused %v", have.Topics(), a, x.Topics(), terms,
			p.Want.Topics(), p.Refused)
		sound(t, what, p.Want)
		sound(t, what, p.Asked)
		if !slices.Equal(before[0], have.Topics()) || !slices.Equal(before[1], x.Topics()) {
			t.Fatalf("%s: the lists that it is made of have changed", what)
		}
		if p.Asked.Len() != x.Len() {
			t.Fatalf("%s: asked %v", what, p.Asked.Topics())
		}
		planHasRoom(t, what, have, &p, terms.Room)
		planRefuses(t, what, have, &p, &terms)
		planDoes(t, what, have, &p, a)
		planTells(t, what, have, x, &p, &terms)
		again := NewPlan(p.Want, a, x, &terms)
		if !equal(again.Want, p.Want) {
			t.Fatalf("%s: once more it is %v", what, again.Want.Topics())
		}
	}
}

// planHasRoom holds that no topic comes in beyond the room, and that one is refused only if there is none.
func planHasRoom(t *testing.T, what string, have *Set, p *Plan, room int) {
	t.Helper()
	fresh := p.Want.Without(have).Len()
	if room >= 0 && fresh > 0 && p.Want.Len() > room {
		t.Fatalf("%s: %d came in where the room is %d", what, fresh, room)
	}
	for f, why := range p.Refused {
		if why == codec.QuotaExceeded && (room < 0 || p.Want.Len() < room) {
			t.Fatalf("%s: no room for %s", what, f)
		}
	}
}

// planRefuses holds that each topic is refused with a reason that applies, or is in what is wanted.
func planRefuses(t *testing.T, what string, have *Set, p *Plan, terms *Terms) {
	t.Helper()
	for f, why := range p.Refused {
		_, asked := p.Asked.Find(f)
		_, had := have.Find(f)
		_, wanted := p.Want.Find(f)
		denied := terms.May != nil && !terms.May(f)
		switch {
		case !asked, p.action == im.Unsubscribe, wanted && !had:
			t.Fatalf("%s: %s is refused", what, f)
		case denied != (why == codec.NotAuthorized), !denied && (why != codec.QuotaExceeded || had):
			t.Fatalf("%s: %s is refused for %s", what, f, why)
		}
	}
	for _, x := range p.Asked.Topics() {
		got, ok := p.Want.Find(x.Filter)
		_, refused := p.Refused[x.Filter]
		if p.action != im.Unsubscribe && !refused && (!ok || got != x) {
			t.Fatalf("%s: %v has come to %v without a reason", what, x, got)
		}
	}
}

// planDoes holds what each action does to what is there.
func planDoes(t *testing.T, what string, have *Set, p *Plan, a Action) {
	t.Helper()
	for _, x := range p.Want.Topics() {
		old, had := have.Find(x.Filter)
		asked, is := p.Asked.Find(x.Filter)
		_, refused := p.Refused[x.Filter]
		wanted := is && !refused && asked == x || had && old == x
		if !wanted || a != im.Subscribe && (a == im.Replace) != is {
			t.Fatalf("%s: nobody has asked for %v", what, x)
		}
		if x.QoS > 2 || a == im.Replace && refused {
			t.Fatalf("%s: %v is wanted", what, x)
		}
	}
	if a == im.Replace {
		return
	}
	for _, old := range have.Topics() { // what the session has stays
		_, asked := p.Asked.Find(old.Filter)
		if _, stays := p.Want.Find(old.Filter); stays == (asked && a == im.Unsubscribe) {
			t.Fatalf("%s: stays %v: %s", what, stays, old.Filter)
		}
	}
}

// planTells holds that each topic gets one answer, which is what has come of it.
func planTells(t *testing.T, what string, have, x *Set, p *Plan, terms *Terms) {
	t.Helper()
	in := func(s *Set) func(string) bool {
		return func(f string) bool { _, ok := s.Find(f); return ok }
	}
	stood := func(f string) Effect { return Effect{Had: in(have)(f)} }
	list := append(p.Results(terms, in(p.Want), stood), p.Removed(terms)...)
	told := map[string]bool{}
	for _, r := range list {
		full := Mounted(r.Filter, terms.Mount)
		had, has := in(have)(full), in(p.Want)(full)
		if told[r.Filter] {
			t.Fatalf("%s: %s is answered twice", what, r.Filter)
		}
		told[r.Filter] = true
		want := map[[2]bool]State{
			{false, false}: im.Absent, {false, true}: im.New, {true, false}: im.Removed, {true, true}: im.Existing,
		}[[2]bool{had, has}]
		if why, refused := p.Refused[full]; refused {
			if want = im.Absent; r.Code != why {
				t.Fatalf("%s: %s is answered %s", what, r.Filter, r.Code)
			}
		}
		if r.State != want {
			t.Fatalf("%s: %s is %v, not %v", what, r.Filter, r.State, want)
		}
	}
	for _, q := range x.Topics() {
		if !told[q.Filter] {
			t.Fatalf("%s: %s is not answered", what, q.Filter)
		}
	}
	for _, q := range have.Topics() {
		f := Unmounted(q.Filter, terms.Mount)
		if p.action == im.Replace && !told[f] {
			t.Fatalf("%s: %s is replaced without a word", what, f)
		}
	}
}

// TestPlanLaws has everything unsubscribed, lists replaced, and lists that nothing holds to anything.
func TestPlanLaws(t *testing.T) {
	d := newDice(t)
	for range 2000 {
		x, y, terms := d.set(), d.set(), d.terms()
		full := x.Capped(terms.MaxQoS).Mounted(terms.Mount)
		if p := NewPlan(full, im.Unsubscribe, x, &terms); p.Want.Len() > 0 || p.Refused != nil {
			t.Fatalf("all of %v unsubscribed: %v", x.Topics(), p.Want.Topics())
		}
		terms.Room, terms.May = -1, nil
		asked := y.Capped(terms.MaxQoS).Mounted(terms.Mount)
		if p := NewPlan(full, im.Replace, y, &terms); !equal(p.Want, asked) {
			t.Fatalf("%v replaced by %v: %v", x.Topics(), y.Topics(), p.Want.Topics())
		}
		free := Terms{Room: -1, MaxQoS: 2}
		if !free.None() || terms.None() != (terms.MaxQoS == 2 && terms.Mount == "") {
			t.Fatalf("%+v", terms)
		}
		if p := NewPlan(nil, im.Subscribe, x, &free); p.Want != x {
			t.Fatal("what nothing is held to is made anew")
		}
		if p := NewPlan(y, im.Replace, x, &free); p.Want != x {
			t.Fatal("what nothing is held to is made anew")
		}
	}
}

// TestFoldedRequests folds random requests that wait into one list. A client that comes has what it would have had
// if each had taken effect on its own; and where they have taken effect too, since it has a session, and wait for
// its next CONNECT besides, it has the same afterwards.
func TestFoldedRequests(t *testing.T) {
	d := newDice(t)
	free := Terms{Room: -1, MaxQoS: 2}
	for range 4000 {
		var w *Waiting
		have := []*Set{nil, d.set()}[d.IntN(2)] // nil: there is no session
		session := have != nil
		first, log := have, []string{}
		for range d.IntN(7) {
			a, x := d.action(), d.set()
			log = append(log, fmt.Sprint(a, x.Topics()))
			have, w = NewPlan(have, a, x, &free).Want, w.Fold(a, x)
			if w != nil && w.List.Len() == 0 {
				t.Fatalf("%v: nothing waits as a request", log)
			}
			if w != nil {
				sound(t, "folded", w.List)
			}
		}
		var got *Set
		if session {
			got = have
		}
		if w != nil {
			got = w.Plan(got, &free).Want
		}
		if !equal(got, have) {
			t.Fatalf("%v, then %v: %v when the client comes, not %v", first.Topics(), log, got.Topics(), have.Topics())
		}
	}
}

// TestFoldedUnderTerms has what waited held against what the client is held to, as requests are.
func TestFoldedUnderTerms(t *testing.T) {
	d := newDice(t)
	for range 2000 {
		have, terms := d.set(), d.terms()
		terms.Mount = ""
		for _, a := range []Action{im.Subscribe, im.Replace} {
			x := d.set()
			w := (*Waiting)(nil).Fold(a, x)
			if w == nil {
				if x.Len() > 0 {
					t.Fatalf("%v of %v does not wait", a, x.Topics())
				}
				continue
			}
			p, q := w.Plan(have, &terms), NewPlan(have, a, x, &terms)
			if !equal(p.Want, q.Want) || len(p.Refused) != len(q.Refused) || w.Whole != (a == im.Replace) {
				t.Fatalf("%v of %v: %v when the client comes, not %v", a, x.Topics(), p.Want.Topics(), q.Want.Topics())
			}
		}
	}
}

// TestReplays has all cases in which a topic's retained messages are sent.
func TestReplays(t *testing.T) {
	for _, s := range []Standing{Fresh, Muted, Held} {
		for code := range 12 {
			named, again, handling := code&1 != 0, code&2 != 0, uint8(code>>2)
			want := s == Fresh || s == Muted && named || named && again && handling == 0
			if got := s.Replays(named, again, handling); got != want {
				t.Errorf("standing %d, named %v, again %v, Retain Handling %d: %v", s, named, again, handling, got)
			}
		}
	}
}
