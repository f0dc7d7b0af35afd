package view_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"noctule/broker/fanout"
	"noctule/broker/view"
	"noctule/topictree"
)

// person has subscribed to filters, each with QoS 1.
type person struct{ name string }

func (p *person) Subscribed(topictree.FilterID) fanout.Member[*person] {
	return fanout.Member[*person]{C: p, Options: fanout.NewOptions(1, false, false)}
}
func (p *person) String() string                     { return p.name }
func (p *person) Placed(topictree.FilterID, int)     {}
func (p *person) PlacedIn(*fanout.Set[*person], int) {}

func people(loop, n int) (list []*person) {
	for i := range n {
		list = append(list, &person{fmt.Sprintf("c%d.%d", loop, i)})
	}
	return list
}

// The tree has a level a line, those of two loops together, and all of a filter with very many; of a shared
// subscription it has the members that one loop deals to, with what they have subscribed with on theirs.
func TestTree(t *testing.T) {
	index := topictree.New(topictree.Options{})
	tables := []*fanout.Table[*person]{fanout.New[*person](index, 0, 10), fanout.New[*person](index, 1, 10)}
	shares := make([]fanout.Shares[*person], 2)
	join := func(loop int, filter string, list ...*person) {
		for _, p := range list {
			id, err := index.Add([]byte(filter), loop)
			if err != nil {
				t.Fatal(err)
			}
			tables[loop].Join(id, p.Subscribed(id))
		}
	}
	many := people(1, 2100)
	join(0, "a/b", people(0, 2)...)
	join(1, "a/b", many...)
	join(1, "a", many[0])
	join(0, "$SYS/#", many[1])
	id, err := index.AddShared([]byte("g"), []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	shares[0].Join(&fanout.Share[*person]{C: many[2], ID: id, Loop: 1, Options: fanout.NewOptions(2, false, false)})

	pages := &view.Pages{Loops: &patient{2}}
	at := func(loop int) *fanout.Shares[*person] { return &shares[loop] }
	list, err := view.SharesOf(pages, at).Next(t.Context(), 10)
	if want := (view.Share{Group: "g", Filter: "x", Members: 1}); err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("shared subscriptions %+v, %v", list, err)
	}
	of := func() (topictree.FilterID, bool) { return index.LookupShared([]byte("g"), []byte("x")) }
	names, err := view.MembersOf(pages, 0, at(0), of, (*person).String).Next(t.Context(), 10)
	if err != nil || len(names) != 1 || names[0] != "c1.2" {
		t.Errorf("members %q, %v", names, err)
	}
	x := view.Tree[*person]{Index: index, Loops: &patient{2}, Name: (*person).String}
	x.At = func(loop int) (*fanout.Table[*person], *fanout.Shares[*person]) { return tables[loop], &shares[loop] }
	var out strings.Builder
	if err := x.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, p := range append(people(0, 2), many...) {
		all.WriteString(" (" + p.name + ", 1)")
	}
	want := "    $SYS\n      $SYS\n        # (c1.1, 1)\n" +
		"    $share\n      $share\n        g\n          x (c1.2, 2)\n" +
		"    \n      a (c1.0, 1)\n        b" + all.String() + "\n"
	if out.String() != want {
		t.Fatalf("got\n%.600s\nnot\n%.600s", out.String(), want)
	}
}

// patient is loops that whoever asks is on.
type patient struct{ n int }

// Len implements view.Loops.
func (d *patient) Len() int { return d.n }

// Ask implements view.Loops.
func (d *patient) Ask(ctx context.Context, _ int, f func()) error { f(); return ctx.Err() }

// Post implements view.Loops.
func (d *patient) Post(_ int, f func()) { f() }
