package view_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/broker/view"
)

// direct is loops without goroutines: who asks is on them.
type direct struct {
	n     int
	dead  bool
	posts int
}

var errDead = errors.New("no answer")

// Len implements view.Loops.
func (d *direct) Len() int { return d.n }

// Ask implements view.Loops.
func (d *direct) Ask(ctx context.Context, _ int, f func()) error {
	if d.dead {
		return errDead
	}
	if _, bounded := ctx.Deadline(); !bounded {
		return errors.New("it may take for ever")
	}
	f()
	return ctx.Err()
}

// Post implements view.Loops.
func (d *direct) Post(_ int, f func()) { d.posts++; f() }

// whole reads a cursor to its end.
func whole[T any](t *testing.T, c *view.Cursor[T], limit int) (list []T) {
	t.Helper()
	for {
		page, err := c.Next(t.Context(), limit)
		if err != nil || len(page) > max(limit, 1) {
			t.Fatalf("%d items, %v", len(page), err)
		}
		if len(page) == 0 {
			return list
		}
		list = append(list, page...)
	}
}

// tables is a table a loop of so many numbers, and who reads it.
func tables(d *direct, of int) (*view.Pages, func() *view.Cursor[int]) {
	p := &view.Pages{Loops: d}
	all := make([]map[int]bool, d.n)
	for i := range all {
		all[i] = map[int]bool{}
		for n := range of {
			all[i][i*of+n] = true
		}
	}
	return p, func() *view.Cursor[int] {
		return view.OfTables(p, func(loop int) iter.Seq[int] { return maps.Keys(all[loop]) },
			func(loop, n int) (int, bool) { return n, all[loop][n] && n%2 == 0 })
	}
}

// What is wanted of the tables of all loops comes once, whatever the size of pages.
func TestTablesByPages(t *testing.T) {
	for _, limit := range []int{-1, 1, 7, 600, 100000} {
		_, open := tables(&direct{n: 3}, 700)
		list := whole(t, open(), limit)
		slices.Sort(list)
		if len(list) != 1050 || len(slices.Compact(list)) != 1050 {
			t.Errorf("limit %d: %d items", limit, len(list))
		}
	}
}

// A list of one loop goes on where the last page has ended.
func TestLoopByPages(t *testing.T) {
	p, at := &view.Pages{Loops: &direct{n: 1}}, 0
	c := view.OfLoop(p, 0, func(page []int, limit int) ([]int, bool) {
		for ; at < 20 && len(page) < limit; at++ {
			page = append(page, at)
		}
		return page, at == 20
	})
	if list := whole(t, c, 6); len(list) != 20 || !slices.IsSorted(list) {
		t.Error(list)
	}
}

// Cursors that are forgotten give way, are told, and let go of what they hold; an error is a cursor's end.
func TestCursorsAreBounded(t *testing.T) {
	d := &direct{n: 2}
	_, open := tables(d, 100)
	first := open()
	if page, err := first.Next(t.Context(), 3); len(page) != 3 || err != nil {
		t.Fatal(page, err)
	}
	var rest []*view.Cursor[int]
	for range 64 {
		rest = append(rest, open())
	}
	if _, err := first.Next(t.Context(), 3); !errors.Is(err, view.ErrCursor) || d.posts != 1 {
		t.Errorf("the oldest goes on: %v, %d ends", err, d.posts)
	}
	if n := len(whole(t, rest[0], 9)); n != 100 {
		t.Errorf("%d items", n)
	}
	rest[0].Close()
	if page, err := rest[0].Next(t.Context(), 1); len(page) != 0 || err != nil {
		t.Errorf("behind its end: %v %v", page, err)
	}
	d.dead = true
	for range 2 {
		if _, err := rest[1].Next(t.Context(), 1); !errors.Is(err, errDead) {
			t.Errorf("a loop that does not answer: %v", err)
		}
	}
	rest[1].Close()
	if d.posts != 2 {
		t.Errorf("%d ends", d.posts)
	}
}

// A page of retained messages ends early when it has many bytes, and has nothing that has expired.
func TestRetained(t *testing.T) {
	x, p := retained.New(), &view.Pages{Loops: &direct{}}
	for i := range 12 {
		m := message.New(fmt.Appendf(nil, "r/%02d", i), make([]byte, 1<<20), 1, true)
		if i == 3 {
			m.Expiry = 50
		}
		if i == 4 {
			m.Expiry = 5000
		}
		if err := x.Put(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	now, wall := func() int64 { return 1000 }, func() int64 { return 7000 }
	c, err := view.RetainedOf(p, x, "r/+", now, wall)
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.Next(t.Context(), 100)
	if len(page) >= 11 || err != nil {
		t.Errorf("%d messages on a page, %v", len(page), err)
	}
	page = append(page, whole(t, c, 3)...)
	seen := map[string]int64{}
	for i := range page {
		if seen[page[i].Topic] = 0; !page[i].Expires.IsZero() {
			seen[page[i].Topic] = page[i].Expires.UnixMilli()
		}
	}
	if len(page) != 11 || len(seen) != 11 || seen["r/04"] != 11000 || seen["r/05"] != 0 {
		t.Errorf("%d messages: %v", len(page), seen)
	}
	for _, bad := range []string{"a/#/b", "$share/g/a"} {
		if _, err := view.RetainedOf(p, x, bad, now, wall); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Who does not read loses events and hears how many; nobody else does.
func TestWatches(t *testing.T) {
	var x view.Watches[string]
	if x.Any() {
		t.Error("nobody watches")
	}
	x.Tell(view.Event[string]{}) // to nobody
	fast, slow := x.Watch(100), x.Watch(0)
	for i := range 5 {
		x.Tell(view.Event[string]{Kind: view.EventDisconnected, Reason: fmt.Sprint(i)})
	}
	if e := <-slow.Events(); e.Reason != "0" || e.Lost != 0 || e.Kind.String() != "disconnected" {
		t.Errorf("%+v", e)
	}
	x.Tell(view.Event[string]{Reason: "5"})
	if e := <-slow.Events(); e.Reason != "5" || e.Lost != 4 {
		t.Errorf("%+v", e)
	}
	slow.Close()
	slow.Close()
	x.Tell(view.Event[string]{Reason: "6"})
	for i := range 7 {
		if e := <-fast.Events(); e.Reason != fmt.Sprint(i) || e.Lost != 0 {
			t.Errorf("%+v", e)
		}
	}
	if fast.Close(); x.Any() || len(slow.Events()) > 0 {
		t.Error("it goes on after its end")
	}
}
