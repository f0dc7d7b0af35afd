package view

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"noctule/broker/fanout"
	"noctule/topictree"
)

// The subscription tree for operators, as Mosquitto prints it on SIGUSR2: a level a line, and behind the
// last one of a filter its subscribers with their QoS. The names of the filters are read without the loops,
// which are then asked for the subscribers of a few filters at a time; at most treePiece of one filter are
// answered in one turn. What is held is a pointer for each filter, and one piece.

const (
	treeBatch = 256  // filters asked for at once
	treeFew   = 8    // subscribers of each of them and of each loop; more come in pieces
	treePiece = 2048 // subscribers of one filter in one turn
)

// Tree is what the printed tree is made of. A receiver is a C.
type Tree[C fanout.Receiver[C]] struct {
	Index *topictree.Index
	Loops Loops
	// At is who has subscribed on a loop, and the shared subscriptions that it deals. Any goroutine calls it;
	// what it returns is looked at on the loop.
	At   func(loop int) (*fanout.Table[C], *fanout.Shares[C])
	Name func(c C) string // on the loop
}

// subscriber is one line's share of one client.
type subscriber[C fanout.Receiver[C]] struct {
	id     string
	qos    uint8
	shared *fanout.Share[C] // qos is still to be asked for
}

// Write writes all subscriptions to w. It takes as long as w does, and sees busy loops at different moments.
// Any goroutine but a loop's.
func (x *Tree[C]) Write(ctx context.Context, w io.Writer) error {
	var ids []topictree.FilterID
	x.Index.Each(func(id topictree.FilterID) bool {
		ids = append(ids, id)
		return true
	})
	slices.SortFunc(ids, func(a, b topictree.FilterID) int {
		return compareLevels(x.Index.Filter(a), x.Index.Filter(b))
	})
	t := &treeWriter[C]{Tree: x, out: bufio.NewWriterSize(w, 64<<10)}
	for batch := range slices.Chunk(ids, treeBatch) {
		if err := t.batch(ctx, batch); err != nil {
			return err
		}
	}
	return t.out.Flush()
}

// compareLevels sorts filters level by level.
func compareLevels(a, b string) int {
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		switch {
		case x != y:
			return strings.Compare(x, y)
		case !moreA && !moreB:
			return 0
		case !moreA:
			return -1
		case !moreB:
			return 1
		}
		a, b = restA, restB
	}
}

// treeWriter is one print of the tree.
type treeWriter[C fanout.Receiver[C]] struct {
	*Tree[C]
	out  *bufio.Writer
	path []string // of the last filter printed
}

// batch prints a few filters.
func (t *treeWriter[C]) batch(ctx context.Context, ids []topictree.FilterID) error {
	found := make([][][]subscriber[C], t.Loops.Len()) // by loop, then filter
	for i := range found {
		got, err := t.subscribers(ctx, i, ids, 0, treeFew)
		if err != nil {
			return err
		}
		found[i] = got
	}
	for k, id := range ids {
		some := false
		for i := range found {
			some = some || len(found[i][k]) > 0
		}
		if !some {
			continue // it has gone meanwhile
		}
		t.levels(t.Index.Filter(id))
		for i := range found {
			if err := t.rest(ctx, i, id, found[i][k]); err != nil {
				return err
			}
		}
		t.text("\n")
	}
	return nil
}

// rest prints subscribers of one filter and loop, and asks for more when there may be.
func (t *treeWriter[C]) rest(
	ctx context.Context, loop int, id topictree.FilterID, list []subscriber[C],
) error {
	from, limit := 0, treeFew
	for {
		for _, sub := range list {
			t.text(" (" + sub.id + ", " + strconv.Itoa(int(sub.qos)) + ")")
		}
		if len(list) < limit {
			return nil
		}
		from, limit = from+limit, treePiece
		got, err := t.subscribers(ctx, loop, []topictree.FilterID{id}, from, limit)
		if err != nil {
			return err
		}
		list = got[0]
	}
}

// levels prints the levels of a filter in which it differs from the one before; the last line stays open.
// Filters without $ are below a root without a name, as in Mosquitto.
func (t *treeWriter[C]) levels(filter string) {
	path := append([]string{""}, strings.Split(filter, "/")...)
	if strings.HasPrefix(filter, "$") {
		path[0] = path[1]
	}
	same := 0
	for same < len(path)-1 && same < len(t.path) && path[same] == t.path[same] {
		same++
	}
	for i := same; i < len(path); i++ {
		if i > same {
			t.text("\n")
		}
		t.text(strings.Repeat("  ", i+2) + path[i])
	}
	t.path = path
}

// text writes; the Writer keeps the first error for Flush.
func (t *treeWriter[C]) text(s string) { _, _ = t.out.WriteString(s) }

// subscribers asks one loop for subscribers of each filter, at most limit of them from a place in its list
// on.
func (x *Tree[C]) subscribers(
	ctx context.Context, loop int, ids []topictree.FilterID, from, limit int,
) ([][]subscriber[C], error) {
	out := make([][]subscriber[C], len(ids))
	err := x.Loops.Ask(ctx, loop, func() {
		for i, id := range ids {
			out[i] = x.list(loop, id, from, limit)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, x.sharedQoS(ctx, out)
}

// sharedQoS asks the members of shared subscriptions, each on its own loop, for what they subscribed with.
func (x *Tree[C]) sharedQoS(ctx context.Context, out [][]subscriber[C]) error {
	of := make(map[int][]*subscriber[C]) // by loop
	for i := range out {
		for k := range out[i] {
			if m := out[i][k].shared; m != nil {
				of[m.Loop] = append(of[m.Loop], &out[i][k])
			}
		}
	}
	for loop, list := range of {
		err := x.Loops.Ask(ctx, loop, func() {
			for _, sub := range list {
				sub.qos = sub.shared.Options.QoS()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// list is a part of a loop's subscribers of a filter, or of the members it deals to. On the loop.
func (x *Tree[C]) list(loop int, id topictree.FilterID, from, limit int) (out []subscriber[C]) {
	table, shares := x.At(loop)
	if g := shares.Group(id); g != nil {
		for _, m := range g.Page(from, limit) {
			out = append(out, subscriber[C]{id: x.Name(m.C), shared: m})
		}
		return out
	}
	var nobody C
	table.Page(id, from, limit, func(c C, o fanout.Options) {
		sub := subscriber[C]{qos: o.QoS()} // without a name: it has left while a slice is under way
		if c != nobody {
			sub.id = x.Name(c)
		}
		out = append(out, sub)
	})
	return out
}
