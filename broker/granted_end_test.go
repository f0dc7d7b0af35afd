package broker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// ending is topics of QoS 1 that end after some seconds, counted from now; 0: they stay.
func (x *fixture) ending(after map[string]int) *behalf.Set {
	var list []behalf.Topic
	var ends []int64
	for f, n := range after {
		end := int64(0)
		if n != 0 {
			end = x.b.End(time.Duration(n) * time.Second)
		}
		list, ends = append(list, behalf.Topic{Filter: f, QoS: 1}), append(ends, end)
	}
	return behalf.NewEndingSet(list, ends)
}

// wantGranted waits until servers have given sessions so many topics.
func (x *fixture) wantGranted(n int64) {
	x.t.Helper()
	brokertest.Until(x.t, x.b, fmt.Sprint(n, " topics granted"), func(m *broker.Metrics) bool { return m.Granted == n })
}

// given is the filters that servers have given a client, sorted.
func (x *fixture) given(id string) (list []string) {
	x.t.Helper()
	for _, h := range x.list(id).Holdings {
		for _, t := range h.Topics {
			list = append(list, t.Filter)
		}
	}
	slices.Sort(list)
	return list
}

// TestTopicsEnd has topics of connected and offline sessions end when they are due, and not before; what was queued
// before that still comes, and what stays goes on.
func TestTopicsEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		d.offline("away", "other")
		here, pub := d.connect("here", codec.V5, nil), d.connect("pub", codec.V5, nil)
		list := d.ending(map[string]int{"a": 10, "b": 0, "$share/g/c": 10})
		before := map[string]uint64{}
		for _, id := range []string{"here", "away", "other"} {
			before[id] = d.ask(behalf.Request{ClientID: id, Topics: list}).Revision
		}
		d.advance(9)
		d.wantGranted(9)
		wantMessages(pub, here, []string{"a", "b"}, "a", "b")
		d.advance(1)
		d.wantGranted(3)
		wantMessages(pub, here, []string{"a", "b", "c"}, "b")
		for id, was := range before {
			l := d.list(id)
			if got := d.given(id); !slices.Equal(got, []string{"b"}) || l.Revision <= was {
				t.Errorf("%s has %v, revision %d after %d", id, got, l.Revision, was)
			}
		}
		away := d.resumed("away")
		for _, want := range []string{"a", "b", "b"} {
			p := published(away)
			away.Ack(codec.PUBACK, p.PacketID)
			if string(p.Topic) != want {
				t.Errorf("%s, want %s", p.Topic, want)
			}
		}
		away.WantNothing()
		d.wantStored(1, 2)
	})
}

// TestTopicsEndOverRestarts: a list keeps when it ends, and its key; what has become due while there was no broker is
// gone when the next listens, with what the client had unsubscribed from of it.
func TestTopicsEndOverRestarts(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		c := d.connect("c", codec.V5, with(expiry(0xFFFFFFFF)))
		d.ask(behalf.Request{ClientID: "c", Topics: d.ending(map[string]int{"a": 100, "b": 0, "e": 7200})})
		d.ask(behalf.Request{ClientID: "c", Topics: d.ending(map[string]int{"f": 100}), Origin: origin("api:other")})
		c.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("a")}})
		c.Want(codec.UNSUBACK, nil)
		c.Disconnect()
		before := d.list("c")
		d.saved()
		d.crash(t, loops)
		if after := d.list("c"); fmt.Sprint(after.Holdings) != fmt.Sprint(before.Holdings) || after.Holdings[1].Ends == nil {
			t.Errorf("was %+v, is %+v", before.Holdings, after.Holdings)
		}
		d.wantStored(2, 2)
		d.clock.Set(time.Hour) // for which there is no broker
		d.crash(t, loops)
		after := d.list("c")
		if got := d.given("c"); !slices.Equal(got, []string{"b", "e"}) || len(after.Holdings[1].Muted) != 0 {
			t.Errorf("has %v: %+v", got, after.Holdings)
		}
		if after.Revision <= before.Revision {
			t.Errorf("revision %d after %d", after.Revision, before.Revision)
		}
		d.wantStored(1, 2)
		d.crash(t, loops)
		if again := d.list("c"); fmt.Sprint(again.Holdings) != fmt.Sprint(after.Holdings) {
			t.Errorf("was %+v, is %+v", after.Holdings, again.Holdings)
		}
		d.advance(3600)
		d.wantGranted(1)
	})
}

// TestClockIsSetUnderTopicsThatEnd: nothing ends early or late; listings tell times of the system's clock, and such
// a time comes back as what it was made of.
func TestClockIsSetUnderTopicsThatEnd(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		x.connect("c", codec.V5, nil)
		for _, by := range append(jumps, 1234567*time.Millisecond) {
			x.ask(behalf.Request{ClientID: "c", Topics: x.ending(map[string]int{"a": 10})})
			x.clock.Set(by)
			x.advance(9)
			l := x.list("c")
			at := time.Unix(l.Holdings[1].Ends[0], 0)
			if left := at.Sub(time.UnixMilli(x.clock.Source().Wall())); left < 500*time.Millisecond || left > 1500*time.Millisecond {
				t.Errorf("%s: %s are left", by, left)
			}
			again := behalf.NewEndingSet([]behalf.Topic{{Filter: "a", QoS: 1}}, []int64{x.b.EndAt(at)})
			if a := x.ask(behalf.Request{ClientID: "c", Topics: again}); a.Revision != l.Revision {
				t.Errorf("%s: revision %d, then %d", by, l.Revision, a.Revision)
			}
			x.advance(1)
			x.wantGranted(0)
		}
	})
}

// TestEndsAreTold: who wants to hear of it hears by origin what has ended, and what had while there was no broker.
func TestEndsAreTold(t *testing.T) {
	told := make(chan behalf.Ended, 10)
	d := newDurable(t, 1, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Ended = func(e behalf.Ended) { told <- e }
	})
	d.connect("c", codec.V5, with(expiry(0xFFFFFFFF))).Disconnect()
	d.ask(behalf.Request{ClientID: "c", Topics: d.ending(map[string]int{"a": 10, "b": 10, "c": 1000})})
	want := func(want behalf.Ended) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		case <-time.After(brokertest.Timeout):
			t.Fatal("nobody is told")
		}
	}
	d.advance(10)
	want(behalf.Ended{Origin: "api:test", Topics: 2, Sessions: 1, ClientID: "c"})
	d.saved()
	d.clock.Set(time.Hour)
	d.crash(t, 1)
	d.advance(1)
	want(behalf.Ended{Origin: "api:test", Topics: 1, Sessions: 1, ClientID: "c"})
}

// TestShutdownWhileTopicsEnd ends a broker while very many topics are on their way out: it does not wait for them.
func TestShutdownWhileTopicsEnd(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for i := range 200 {
			id := fmt.Sprint("c", i)
			x.connect(id, codec.V5, nil)
			x.ask(behalf.Request{ClientID: id, Topics: x.ending(map[string]int{id: 1, "a": 1, "b": 0})})
		}
		x.advance(2)
		ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
		defer cancel()
		if err := x.b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}
