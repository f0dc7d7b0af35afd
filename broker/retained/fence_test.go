package retained_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/codec"
)

// node is a loop: what others have posted to it, in order, and what it has of that.
type node struct {
	fence  retained.Fence[want, int]
	inbox  []letter
	out    []letter // to be posted at the end of the turn, as messages for other loops are
	got    map[int]bool
	passed []want
	freed  []int
}

// letter is a message, or a question or an answer of another loop.
type letter struct {
	to, from int
	message  int // from 1
	question bool
}

// want is a client that waits for a round, and what was on its way when it began to.
type want struct {
	id    int
	round uint64
	sent  []int
}

// With loops whose turns come in any order, who has waited for a round has all that was on its way before,
// hears once, and before the connections that are held.
func TestModelOfFences(t *testing.T) {
	for range 200 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 2))
		loops := 2 + rnd.IntN(3)
		nodes := make([]*node, loops)
		for i := range nodes {
			nodes[i] = &node{got: map[int]bool{}}
		}
		sent, wanted := 0, 0
		turn := func(i int, quiet bool) {
			n := nodes[i]
			take := rnd.IntN(len(n.inbox) + 1)
			if quiet {
				take = len(n.inbox)
			}
			for _, l := range n.inbox[:take] {
				switch {
				case l.message > 0:
					n.got[l.message] = true
				case l.question:
					n.fence.Ask(l.from)
				default:
					n.fence.Answer(l.from, func(w want) { n.passed = append(n.passed, w) }, func(id int) {
						if !slices.ContainsFunc(n.passed, func(w want) bool { return w.id == id }) {
							t.Fatalf("seed %d: connection %d is let go before its client", seed, id)
						}
						n.freed = append(n.freed, id)
					})
				}
			}
			n.inbox = n.inbox[take:]
			if !quiet && rnd.IntN(2) == 0 {
				sent++
				n.out = append(n.out, letter{to: (i + 1 + rnd.IntN(loops-1)) % loops, message: sent})
			}
			if !quiet && rnd.IntN(3) == 0 {
				w := want{id: wanted, round: n.fence.Want(loops)}
				for _, other := range nodes {
					for _, l := range slices.Concat(other.inbox, other.out) {
						if l.message > 0 && (l.to == i) {
							w.sent = append(w.sent, l.message)
						}
					}
				}
				wanted++
				n.fence.Wait(w)
				n.fence.Hold(w.id)
			}
			for _, l := range n.out {
				nodes[l.to].inbox = append(nodes[l.to].inbox, l)
			}
			n.out = nil
			answer, ask := n.fence.EndTurn((1<<loops - 1) &^ (1 << i))
			for j := range loops {
				if answer>>j&1 == 1 {
					nodes[j].inbox = append(nodes[j].inbox, letter{from: i})
				}
				if ask>>j&1 == 1 {
					nodes[j].inbox = append(nodes[j].inbox, letter{from: i, question: true})
				}
			}
		}
		check := func() {
			for i, n := range nodes {
				for _, w := range n.passed {
					if w.round > n.fence.Passed() {
						t.Fatalf("seed %d: round %d has not passed", seed, w.round)
					}
					for _, m := range w.sent {
						if !n.got[m] {
							t.Fatalf("seed %d: loop %d has not message %d of before", seed, i, m)
						}
					}
				}
			}
		}
		for range 60 {
			turn(rnd.IntN(loops), false)
			check()
		}
		for i := range 10 * loops {
			turn(i%loops, true)
			check()
		}
		heard := 0
		for _, n := range nodes {
			heard += len(n.passed)
			if len(n.freed) != len(n.passed) {
				t.Errorf("seed %d: %d connections, %d clients", seed, len(n.freed), len(n.passed))
			}
		}
		if heard != wanted {
			t.Errorf("seed %d: %d have heard, of %d", seed, heard, wanted)
		}
	}
	var alone retained.Fence[want, int]
	if n := alone.Want(1); n != 0 {
		t.Errorf("one loop waits for round %d", n)
	}
	if answer, ask := alone.EndTurn(0); answer|ask != 0 {
		t.Error("one loop asks")
	}
}

// Which subscriptions get retained messages [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
func TestDue(t *testing.T) {
	for _, tt := range []struct {
		v        codec.Version
		handling uint8
		fresh    bool
		want     bool
	}{
		{codec.V5, 0, true, true},
		{codec.V5, 0, false, true},
		{codec.V5, 1, true, true},
		{codec.V5, 1, false, false},
		{codec.V5, 2, true, false},
		{codec.V5, 2, false, false},
		{codec.V311, 0, true, true},
		{codec.V311, 0, false, true},
		{codec.V31, 0, true, true},
		{codec.V31, 0, false, false},
	} {
		if got := retained.Due(tt.v, tt.handling, tt.fresh); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// What is beyond the mark comes live, but for what was lost while there was no connection.
func TestLive(t *testing.T) {
	var q retained.Queue
	for _, tt := range []struct {
		number, mark, resumed uint64
		lossy, want           bool
	}{
		{5, 5, 0, false, false},
		{6, 5, 0, false, true},
		{6, 5, 0, true, true},
		{6, 5, 6, true, false},
		{6, 5, 6, false, true},
		{7, 5, 6, true, true},
	} {
		q.Resume(tt.resumed, 0)
		if got := q.Live(&message.Message{Number: tt.number}, tt.mark, tt.lossy); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// Passages that came before the first question are waited for, and no later one, when their number wraps too.
func TestBehindPassages(t *testing.T) {
	const last = ^uint32(0)
	var b retained.Behind
	if b.Passed(last, 2) || b.Passed(last, 9) || b.Passed(0, 9) || !b.Passed(1, 9) {
		t.Error("two passages are to be over")
	}
	if b.Again(); b.Passed(1, 1) || !b.Passed(2, 0) {
		t.Error("one more is to be over")
	}
	var none retained.Behind
	if !none.Passed(7, 0) {
		t.Error("none is under way")
	}
}

// A session that goes on waits for the round of its connection, and is listed for a round once.
func TestResumedWaitsForItsRound(t *testing.T) {
	x, c := retained.New(), subscribed(t, "t")
	if err := x.Put(msg("t", "1"), nil); err != nil {
		t.Fatal(err)
	}
	var q retained.Queue
	q.Begin(retained.One(c.has["t"].ID, true), x.Mark(), 0)
	q.Resume(x.Mark(), 1)
	if got := c.run(&q, x, 5); got != "" {
		t.Errorf("%q before the round has passed", got)
	}
	if !q.List(1) || q.List(1) || !q.List(2) {
		t.Error("listed")
	}
	q.Resume(x.Mark(), 0)
	if got := c.run(&q, x, 5); got != "t 1" {
		t.Errorf("%q", got)
	}
}
