package broker_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/codec/im"
)

// BenchmarkGrantDurably grants one of two lists of 50 topics to offline sessions, in a file that is synced: each
// request answered on its own, and in batches of 1000. The start before it takes up sessions that have another.
func BenchmarkGrantDurably(b *testing.B) {
	const sessions = 100_000
	path := filepath.Join(b.TempDir(), "db")
	lists := []*behalf.Set{fifty("x"), fifty("y"), fifty("z")}
	s, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	var batch store.Batch
	record := store.Set{Key: store.SetKey(lists[2].Key())}
	for _, x := range lists[2].Topics() {
		record.Topics = append(record.Topics, store.SetTopic{Filter: x.Filter, Options: x.QoS})
	}
	batch.PutSet(&record)
	for i := range sessions {
		n := uint64(i + 1)
		batch.PutSession(&store.Session{Number: n, ClientID: fmt.Sprint("c", i), Expiry: 0xFFFFFFFF, OfflineAt: 1})
		batch.PutGrant(&store.Grant{Session: n, Origin: "presub:p", Revision: n, Set: record.Key, PerConnect: true})
	}
	if err := s.Commit(batch.Bytes()); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if s, err = bolt.Open(path, bolt.Options{}); err != nil {
		b.Fatal(err)
	}
	o := broker.DefaultOptions()
	o.Store, o.SysInterval = s, 0
	x, err := broker.New(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("a start with %d sessions with a list of 50 topics each: %.2f s", sessions, time.Since(start).Seconds())
	b.Cleanup(func() { _ = x.Shutdown(context.Background()); _ = s.Close() })
	for _, size := range []int{1, 1000} {
		b.Run(fmt.Sprint("batches of ", size), func(b *testing.B) {
			var p *behalf.Promises
			if size > 1 {
				p = &behalf.Promises{}
			}
			i := 0
			for b.Loop() {
				x.Apply(context.Background(), &behalf.Request{
					ClientID: fmt.Sprint("c", i%sessions), Origin: origin("api:test"), Action: im.Replace,
					Topics: lists[i/sessions%2], Promises: p,
				})
				if i++; i%size == 0 {
					p.Wait(context.Background())
				}
			}
		})
	}
}

func fifty(name string) *behalf.Set {
	var list []string
	for i := range 50 {
		list = append(list, fmt.Sprintf("list/%s/topic/%d:1", name, i))
	}
	return topics(list...)
}
