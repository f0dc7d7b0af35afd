package broker

import (
	"context"
	"slices"
	"time"

	"noctule/broker/behalf"
)

// Pending returns what waits for clients, by origins for which of says true: without the topics, whose number
// it has. It is in no order. Any goroutine but a loop's may call it.
func (b *Broker) Pending(ctx context.Context, of func(origin string) bool) ([]behalf.Pending, error) {
	each := make([][]behalf.Pending, len(b.shards)) // each is written by one loop
	err := b.onEach(ctx, func(s *shard) {
		for _, p := range s.waiting.byTime { // MaxPending of them at most
			if of(p.r.Origin.Name) && (!p.byUsername() || s.index == 0) { // those of users wait on every loop
				each[s.index] = append(each[s.index], p.waiting())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat(each...), nil
}

// waiting is the request as it is told, but for its topics.
func (p *pendingRequest) waiting() behalf.Pending {
	return behalf.Pending{
		ClientID: p.r.ClientID, Username: p.r.Username, Origin: p.r.Origin.Name, Whole: p.whole,
		Until: time.UnixMilli(p.until), Count: p.set.len(),
	}
}

// waitingFor adds to a listing what waits for its client, by name, and by username if that is known.
func (s *shard) waitingFor(out *behalf.Listing) {
	if len(s.waiting.byTime) == 0 {
		return
	}
	lists := [][]*pendingRequest{s.waiting.byClient[out.ClientID], nil}
	if out.Username != "" {
		lists[1] = s.waiting.byUser[out.Username]
	}
	for _, p := range slices.Concat(lists...) {
		w := p.waiting()
		w.Topics = p.set.contents().Topics()
		out.Pending = append(out.Pending, w)
	}
}
