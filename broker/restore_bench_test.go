package broker_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
)

// fill writes a file with retained messages and offline sessions, each with a subscription and queued messages.
func fill(b *testing.B, path string, retained, sessions, queued int) {
	b.Helper()
	s, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	var batch store.Batch
	flush := func(at int) {
		if batch.Size() >= at {
			if err := s.Commit(batch.Take(nil)); err != nil {
				b.Fatal(err)
			}
		}
	}
	payload := make([]byte, 64)
	for i := range retained {
		batch.PutRetained(&message.Message{
			Topic: fmt.Appendf(nil, "site/%d/device/%d/state", i%1000, i), Payload: payload, QoS: 1, Retain: true,
		})
		flush(1 << 20)
	}
	for i := range sessions {
		n := uint64(i + 1)
		batch.PutSession(&store.Session{Number: n, ClientID: fmt.Sprint("client-", i), Expiry: 0xFFFFFFFF, OfflineAt: 1})
		batch.PutSubscription(&store.Subscription{Session: n, Filter: fmt.Sprintf("to/%d/#", i), Options: 1})
		for k := range queued {
			id := n*uint64(queued) + uint64(k)
			batch.PutMessage(id, &message.Message{Topic: fmt.Appendf(nil, "to/%d/x", i), Payload: payload, QoS: 1})
			batch.PutEntry(&store.Entry{Session: n, Seq: uint64(k + 1), Message: id, QoS: 1})
		}
		flush(1 << 20)
	}
	flush(1)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// Opening the file once has folded its log: what is measured is a start after an orderly end.
func BenchmarkRestore(b *testing.B) {
	for _, size := range []struct{ retained, sessions int }{{10_000, 1000}, {1_000_000, 100_000}} {
		b.Run(fmt.Sprintf("%d retained, %d sessions", size.retained, size.sessions), func(b *testing.B) {
			if testing.Short() && size.retained > 10_000 {
				b.Skip("it writes 500 MB")
			}
			path := filepath.Join(b.TempDir(), "db")
			fill(b, path, size.retained, size.sessions, 10)
			for b.Loop() {
				start := time.Now()
				s, err := bolt.Open(path, bolt.Options{})
				if err != nil {
					b.Fatal(err)
				}
				o := broker.DefaultOptions()
				o.Store, o.SysInterval = s, 0
				x, err := broker.New(o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.Logf("%.1f s", time.Since(start).Seconds())
				if err := x.Shutdown(context.Background()); err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
