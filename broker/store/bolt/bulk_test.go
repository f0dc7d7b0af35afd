package bolt_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
)

// What is put in bulk is in the tables, as what went through the log is; only what is put can be.
func TestBulk(t *testing.T) {
	var b, more store.Batch
	for i := range uint64(2000) {
		b.PutMessage(i*7919%2000+1, &message.Message{Topic: []byte("t"), Payload: fmt.Append(nil, i)})
		b.PutEntry(&store.Entry{Session: i%7 + 1, Seq: i + 1, Message: i + 1})
	}
	more.PutMessage(5, &message.Message{Topic: []byte("t"), Payload: []byte("first")})
	more.PutMessage(5, &message.Message{Topic: []byte("t"), Payload: []byte("the last counts")})
	var dumps []string
	for _, bulk := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "db")
		s, err := bolt.Open(path, bolt.Options{NoSync: true, Bulk: bulk})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Commit(b.Bytes(), more.Bytes()), s.Sync(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if s, err = bolt.Open(path, bolt.Options{}); err != nil {
			t.Fatal(err)
		}
		var d strings.Builder
		for table := range store.Tables {
			err := s.Walk(table, func(k, v []byte) error { _, err := fmt.Fprintf(&d, "%s %x %x\n", table, k, v); return err })
			if err != nil {
				t.Error(err)
			}
		}
		dumps = append(dumps, d.String())
		var gone store.Batch
		gone.DeleteMessage(1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = bolt.Open(path, bolt.Options{Bulk: true}); err != nil {
			t.Fatal(err)
		}
		if s.Commit(gone.Bytes()) == nil {
			t.Error("a delete is taken")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if dumps[0] != dumps[1] || !strings.Contains(dumps[0], fmt.Sprintf("%x", "the last counts")) {
		t.Error("in bulk other records have come about")
	}
}
