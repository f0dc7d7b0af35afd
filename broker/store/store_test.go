package store_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/storetest"
	"noctule/codec"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Opener {
		m := store.NewMemory()
		return func(testing.TB) store.Store { return m }
	})
}

func TestMemoryTakesNothingOfAWrongBatch(t *testing.T) {
	m := store.NewMemory()
	var b store.Batch
	b.Put(store.Retained, []byte("a"), []byte("1"))
	if err := m.Commit(b.Bytes(), []byte{0xFF}); !errors.Is(err, store.ErrCorrupt) {
		t.Error(err)
	}
	_ = m.Walk(store.Retained, func(_, _ []byte) error { t.Error("something was stored"); return nil })
}

var long = strings.Repeat("l", 40000)

func messages() []message.Message {
	return []message.Message{
		{Topic: []byte("t"), Payload: []byte{}},
		{Topic: []byte("a/b"), Payload: []byte("payload"), Expiry: 1_800_000_000_000, Publisher: 1 << 50, QoS: 2, Retain: true},
		{Topic: []byte(long), Payload: []byte("x"), Properties: codec.AppendUserProperty(nil, []byte("k"), []byte("v"))},
		{Topic: []byte("s"), Payload: []byte("x"), Retain: true, Source: &message.Source{
			ClientID: "c", Username: "u", Named: true, Listener: "tcp4 0.0.0.0:1883",
		}},
		{Topic: []byte("s"), Payload: []byte{}, Source: &message.Source{}},
	}
}

// pair is the only pair in a table.
func pair(t *testing.T, b *store.Batch, table store.Table) (key, value []byte) {
	t.Helper()
	m := store.NewMemory()
	if err := m.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	n := 0
	_ = m.Walk(table, func(k, v []byte) error {
		key, value = k, v
		n++
		return nil
	})
	if n != 1 {
		t.Fatalf("%d pairs", n)
	}
	if len(key) > 32<<10 {
		t.Errorf("key of %d bytes", len(key))
	}
	return key, value
}

// record reads what put has written, and every proper prefix of the value, which must be refused.
func record[R any](t *testing.T, table store.Table, want R, put func(b *store.Batch), read func(k, v []byte) (R, error)) {
	t.Helper()
	var b store.Batch
	put(&b)
	k, v := pair(t, &b, table)
	got, err := read(k, v)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v: %v", table, got, want, err)
	}
	for n := range min(len(v), 200) {
		if _, err := read(k, v[:n:n]); err == nil && table != store.Messages && table != store.Retained && table != store.Sessions {
			t.Errorf("%s: %d of %d bytes are taken", table, n, len(v))
		}
	}
	if _, err := read(k, append(bytes.Clone(v[:1:1]), 0xFF)); err == nil {
		t.Errorf("%s: nonsense is taken", table)
	}
}

