package wsnet

import (
	"sync/atomic"

	"noctule/internal/latency"
)

// Stats is what the loops have counted, summed. Counters start with the server.
type Stats struct {
	Open               int64 // connections now, before their upgrade as well
	Accepted, Refused  int64 // connections; refused by MaxConnections or for want of files
	BytesIn, BytesOut  int64 // on the wire as this process sees it, TLS included
	Reads, Writes      int64 // system calls, or calls of the Go network
	Wakeups, Turns     int64 // returns from waiting; turns of the loops
	MailboxRefused     int64 // Posts that found a mailbox full
	HandshakesTimedOut int64 // of TLS, and upgrades
	GaveWay            int64 // connections that had not arrived and were closed for those of others
	InputGaveWay       int64 // connections that held most of too much unconsumed input
	InputBytes         int64 // of unconsumed input, in connections with 4 KiB or more
	// LoopLag is how long what was ready has waited for its loop, by probes.
	LoopLag latency.Counts
}

// ListenerStats is what one listener has counted since it was opened.
type ListenerStats struct {
	Open     int64                // connections now, before TLS and upgrade as well
	Accepted int64                // connections
	Refused  [RefusalCauses]int64 // connections turned away before Opened
	TLS      [TLSFailures]int64   // handshakes that came to nothing
}

// listenerCounts are those of a listener. Atomic.
type listenerCounts struct {
	accepted atomic.Int64
	refused  [RefusalCauses]atomic.Int64
	tls      [TLSFailures]atomic.Int64
}

// Stats are the listener's counters. Any goroutine.
func (ln *Listener) Stats() ListenerStats {
	s := ListenerStats{Open: ln.open.Load(), Accepted: ln.counts.accepted.Load()}
	for i := range s.Refused {
		s.Refused[i] = ln.counts.refused[i].Load()
	}
	for i := range s.TLS {
		s.TLS[i] = ln.counts.tls[i].Load()
	}
	return s
}

// exhausted counts an accept for which files or memory did not suffice.
func (ln *Listener) exhausted() {
	ln.server.refused.Add(1)
	ln.counts.refused[CauseExhausted].Add(1)
}

// loopStats is one loop's share. Atomic, written by the loop.
type loopStats struct {
	bytesIn, bytesOut, reads, writes atomic.Int64
	wakeups, turns                   atomic.Int64
	mailboxRefused, timedOut         atomic.Int64
}

// Stats sums the loops' counters. Any goroutine.
func (s *Server) Stats() Stats {
	out := Stats{
		Open: s.open.Load(), Accepted: s.accepted.Load(), Refused: s.refused.Load(),
		GaveWay: s.entrance.gaveWay.Load(),
	}
	out.InputGaveWay = s.inputs.gaveWay.Load()
	s.inputs.mu.Lock()
	out.InputBytes = s.inputs.mu.table.Weight() * inputUnit
	s.inputs.mu.Unlock()
	out.LoopLag = s.lag.Counts()
	for _, l := range s.loops {
		st := &l.stats
		out.BytesIn += st.bytesIn.Load()
		out.BytesOut += st.bytesOut.Load()
		out.Reads += st.reads.Load()
		out.Writes += st.writes.Load()
		out.Wakeups += st.wakeups.Load()
		out.Turns += st.turns.Load()
		out.MailboxRefused += st.mailboxRefused.Load()
		out.HandshakesTimedOut += st.timedOut.Load()
	}
	return out
}
