package broker

import (
	"runtime/metrics"

	"noctule/broker/message"
	"noctule/wsnet"
)

// memory_limit. Mosquitto counts what it allocates and lets an allocation above the limit fail. Go has no
// allocation that fails, so the broker measures once a second and refuses beforehand: near the limit new
// connections are closed, and messages that would have to be kept (QoS 1 and 2, retained ones, wills for
// offline sessions) are refused or dropped, until enough has gone. QoS 0 to connected clients goes on, and so
// do connections that are there.

// The marks are percentages of the limit. The collector works harder the nearer the limit is
// (debug.SetMemoryLimit), so there must be room above the upper one.
const (
	memoryHigh = 90
	memoryLow  = 80
)

// memoryGuard decides whether memory is short. Shard 0 samples.
type memoryGuard struct {
	// Owned by shard 0's loop:
	samples []metrics.Sample
}

// What of the runtime's metrics makes up the process's memory: all of it, without what has gone back to the
// system and without the heap, plus what of the heap was in use after the last collection. Garbage that waits
// for the collector is no reason to refuse.
const (
	memTotal = iota
	memReleased
	memFree
	memUnused
	memObjects
	memLive
)

func memorySamples() []metrics.Sample {
	return []metrics.Sample{
		memTotal:    {Name: "/memory/classes/total:bytes"},
		memReleased: {Name: "/memory/classes/heap/released:bytes"},
		memFree:     {Name: "/memory/classes/heap/free:bytes"},
		memUnused:   {Name: "/memory/classes/heap/unused:bytes"},
		memObjects:  {Name: "/memory/classes/heap/objects:bytes"},
		memLive:     {Name: "/gc/heap/live:bytes"},
	}
}

// measure reads what the process uses and what the heap's objects take, garbage included, in bytes. It does
// not stop the world.
func (g *memoryGuard) measure() (used, objects int64) {
	if g.samples == nil {
		g.samples = memorySamples()
	}
	metrics.Read(g.samples)
	v := func(i int) int64 { return int64(g.samples[i].Value.Uint64()) }
	used = v(memTotal) - v(memReleased) - v(memFree) - v(memUnused) - v(memObjects) + v(memLive)
	return used, v(memObjects)
}

// sampleMemory looks once a second whether memory is short. On shard 0's loop.
func (s *shard) sampleMemory() {
	b := s.b
	used, objects := s.memory.measure()
	if b.opts.MemoryUsed != nil {
		used = b.opts.MemoryUsed()
	}
	b.memoryUsed.Store(used)
	b.heap.Store(objects)
	b.heapMax.Store(max(objects, b.heapMax.Load()))
	limit := b.memoryLimit.Load()
	short := b.memoryShort.Load()
	switch {
	case !short && limit > 0 && used >= limit/100*memoryHigh:
		b.memoryShort.Store(true)
		s.logf(LevelWarning, "Warning: memory_limit: %d of %d bytes are used. New connections are refused "+
			"and messages are not queued.", used, limit)
	case short && used < limit/100*memoryLow, short && limit == 0:
		b.memoryShort.Store(false)
		s.logf(LevelNotice, "memory_limit: %d of %d bytes are used. Connections and messages are taken "+
			"again.", used, limit)
	}
}

// refuseMemory closes a new connection while memory is short.
func (s *shard) refuseMemory(c *wsnet.Conn) bool {
	if !s.b.memoryShort.Load() {
		return false
	}
	s.count.refusedMemory++
	if s.opts.ConnectionMessages {
		s.logf(LevelNotice, "Client connection from %s denied: memory_limit exceeded.", peerHost(c))
	}
	c.Close(errMemory)
	return true
}

// tooMuch reports a message of a client that would have to be kept while memory is short. What removes a
// retained message is welcome.
func (s *shard) tooMuch(m *message.Message) bool {
	if !s.b.memoryShort.Load() || m.QoS == 0 && !m.Retain || m.Retain && len(m.Payload) == 0 {
		return false
	}
	s.drop(DropMemory)
	return true
}
