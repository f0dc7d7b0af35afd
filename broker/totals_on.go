//go:build invariants

package broker

import (
	"fmt"

	"noctule/broker/session"
)

// checkTotals compares the running sums over all sessions with the sessions.
func (s *shard) checkTotals() {
	var t session.Totals
	for _, cl := range s.sessions {
		t.Queued += int64(cl.Queued())
		t.QueuedBytes += cl.QueuedBytes()
		t.AwayBytes += cl.AwayBytes()
		t.Inflight += int64(cl.Inflight())
	}
	if t != s.totals {
		panic(fmt.Sprintf("broker: the sums are %+v, of the sessions %+v", s.totals, t))
	}
}
