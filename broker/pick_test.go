package broker

import (
	"os"
	"testing"
	"time"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
)

// crowdOf makes n clients that all subscribe to two filters, the second time with QoS 1.
func crowdOf(n int) (s *shard, ids [2]topictree.FilterID) {
	s = &shard{receivers: fanout.New[*client](topictree.New(topictree.Options{}), 0, slice)}
	clients := make([]client, n)
	for k := range ids {
		ids[k] = new(topictree.Entry)
		for i := range clients {
			clients[i].shard, clients[i].version = s, codec.V311
			s.receivers.Join(ids[k], member{C: &clients[i], Options: fanout.Options(k)})
			clients[i].addSub(subscription{id: ids[k], opts: fanout.Options(k)})
		}
	}
	return s, ids
}

// A client with overlapping subscriptions is picked once, with the highest QoS. With NOCTULE_TIMED: four times
// as many clients take about four times as long, not sixteen times.
func TestPickIsLinear(t *testing.T) {
	work := func(n int) time.Duration {
		s, ids := crowdOf(n)
		start := time.Now()
		s.pick(ids[0], &message.Message{})
		s.pick(ids[1], &message.Message{})
		d := time.Since(start)
		if len(s.picked) != n {
			t.Fatalf("%d picked", len(s.picked))
		}
		for _, mb := range s.picked {
			if mb.Options.QoS() != 1 {
				t.Fatal("the lower QoS was picked [MQTT-3.3.5-1]")
			}
		}
		return d
	}
	const n = 4000
	one := work(n)
	if os.Getenv("NOCTULE_TIMED") == "" {
		return
	}
	four := work(4 * n)
	for range 20 {
		if four <= 11*one {
			return
		}
		one, four = min(one, work(n)), min(four, work(4*n))
	}
	t.Errorf("%d: %v, %d: %v", n, one, 4*n, four)
}
