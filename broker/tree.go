package broker

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"noctule/broker/fanout"
	"noctule/topictree"
	"noctule/wsnet"
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

// subscriber is one line's share of one client.
type subscriber struct {
	id     string
	qos    uint8
	shared *shareMember // qos is still to be asked for
}

// WriteTree writes all subscriptions to w. It takes as long as w does, and sees a busy broker at different
// moments. Any goroutine but a loop's.
func (b *Broker) WriteTree(ctx context.Context, w io.Writer) error {
	var ids []topictree.FilterID
	b.index.Each(func(id topictree.FilterID) bool {
		ids = append(ids, id)
		return true
	})
	slices.SortFunc(ids, func(x, y topictree.FilterID) int {
		return compareLevels(b.index.Filter(x), b.index.Filter(y))
	})
	t := &treeWriter{b: b, out: bufio.NewWriterSize(w, 64<<10)}
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
type treeWriter struct {
	b    *Broker
	out  *bufio.Writer
	path []string // of the last filter printed
}

// batch prints a few filters.
func (t *treeWriter) batch(ctx context.Context, ids []topictree.FilterID) error {
	found := make([][][]subscriber, len(t.b.shards)) // by loop, then filter
	for i, s := range t.b.shards {
		got, err := t.b.subscribers(ctx, s, ids, 0, treeFew)
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
		t.levels(t.b.index.Filter(id))
		for i, s := range t.b.shards {
			if err := t.rest(ctx, s, id, found[i][k]); err != nil {
				return err
			}
		}
		t.text("\n")
	}
	return nil
}

// rest prints subscribers of one filter and loop, and asks for more when there may be.
func (t *treeWriter) rest(ctx context.Context, s *shard, id topictree.FilterID, list []subscriber) error {
	from, limit := 0, treeFew
	for {
		for _, sub := range list {
			t.text(" (" + sub.id + ", " + strconv.Itoa(int(sub.qos)) + ")")
		}
		if len(list) < limit {
			return nil
		}
		from, limit = from+limit, treePiece
		got, err := t.b.subscribers(ctx, s, []topictree.FilterID{id}, from, limit)
		if err != nil {
			return err
		}
		list = got[0]
	}
}

// levels prints the levels of a filter in which it differs from the one before; the last line stays open.
// Filters without $ are below a root without a name, as in Mosquitto.
func (t *treeWriter) levels(filter string) {
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
func (t *treeWriter) text(s string) { _, _ = t.out.WriteString(s) }

// subscribers asks one loop for subscribers of each filter, at most limit of them from a place in its list
// on.
func (b *Broker) subscribers(
	ctx context.Context, s *shard, ids []topictree.FilterID, from, limit int,
) ([][]subscriber, error) {
	out := make([][]subscriber, len(ids))
	err := s.query(ctx, func() {
		for i, id := range ids {
			out[i] = s.list(id, from, limit)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, b.sharedQoS(ctx, out)
}

// sharedQoS asks the members of shared subscriptions, each on its own loop, for what they subscribed with.
func (b *Broker) sharedQoS(ctx context.Context, out [][]subscriber) error {
	of := make(map[*shard][]*subscriber)
	for i := range out {
		for k := range out[i] {
			if m := out[i][k].shared; m != nil {
				of[m.C.shard] = append(of[m.C.shard], &out[i][k])
			}
		}
	}
	for s, list := range of {
		err := s.query(ctx, func() {
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

// query runs f on the shard's loop and waits.
func (s *shard) query(ctx context.Context, f func()) error {
	done := make(chan struct{})
	s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) {
		f()
		close(done)
	}))
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// list is a part of this loop's subscribers of a filter, or of the members it deals to.
func (s *shard) list(id topictree.FilterID, from, limit int) (out []subscriber) {
	s.loop.MustBeHere()
	if g := s.router.Shares.Group(id); g != nil {
		for _, m := range g.Page(from, limit) {
			out = append(out, subscriber{id: m.C.id, shared: m})
		}
		return out
	}
	s.receivers.Page(id, from, limit, func(c *client, o fanout.Options) {
		sub := subscriber{qos: o.QoS()} // without a name: it has left while a slice is under way
		if c != nil {
			sub.id = c.id
		}
		out = append(out, sub)
	})
	return out
}