func TestRecords(t *testing.T) {
	meta := store.Meta{Epoch: 3, Seed: 1 << 63, Loops: 64}
	record(t, store.Config, meta, func(b *store.Batch) { b.PutMeta(&meta) },
		func(_, v []byte) (store.Meta, error) { return store.ReadMeta(v) })
	clock := store.Clock{Ahead: -1 << 40, Seen: 1 << 41}
	record(t, store.Config, clock, func(b *store.Batch) { b.PutClock(&clock) },
		func(k, v []byte) (store.Clock, error) {
			if !store.IsClock(k) || store.IsClock([]byte("state")) {
				t.Error("not the key of a clock")
			}
			return store.ReadClock(v)
		})
	for _, m := range messages() {
		record(t, store.Messages, m, func(b *store.Batch) { b.PutMessage(7, &m) },
			func(_, v []byte) (message.Message, error) { return store.ReadMessage(v) })
		record(t, store.Retained, m, func(b *store.Batch) { b.PutRetained(&m) },
			func(_, v []byte) (message.Message, error) { return store.ReadMessage(v) })
		s := store.Session{Number: 9, ClientID: "c", Username: "u", Expiry: 0xFFFFFFFF, OfflineAt: 1_800_000_000, Will: &store.Will{Message: m, Delay: 5, Expiry: 6}}
		record(t, store.Sessions, s, func(b *store.Batch) { b.PutSession(&s) }, store.ReadSession)
		s.MountPoint, s.AnyUser = "m/", true
		record(t, store.Sessions, s, func(b *store.Batch) { b.PutSession(&s) }, store.ReadSession)
		s.Will, s.AnyMount = nil, true
		record(t, store.Sessions, s, func(b *store.Batch) { b.PutSession(&s) }, store.ReadSession)
	}
	for _, filter := range []string{"a/+", "$share/g/a/#", long} {
		s := store.Subscription{Session: 1 << 40, Filter: filter, Options: 0x2C, ID: 268435455, Owed: len(filter)%2 == 0}
		record(t, store.Subscriptions, s, func(b *store.Batch) { b.PutSubscription(&s) }, store.ReadSubscription)
		x := store.Transit{Message: 1 << 41, Loop: 63, Filter: filter}
		record(t, store.Transits, x, func(b *store.Batch) { b.PutTransit(&x) }, store.ReadTransit)
	}
	for _, e := range []store.Entry{
		{Session: 1, Seq: 2, Message: 3, QoS: 1, Share: 2},
		{Session: 1 << 60, Seq: 1 << 50, QoS: 2, State: store.WaitComp, Retain: true, Share: 3, PacketID: 65535, SubscriptionID: 268435455},
	} {
		record(t, store.Entries, e, func(b *store.Batch) { b.PutEntry(&e) }, store.ReadEntry)
	}
	for _, x := range []store.Set{
		{Key: store.SetKey{1}},
		{Key: store.SetKey{15: 9}, Topics: []store.SetTopic{{Filter: "a/+", Options: 0x2E, ID: 268435455}, {Filter: long}}},
		{Key: store.SetKey{15: 8}, Topics: []store.SetTopic{{Filter: "a", End: 1}, {Filter: "b", Options: 0x2E, ID: 1, End: 1 << 50}, {Filter: "c"}}},
	} {
		record(t, store.Sets, x, func(b *store.Batch) { b.PutSet(&x) }, store.ReadSet)
	}
	for _, g := range []store.Grant{
		{Session: 1 << 40, Origin: "api:x", Place: 31, Revision: 1 << 50},
		{Session: 2, Origin: long, Set: store.SetKey{3, 4}, Unsubscribe: 2, PerConnect: true, Muted: []string{"a", long}},
		{Session: 3, Origin: "presub:y", Unsubscribe: 1, Bypass: true, Muted: []string{"b/#"}, Owed: []string{"c", long}},
		{Session: 4, Origin: "z", OwedAll: true},
	} {
		record(t, store.Grants, g, func(b *store.Batch) { b.PutGrant(&g) }, store.ReadGrant)
	}
	for _, d := range []store.Denial{
		{Of: store.DenyToken, Name: "t", Since: 1_800_000_000, Until: 1_900_000_000, By: "api:x", Reason: "lost"},
		{Of: store.DenyUser, Name: long},
		{Of: store.DenyClient, Name: "c", Since: -1},
		{Of: store.DenyAddress, Name: "::/0"},
	} {
		record(t, store.Denials, d, func(b *store.Batch) { b.PutDenial(&d) }, store.ReadDenial)
	}
	for _, a := range []store.Answer{
		{Source: "groups", Key: [16]byte{1}, List: store.SetKey{2}, Until: 1_800_000_000}, {Source: long, Until: -1},
	} {
		record(t, store.Answers, a, func(b *store.Batch) { b.PutAnswer(&a) }, store.ReadAnswer)
	}
	x := store.Set{Key: store.SetKey{15: 9}, Topics: []store.SetTopic{{Filter: "a/+", Options: 0x2E, ID: 268435455}, {Filter: long}}}
	record(t, store.Answers, x, func(b *store.Batch) { b.PutAnswerList(&x) }, store.ReadAnswerList)
	h := store.Handshake{Session: 5, PacketID: 65535, Message: 1 << 60}
	record(t, store.Inbound, h, func(b *store.Batch) { b.PutHandshake(&h) }, store.ReadHandshake)
}

// TestSetOfBefore reads a list from before topics could end, which one in which none ends still is, byte by byte. A
// program of then refuses the other, rather than have subscriptions stay for ever.
func TestSetOfBefore(t *testing.T) {
	raw := []byte("\x01\x02\x2e\x07\x01a\x01\x00\x01b")
	want := store.Set{Key: store.SetKey{1}, Topics: []store.SetTopic{{Filter: "a", Options: 0x2E, ID: 7}, {Filter: "b", Options: 1}}}
	x, err := store.ReadSet(want.Key[:], raw)
	if err != nil || !reflect.DeepEqual(x, want) || !bytes.Equal(want.Value(), raw) {
		t.Errorf("%+v, %v; %x", x, err, want.Value())
	}
	for _, raw := range []string{"\x01\x01\x40\x00\x00\x01a", "\x01\x01\x80\x05\x00\x01a", "\x01\x01\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x01a"} {
		if x, err := store.ReadSet(want.Key[:], []byte(raw)); err == nil {
			t.Errorf("%x is %+v", raw, x)
		}
	}
	want.Topics[0].End = 5
	if options := want.Value()[2]; options>>4 <= 2 { // what was allowed then
		t.Errorf("options 0x%02x", options)
	}
}

