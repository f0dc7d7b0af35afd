package state_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/state"
)

// whole is a store with a record of each kind, and session 1 with all of them.
func whole(t *testing.T) *store.Memory {
	t.Helper()
	var b store.Batch
	m := &message.Message{Topic: []byte("t"), Payload: []byte("12345"), QoS: 1}
	b.PutMeta(&store.Meta{Epoch: 1, Seed: 2, Loops: 3})
	b.PutClock(&store.Clock{Ahead: 4, Seen: 5})
	b.PutSession(&store.Session{Number: 1, ClientID: "c", Will: &store.Will{Message: *m}})
	b.PutSubscription(&store.Subscription{Session: 1, Filter: "t"})
	b.PutMessage(2, m)
	b.PutMessage(3, m)
	b.PutMessage(4, m)
	b.PutEntry(&store.Entry{Session: 1, Seq: 1, Message: 2, QoS: 2, State: store.WaitRec, PacketID: 1})
	b.PutEntry(&store.Entry{Session: 1, Seq: 2, Message: 3, QoS: 1})
	b.PutHandshake(&store.Handshake{Session: 1, PacketID: 6, Message: 4})
	b.PutRetained(m)
	b.PutTransit(&store.Transit{Message: 2, Filter: "t"})
	b.PutSet(&store.Set{Key: store.SetKey{7}, Topics: []store.SetTopic{{Filter: "t", Options: 0x1D, ID: 8}}})
	b.PutGrant(&store.Grant{Session: 1, Origin: "api:a", Set: store.SetKey{7}, Revision: 9})
	b.PutDenial(&store.Denial{Of: store.DenyUser, Name: "u", Since: 10, Until: 11, By: "x", Reason: "y"})
	b.PutAnswerList(&store.Set{Key: store.SetKey{12}, Topics: []store.SetTopic{{Filter: "t"}}})
	b.PutAnswer(&store.Answer{Source: "p", Key: [16]byte{13}, List: store.SetKey{12}, Until: 14})
	return commit(t, store.NewMemory(), &b)
}

func commit(t *testing.T, s *store.Memory, b *store.Batch) *store.Memory {
	t.Helper()
	if err := s.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return s
}

// everything is a visitor that takes all kinds of records and counts them by field.
func everything(seen map[string]int) *state.Visitor {
	v := &state.Visitor{}
	fields := reflect.ValueOf(v).Elem()
	for i := range fields.NumField() {
		name, f := fields.Type().Field(i).Name, fields.Field(i)
		f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value {
			seen[name]++
			return []reflect.Value{reflect.Zero(reflect.TypeFor[error]())}
		}))
	}
	return v
}

