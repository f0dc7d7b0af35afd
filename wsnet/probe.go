package wsnet

import (
	"sync/atomic"
	"time"

	"noctule/internal/latency"
)

// How long what is ready waits for a loop. Turns tell little of that: of ten thousand short ones and one of
// half a second, half of all that comes meets the long one. So a probe is posted to one loop after another,
// ten a second whatever the number of loops, and says when its turn comes, behind the sockets that are ready
// then. It has waited like everything else: for the turn under way, for a processor, for the collector. The
// path of a packet has no part in it.

// probeEvery is the time from one probe to the next, which is the next loop's.
const probeEvery = 100 * time.Millisecond

// probe is one loop's. There is never more than one under way.
type probe struct {
	// Set by newLoop, then read-only:
	server *Server

	// Atomic:
	since atomic.Int64 // ns after the server's epoch; 0: none is under way
}

// newLag has bounds from what nobody notices to what makes clients give up.
func newLag() *latency.Histogram {
	const ms = time.Millisecond
	return latency.New(ms/10, ms/5, ms/2, ms, 2*ms, 5*ms, 10*ms, 20*ms, 50*ms, 100*ms, 200*ms, 500*ms,
		1000*ms, 2000*ms, 5000*ms, 10000*ms)
}

// age is the time since the server's epoch.
func (s *Server) age() time.Duration { return monotonic().Sub(s.epoch) }

// prober sends the probes; Server.wg waits for it.
func (s *Server) prober() {
	defer s.wg.Done()
	for i := 0; ; i = (i + 1) % len(s.loops) {
		select {
		case <-s.stop:
			return
		case <-s.cfg.Clock.Probes:
		}
		l := s.loops[i]
		if l.probe.since.CompareAndSwap(0, int64(max(s.age(), 1))) {
			l.MustPost(&l.probe)
		}
	}
}

// maxMissed bounds how many probes that could not be sent one late answer stands for.
const maxMissed = 4096

// Run implements Task: the probe has come through. While it waited no others were sent to its loop; it counts
// for each of them, or one long wait would hide among many short ones.
func (p *probe) Run(*Loop) {
	s := p.server
	waited := s.age() - time.Duration(p.since.Swap(0))
	every := probeEvery * time.Duration(len(s.loops))
	for n := 0; waited >= 0 && n < maxMissed; n++ {
		s.lag.Observe(waited)
		waited -= every
	}
}

// Stalled is the loop that keeps a probe waiting longest, and how long; 0 if none does. Any goroutine.
func (s *Server) Stalled() (loop int, d time.Duration) {
	age := s.age()
	for i, l := range s.loops {
		if since := l.probe.since.Load(); since > 0 && age-time.Duration(since) > d {
			loop, d = i, age-time.Duration(since)
		}
	}
	return loop, d
}