// TestMessageOfBefore reads a record from before publishers were kept, and refuses one that comes later.
func TestMessageOfBefore(t *testing.T) {
	raw := []byte("\x01\x05\x00\x07\x01t\x00payload") // version, QoS 1 and RETAIN, expiry, publisher
	m, err := store.ReadMessage(raw)
	want := message.Message{Topic: []byte("t"), Payload: []byte("payload"), Publisher: 7, QoS: 1, Retain: true}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%+v %v", m, err)
	}
	raw[1] |= 1 << 5
	if _, err := store.ReadMessage(raw); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("an unknown flag: %v", err)
	}
}

func TestRecordsAreRemovedByTheirKeys(t *testing.T) {
	var b store.Batch
	m := message.Message{Topic: []byte(long)}
	b.PutRetained(&m)
	b.DeleteRetained(m.Topic)
	b.PutMessage(1, &m)
	b.DeleteMessage(1)
	b.PutSubscription(&store.Subscription{Session: 1, Filter: long})
	b.DeleteSubscription(1, long)
	b.PutEntry(&store.Entry{Session: 1, Seq: 2})
	b.DeleteEntry(1, 2)
	b.PutHandshake(&store.Handshake{Session: 1, PacketID: 2})
	b.DeleteHandshake(1, 2)
	b.PutTransit(&store.Transit{Message: 1, Filter: long})
	b.DeleteTransit(&store.Transit{Message: 1, Filter: long})
	b.PutSet(&store.Set{Key: store.SetKey{1}})
	b.DeleteSet(store.SetKey{1})
	b.PutGrant(&store.Grant{Session: 1, Origin: long})
	b.DeleteGrant(1, long)
	b.PutGrant(&store.Grant{Session: 2, Origin: "a"})
	b.PutGrant(&store.Grant{Session: 2, Origin: long})
	b.DropGrants(2)
	s := store.NewMemory()
	if err := s.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	for table := range store.Tables {
		_ = s.Walk(table, func(k, _ []byte) error { t.Errorf("%s keeps %x", table, k); return nil })
	}
}

func TestEachRefusesEveryPrefix(t *testing.T) {
	var b store.Batch
	b.Put(store.Retained, []byte("topic"), []byte("value"))
	raw := b.Bytes()
	for n := 1; n < len(raw); n++ {
		if err := store.Each(raw[:n], func(store.Op) error { return nil }); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v", n, len(raw), err)
		}
	}
}

func FuzzEach(f *testing.F) {
	var b store.Batch
	for _, m := range messages()[:2] {
		b.PutMessage(1, &m)
		b.PutSession(&store.Session{Number: 1, ClientID: "c", Will: &store.Will{Message: m}})
	}
	b.DropSession(3)
	b.PutSet(&store.Set{Key: store.SetKey{1}, Topics: []store.SetTopic{{Filter: "a", Options: 1}}})
	b.PutGrant(&store.Grant{Session: 1, Origin: "api:x", Set: store.SetKey{1}, Muted: []string{"a"}})
	f.Add(b.Bytes())
	f.Add([]byte{0x20, 8, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var again store.Batch
		err := store.Each(raw, func(op store.Op) error {
			switch op.Kind {
			case store.Put:
				again.Put(op.Table, op.Key, op.Value)
			case store.Delete:
				again.Delete(op.Table, op.Key)
			case store.Drop:
			}
			_, _ = store.ReadSession(op.Key, op.Value)
			_, _ = store.ReadSubscription(op.Key, op.Value)
			_, _ = store.ReadMessage(op.Value)
			_, _ = store.ReadEntry(op.Key, op.Value)
			_, _ = store.ReadHandshake(op.Key, op.Value)
			_, _ = store.ReadTransit(op.Key, op.Value)
			_, _ = store.ReadMeta(op.Value)
			_, _ = store.ReadClock(op.Value)
			_, _ = store.ReadSet(op.Key, op.Value)
			_, _ = store.ReadGrant(op.Key, op.Value)
			return nil
		})
		if err == nil && again.Len() > 0 {
			if err := store.Each(again.Bytes(), func(store.Op) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}