// Each kind of record has its func, and a record that is cut off is an error.
func TestVisitorTakesAll(t *testing.T) {
	s, seen := whole(t), map[string]int{}
	if err := state.Walk(s, everything(seen)); err != nil {
		t.Fatal(err)
	}
	if n := reflect.TypeFor[state.Visitor]().NumField(); len(seen) != n {
		t.Errorf("records of %d kinds are seen, of %d: %v", len(seen), n, seen)
	}
	if err := state.Walk(s, &state.Visitor{}); err != nil {
		t.Error(err)
	}
	v := everything(map[string]int{})
	for table := range store.Tables {
		_ = s.Walk(table, func(key, value []byte) error {
			for n := range len(value) / 2 { // a payload has no length of its own
				if err := v.Look(table, key, value[:n]); err == nil {
					t.Errorf("%s: %d of %d bytes are taken", table, n, len(value))
				}
			}
			return nil
		})
	}
	stop := errors.New("stop")
	if err := state.Walk(s, &state.Visitor{Grant: func(*store.Grant) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("the visitor's error is %v", err)
	}
}

func load(t *testing.T, s store.Store, bounded bool, bound int64) *state.State {
	t.Helper()
	st, err := state.Load(s, state.Options{
		Bounded: bounded, Bound: bound,
		Retain: func(m *message.Message) (bool, error) { return string(m.Topic) == "t", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// What is whole needs no repair; beyond the bound only what waits in a queue is not in memory.
func TestLoad(t *testing.T) {
	for _, bound := range []int64{-1, 0, 5, 100} {
		st := load(t, whole(t), bound >= 0, bound)
		x := st.Sessions[1]
		if x == nil || len(st.Sessions) != 1 || len(x.Subscriptions) != 1 || len(x.Grants) != 1 ||
			len(x.Out) != 2 || len(x.Held) != 1 || st.Repair.Len() != 0 || st.Lost != 0 || st.Entries != 2 ||
			st.Retained != 1 || st.Revision != 9 || len(st.Transits) != 1 || len(st.Sets) != 1 {
			t.Fatalf("bound %d: %+v, session %+v", bound, st, x)
		}
		if st.Message(2) == nil || x.Out[0].Message == nil || x.Held[0].Message == nil {
			t.Errorf("bound %d: what is in flight, held, or on its way to a loop is not in memory", bound)
		}
		away := bound >= 0 && bound < 100
		if e := &x.Out[1]; (e.Message == nil) != away || (e.Away != nil) != away {
			t.Errorf("bound %d: what waits is %+v", bound, e)
		}
		topic := st.Sets[store.SetKey{7}].Topics()[0]
		if got, want := fmt.Sprintf("%+v", topic),
			"{Filter:t ID:8 QoS:1 RetainHandling:1 NoLocal:true RetainAsPublished:true}"; got != want {
			t.Errorf("the list has %s, want %s", got, want)
		}
	}
}

// Records that refer to what is not there, and those that nobody refers to, are removed.
func TestLoadRepairs(t *testing.T) {
	m := &message.Message{Topic: []byte("old")}
	for name, tt := range map[string]struct {
		change func(b *store.Batch)
		lost   int
		want   string // tables that the repair is about
	}{
		"no session": {
			func(b *store.Batch) { b.Delete(store.Sessions, []byte{7: 1}) },
			5, "entries entries grants inbound messages messages sets subscriptions",
		},
		"no message":           {func(b *store.Batch) { b.DeleteMessage(2) }, 2, "entries transits"},
		"message of nobody":    {func(b *store.Batch) { b.PutMessage(10, m) }, 0, "messages"},
		"list of nobody":       {func(b *store.Batch) { b.PutSet(&store.Set{Key: store.SetKey{1}}) }, 0, "sets"},
		"not retained":         {func(b *store.Batch) { b.PutRetained(m) }, 0, "retained"},
		"handshake of nothing": {func(b *store.Batch) { b.DeleteMessage(4) }, 1, ""},
	} {
		var b store.Batch
		tt.change(&b)
		s := commit(t, whole(t), &b)
		st := load(t, s, false, 0)
		var tables []string
		_ = store.Each(st.Repair.Bytes(), func(op store.Op) error {
			if op.Kind != store.Delete {
				t.Errorf("%s: operation %d", name, op.Kind)
			}
			tables = append(tables, op.Table.String())
			return nil
		})
		slices.Sort(tables)
		if got := strings.Join(tables, " "); got != tt.want || st.Lost != tt.lost {
			t.Errorf("%s: repairs %q, %d lost; want %q, %d", name, got, st.Lost, tt.want, tt.lost)
		}
		commit(t, s, &st.Repair)
		if again := load(t, s, false, 0); again.Repair.Len() != 0 {
			t.Errorf("%s: repaired, and %d repairs more", name, again.Repair.Len())
		}
	}
	var b store.Batch
	b.DeleteSet(store.SetKey{7})
	_, err := state.Load(commit(t, whole(t), &b), state.Options{
		Retain: func(*message.Message) (bool, error) { return true, nil },
	})
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a grant of a list that is not there: %v", err)
	}
}
