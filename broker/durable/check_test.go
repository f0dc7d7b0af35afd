package durable

import (
	"strings"
	"testing"

	"noctule/topictree"
)

// The checks find what must not be.
func TestChecksFindFaults(t *testing.T) {
	j := New(0, Options{Routes: &Routes{}})
	j.posted, j.reached = 5, 3
	g := &Gate{buf: make([]byte, 3), parts: []segment{{4, 1}, {6, 3}}}
	plant := func(want string, do, undo func()) {
		t.Helper()
		if err := j.Check(); err != nil {
			t.Fatalf("before %s: %v", want, err)
		}
		if err := j.CheckGate(g); err != nil {
			t.Fatalf("before %s: %v", want, err)
		}
		do()
		defer undo()
		for _, err := range []error{j.Check(), j.CheckGate(g), j.CheckMembers(map[topictree.FilterID]int{})} {
			if err != nil && strings.Contains(err.Error(), want) {
				return
			}
		}
		t.Errorf("%s was not found", want)
	}
	plant("is durable, the last was", func() { j.reached += 9 }, func() { j.reached -= 9 })
	plant("told: 1 of 2 waits for post 4", func() { j.told = []told{{post: 5}, {post: 4}} }, func() { j.told = nil })
	plant("waiting: 0 of 1 waits for post 7", func() { j.waiting = []waiting{{post: 7}} }, func() { j.waiting = nil })
	plant("parts: 0 of 2 waits for post 7", func() { g.parts[0].post = 7 }, func() { g.parts[0].post = 4 })
	plant("3 is durable", func() { g.parts[0].post = 3 }, func() { g.parts[0].post = 4 })
	plant("behind 2", func() { g.from = 2 }, func() { g.from = 0 })
	plant("2 parts up to 3 of 4", func() { g.buf = make([]byte, 4) }, func() { g.buf = make([]byte, 3) })
	id, err := topictree.New(topictree.Options{}).Add([]byte("t"), 0)
	if err != nil {
		t.Fatal(err)
	}
	plant("durable subscribers are of 0 filters, of 1", func() { j.Enter(id) }, func() { j.Leave(id) })
}
