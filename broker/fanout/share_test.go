package fanout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/topictree"
)

// shares is a shared subscription with members, each a receiver of its own.
func shares(t *testing.T, n int) (s *fanout.Shares[*receiver], list []*fanout.Share[*receiver]) {
	t.Helper()
	id, err := topictree.New(topictree.Options{}).AddShared([]byte("g"), []byte("t"), 0)
	if err != nil {
		t.Fatal(err)
	}
	s = &fanout.Shares[*receiver]{}
	for i := range n {
		m := &fanout.Share[*receiver]{C: newReceiver(fmt.Sprint(i)), ID: id, Ready: &fanout.Readiness{}}
		s.Join(m)
		list = append(list, m)
	}
	return s, list
}

// Who is dealt to: the best state first, in turn, and who takes no message as large last.
func TestDealByReadiness(t *testing.T) {
	s, list := shares(t, 6)
	id, small, large := list[0].ID, message.New([]byte("t"), nil, 0, false), message.New([]byte("t"), make([]byte, 1000), 0, false)
	deal := func(m *message.Message, n int) (out string) {
		for range n {
			mb := s.Deal(id, m)
			if mb == nil {
				return out + "-"
			}
			out += mb.C.name
		}
		return out
	}
	list[0].Ready.End()
	list[1].Ready.Set(fanout.Stuffed, 0)
	list[2].Ready.Set(fanout.Offline, 0)
	list[3].Ready.Set(fanout.Full, 0)
	list[4].Ready.Set(fanout.Idle, 100)
	list[5].Ready.Set(fanout.Idle, 1<<32-1)
	if got := deal(small, 4); got != "4545" {
		t.Errorf("small: %s", got)
	}
	if got := deal(large, 3); got != "555" {
		t.Errorf("large: %s", got)
	}
	list[5].Ready.End()
	if got := deal(small, 2) + deal(large, 2); got != "4433" {
		t.Errorf("one that is idle: %s", got)
	}
	for i := 4; i > 1; i-- {
		list[i].Ready.End()
		if got, want := deal(small, 2), fmt.Sprint(i-1, i-1); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("up to %d: %s", i, got)
		}
	}
	list[4].Ready.Set(fanout.Idle, 100)
	if got := deal(large, 2); got != "11" {
		t.Errorf("the one that takes no message as large comes last: %s", got)
	}
	if list[1].Ready.End(); deal(large, 2) != "44" {
		t.Error("there is no other")
	}
	if list[4].Ready.End(); deal(small, 1) != "-" {
		t.Error("all have gone")
	}
}

// What is early waits in its order, and what comes meanwhile behind it.
func TestEarly(t *testing.T) {
	s, list := shares(t, 1)
	id := list[0].ID
	s.Leave(list[0])
	if s.Begun(id) || s.Group(id) != nil || s.Deal(id, message.New(nil, nil, 0, false)) != nil {
		t.Error("there are no members")
	}
	a, b := message.New(nil, nil, 0, false), message.New(nil, nil, 0, false)
	if !s.Defer(id, fanout.Early{Message: a}) {
		t.Error("nobody waits for it")
	}
	s.Join(list[0])
	if s.Begun(id) || s.Defer(id, fanout.Early{Message: b, Owed: true}) {
		t.Error("one is before it [MQTT-4.6.0-6]")
	}
	if got := s.Deferred(id); len(got) != 2 || got[0].Message != a || got[1].Message != b || !got[1].Owed {
		t.Errorf("%v", got)
	}
	if !s.Begun(id) || !slices.Equal(slices.Collect(s.All()), []topictree.FilterID{id}) {
		t.Error("all is dealt")
	}
}
