package broker_test

import (
	"maps"
	"slices"
	"testing"

	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/topictree"
)

// realQueue is the pure part of what the model of replay_search_test.go is about, retained.Index and retained.Queue,
// taken along a way through the model. What they say must be what the model says.
type realQueue struct {
	t    *testing.T
	c    *replayCase
	id   topictree.FilterID
	x    *retained.Index
	q    retained.Queue
	list *retained.Replay // of a grant

	s     replayState // before the step
	gives bool        // the step is one in which something may be given
	gave  uint64
}

func (r *realQueue) Current(_ *retained.Replay, _ string) (retained.Topic, bool) {
	return retained.Topic{ID: r.id}, r.s.member
}

// Behind implements retained.Receiver: what slices there are is the model's.
func (r *realQueue) Behind(*retained.Replay, retained.Topic) bool {
	l := &r.s.lots[0]
	return !l.waits && r.s.jobsN > 0 || l.waits && r.s.over < l.until
}

func (r *realQueue) Room(*retained.Replay) retained.Progress {
	if !r.gives {
		r.t.Fatal("it has begun already")
	}
	return retained.Now
}

// Give implements retained.Receiver, as giveRetained does.
func (r *realQueue) Give(_ *retained.Replay, m *message.Message, mark uint64) {
	if lost := r.c.qos0 && m.Number <= r.q.Resumed; m.Number <= mark || lost {
		r.gave = m.Number
	}
}

// run is replayRetained; passed is the last round that has passed.
func (r *realQueue) run(passed uint64, left int) {
	if r.q.Empty() {
		return
	}
	if first := r.q.First(); r.q.Run(r.x, r, passed, &left) == retained.Over {
		r.q.Remove(first)
		r.list = nil
	}
}

// awaits is what deliverOwn and deliverGranted ask.
func (r *realQueue) awaits(n uint8) bool {
	m := &message.Message{Number: uint64(n)}
	if r.c.granted {
		return r.list != nil && r.list.Awaits(r.id, m)
	}
	return r.q.Awaits(r.id, m)
}

// subscribed is newReplay and addReplays, or replayGranted; round is what the model waits for.
func (r *realQueue) subscribed(fresh bool, mark, round uint64) {
	topic := []retained.Topic{{ID: r.id, Had: !fresh}}
	if r.list != nil {
		r.list.Outdate(topic)
	}
	switch {
	case !r.x.MayMatch([]byte("t")):
	case !r.c.granted:
		r.q.Begin(retained.One(r.id, fresh), mark, round)
	case r.list != nil && r.list.ToCome("t"):
	default:
		if r.list == nil {
			r.list = retained.List()
			r.q.Add(r.list)
		}
		r.list.Give(topic, mark, round)
	}
}

// step takes one step and looks whether the model's, from s to next, is the same.
func (r *realQueue) step(i int, s, next *replayState) {
	r.s, r.gives, r.gave = *s, false, 0
	live := func(n uint8) {
		if !s.member {
			return
		}
		skipped := slices.ContainsFunc(s.lots[:s.lotsN], func(l lotModel) bool { return n <= l.skip })
		if got := r.awaits(n); got != skipped {
			r.t.Fatalf("a live message %d is left out: %v, by the model %v", n, got, skipped)
		}
	}
	switch replaySteps[i].name {
	case "the publisher's loop goes a step on with a message":
		if next.index != s.index {
			m := &message.Message{Topic: []byte("t"), Payload: []byte("x"), Retain: true}
			if err := r.x.Put(m, nil); err != nil || m.Number != uint64(next.index) {
				r.t.Fatalf("number %d, %v", m.Number, err)
			}
		}
	case "its loop reads the mark":
		r.subscribed(s.wasNew, uint64(s.last), uint64(s.begun+1))
	case "the client unsubscribes":
		if of := r.q.Of(r.id); of != nil {
			r.q.Remove(of)
		}
	case "the client connects":
		r.q.Resumed = uint64(next.resumed)
	case "the subscriber's loop takes mail":
		if s.mail[0] != answer && !r.c.sliced {
			live(s.mail[0])
		}
	case "a slice is served":
		if s.jobs[0].mine {
			live(s.jobs[0].n)
		}
	case "the replay begins":
		r.run(uint64(s.passed), 1)
	case "the cursor gives what is retained":
		r.gives = true
		r.run(0, 10)
		want := uint64(0)
		if s.member && (s.index <= s.mark || r.c.qos0 && s.index <= s.resumed) {
			want = uint64(s.index)
		}
		if r.gave != want {
			r.t.Fatalf("the cursor gives %d, by the model %d", r.gave, want)
		}
	}
}

// TestQueueAgreesWithModel takes the queue of replays along every step of the model.
func TestQueueAgreesWithModel(t *testing.T) {
	id, err := topictree.New(topictree.Options{}).Add([]byte("t"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, cases := range []map[string]replayCase{replayCases(2, 2, 1), replayCases(2, 3, 0)} {
		for _, name := range slices.Sorted(maps.Keys(cases)) {
			if c := cases[name]; !c.other {
				t.Run(name, func(t *testing.T) { agree(t, &c, id) })
			}
		}
	}
}

func agree(t *testing.T, c *replayCase, id topictree.FilterID) {
	var way []replayState
	var steps []int
	taken := 0
	// A state is gone on from once, by the way that is found first; each step from it is taken by that way.
	seen := map[replayState]bool{}
	var walk func(s replayState)
	walk = func(s replayState) {
		seen[s] = true
		for i := range replaySteps {
			next := s
			if !replaySteps[i].do(c, &next) {
				continue
			}
			r := realQueue{t: t, c: c, id: id, x: retained.New()}
			way, steps = append(way, s), append(steps, i)
			for k := range way {
				after := &next
				if k+1 < len(way) {
					after = &way[k+1]
				}
				r.step(steps[k], &way[k], after)
			}
			taken++
			if !seen[next] {
				walk(next)
			}
			way, steps = way[:len(way)-1], steps[:len(steps)-1]
		}
	}
	walk(replayState{online: true, bit: c.other})
	t.Logf("%d states, %d steps", len(seen), taken)
}
