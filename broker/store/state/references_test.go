package state_test

import (
	"testing"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/state"
)

// Each record that refers to something that is not there is found, and nothing else.
func TestReferences(t *testing.T) {
	var whole store.Batch
	m := &message.Message{Topic: []byte("t"), QoS: 1}
	whole.PutSession(&store.Session{Number: 1, ClientID: "c"})
	whole.PutMessage(2, m)
	whole.PutSet(&store.Set{Key: store.SetKey{3}, Topics: []store.SetTopic{{Filter: "t"}}})
	whole.PutSubscription(&store.Subscription{Session: 1, Filter: "t"})
	whole.PutEntry(&store.Entry{Session: 1, Seq: 1, Message: 2, QoS: 1})
	whole.PutEntry(&store.Entry{Session: 1, Seq: 2, QoS: 2, State: store.WaitComp})
	whole.PutHandshake(&store.Handshake{Session: 1, PacketID: 1, Message: 2})
	whole.PutHandshake(&store.Handshake{Session: 1, PacketID: 2})
	whole.PutTransit(&store.Transit{Message: 2, Filter: "t"})
	whole.PutGrant(&store.Grant{Session: 1, Origin: "api:a", Set: store.SetKey{3}})
	whole.PutGrant(&store.Grant{Session: 1, Origin: "api:b"})
	whole.PutAnswerList(&store.Set{Key: store.SetKey{4}, Topics: []store.SetTopic{{Filter: "t"}}})
	whole.PutAnswer(&store.Answer{Source: "p", List: store.SetKey{4}})
	for name, tt := range map[string]struct {
		drop func(b *store.Batch)
		want int
	}{
		"all there":  {func(*store.Batch) {}, 0},
		"no session": {func(b *store.Batch) { b.Delete(store.Sessions, []byte{7: 1}) }, 7},
		"no message": {func(b *store.Batch) { b.DeleteMessage(2) }, 3},
		"no list":    {func(b *store.Batch) { b.DeleteSet(store.SetKey{3}) }, 1},
		"no answer":  {func(b *store.Batch) { b.DeleteAnswerList(store.SetKey{4}) }, 1},
	} {
		s := store.NewMemory()
		var fix store.Batch
		tt.drop(&fix)
		if err := s.Commit(whole.Bytes(), fix.Bytes()); err != nil {
			t.Fatal(err)
		}
		var refs state.References
		n := 0
		for table := range store.Tables {
			_ = s.Walk(table, func(k, v []byte) error {
				if refs.Look(table, k, v) != nil {
					n++
				}
				return nil
			})
		}
		if n != tt.want {
			t.Errorf("%s: %d records are found, want %d", name, n, tt.want)
		}
	}
}
