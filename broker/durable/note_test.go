package durable_test

import (
	"testing"

	"noctule/broker/durable"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/store"
)

// What changes in a session's messages is in the store, and nothing of it once all are through.
func TestNote(t *testing.T) {
	b := newBench(t, &durable.Routes{})
	m := message.New([]byte("t"), []byte("x"), 2, false).Keep()
	held := message.New([]byte("t"), []byte("y"), 2, false).Keep()
	for _, step := range []struct {
		ch                        session.Change
		entries, inbound, message int
	}{
		{session.Change{Kind: session.Stored, Seq: 1, Message: m}, 1, 0, 1},
		{session.Change{Kind: session.Stored, Seq: 2, Message: m}, 2, 0, 1},
		{session.Change{Kind: session.Moved, Seq: 1, Message: m, ID: 5, State: session.State(store.WaitRec)}, 2, 0, 1},
		{session.Change{Kind: session.Yielded, Seq: 1, Message: m, ID: 5, State: session.State(store.WaitComp)}, 2, 0, 1},
		{session.Change{Kind: session.Held, ID: 9, Message: held}, 2, 1, 2},
		{session.Change{Kind: session.Expired, Seq: 2, Message: m}, 2, 1, 2},
		{session.Change{Kind: session.Wanted}, 2, 1, 2},
		{session.Change{Kind: session.Superseded, ID: 9, Message: held}, 2, 0, 1},
		{session.Change{Kind: session.Held, ID: 9}, 2, 1, 1},
		{session.Change{Kind: session.Released, ID: 9}, 2, 0, 1},
		{session.Change{Kind: session.Removed, Seq: 1}, 1, 0, 1},
		{session.Change{Kind: session.Removed, Seq: 2}, 0, 0, 0},
	} {
		if step.ch.Seq == 2 && step.ch.Kind == session.Removed {
			step.ch.Away = m.Stored // it exists from the first Stored on
		}
		b.Note(1, step.ch)
		b.turn()
		e, i, n := b.records(store.Entries), b.records(store.Inbound), b.records(store.Messages)
		if e != step.entries || i != step.inbound || n != step.message {
			t.Errorf("%d: %d entries, %d handshakes, %d messages; want %d, %d, %d",
				step.ch.Kind, e, i, n, step.entries, step.inbound, step.message)
		}
	}
}

// A session that is not stored yet, and what an earlier connection was not told, is known until it is
// durable.
func TestPromises(t *testing.T) {
	b := newBench(t, &durable.Routes{})
	o := &output{b: b}
	var p durable.Promises
	if !p.None() || p.Gate() != nil || p.Unborn() || p.Owes() {
		t.Error("the zero value promises")
	}
	p.Drop(true)
	p.Bear(b.Journal)
	p.Wait(b.Journal, o)
	copy(p.Gate().Reserve(2), "ab")
	g := p.Gate()
	if p.None() || !p.Unborn() {
		t.Error("it is not known that it waits")
	}
	b.Post()
	p.Wait(b.Journal, o)
	copy(p.Gate().Reserve(1), "c")
	if p.Open(g, 1, o.reserve) || string(o.out) != "ab" || p.Gate() != g || !p.Unborn() {
		t.Errorf("after the first post %q has left", o.out)
	}
	if !p.Open(g, 2, o.reserve) || string(o.out) != "abc" || !p.None() {
		t.Errorf("after the second %q has left", o.out)
	}
	for _, stored := range []bool{true, false} {
		p.Wait(b.Journal, o)
		if p.Drop(stored); p.Owes() != stored || p.Gate() != nil {
			t.Errorf("durable %v: owes %v", stored, p.Owes())
		}
		if p.Kept(b.Ticket().Number - 1); p.Owes() != stored {
			t.Error("it is not durable yet")
		}
		if p.Kept(b.Ticket().Number); !p.None() {
			t.Error("it is durable")
		}
	}
}
