package broker

import (
	"runtime"
	"runtime/metrics"

	"noctule/broker/message"
	"noctule/codec"
	"noctule/wsnet"
)

// memory_limit. Mosquitto counts what it allocates and lets an allocation above the limit fail. Go has no
// allocation that fails, so the broker measures, and refuses beforehand: near the limit clients without a
// session are turned away, and messages that would have to be kept (QoS 1 and 2, retained ones, those for
// offline sessions) are refused or dropped, and so are subscriptions, until enough has gone. QoS 0 to
// connected clients goes on as long as they read, and who has a session may come and fetch what is queued
// for it: else nothing would ever go.

// The marks are percentages of the limit. The collector works harder the nearer the limit is
// (debug.SetMemoryLimit), so there must be room above the upper one.
const (
	memoryHigh = 90
	memoryLow  = 80
)

// sampleEvery is how far apart measurements are under load, in milliseconds; idle loops measure once a
// second. A publisher of 60 MB/s is 3 MB further by then.
const sampleEvery = 50

// collectEvery is the time between collections while memory is short, in milliseconds.
const collectEvery = 5000

// greetingsShort is how many connections of one loop may be without a CONNECT while memory is short.
const greetingsShort = 256

// memoryGuard is what one shard needs to measure.
type memoryGuard struct {
	samples []metrics.Sample // owned by the loop
}

// What of the runtime's metrics makes up the process's memory: all of it, without what has gone back to the
// system and without the heap, plus what of the heap was in use after the last collection. Garbage that
// waits for the collector is no reason to refuse.
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

// watchMemory measures under load, at the end of a turn; whichever loop comes first does.
func (s *shard) watchMemory() {
	s.loop.MustBeHere()
	b := s.b
	if b.memoryLimit.Load() == 0 {
		return
	}
	last, now := b.memoryAt.Load(), s.loop.Now()
	if now-last >= sampleEvery && b.memoryAt.CompareAndSwap(last, now) {
		s.sampleMemory()
	}
}

// sampleMemory looks whether memory is short.
func (s *shard) sampleMemory() {
	s.loop.MustBeHere()
	b := s.b
	used, objects := s.memory.measure()
	if b.opts.MemoryUsed != nil {
		used = b.opts.MemoryUsed()
	}
	b.memoryUsed.Store(used)
	b.heap.Store(objects)
	old := b.heapMax.Load()
	for objects > old && !b.heapMax.CompareAndSwap(old, objects) {
		old = b.heapMax.Load()
	}
	limit := b.memoryLimit.Load()
	switch {
	case limit > 0 && used >= limit/100*memoryHigh:
		if b.memoryShort.CompareAndSwap(false, true) {
			s.logf(LevelWarning, "Warning: memory_limit: %d of %d bytes are used. New clients are refused "+
				"and messages are not queued.", used, limit)
		}
	case limit == 0, used < limit/100*memoryLow:
		if b.memoryShort.CompareAndSwap(true, false) {
			s.logf(LevelNotice, "memory_limit: %d of %d bytes are used. Clients and messages are taken "+
				"again.", used, limit)
		}
	}
	if b.memoryShort.Load() {
		s.collect()
	}
}

// collect runs the collector now and then while memory is short: a broker that refuses everything allocates
// little, so it would not run by itself, and what has been freed would not be seen.
func (s *shard) collect() {
	b := s.b
	last, now := b.collectedAt.Load(), s.loop.Now()
	if now-last >= collectEvery && b.collectedAt.CompareAndSwap(last, now) {
		b.asked.Go(runtime.GC) // Shutdown waits
	}
}

// refuseSocket closes a new connection while memory is short and many others have not sent CONNECT.
func (s *shard) refuseSocket(c *wsnet.Conn) bool {
	if !s.b.memoryShort.Load() || s.greeting.Len() < greetingsShort {
		return false
	}
	s.denyMemory(c)
	return true
}

// smallMax is the size, in bytes, of what is taken for a client that has a session while memory is short: a
// will, a topic that gets an alias.
const smallMax = 256

// tooLarge reports that a CONNECT for a session makes it larger: by a will.
func tooLarge(w *codec.Will, cl *client) bool {
	have := int64(smallMax)
	if old := cl.will(); old != nil {
		have += old.m.Held()
	}
	return int64(len(w.Topic)+len(w.Payload)+len(w.Properties)) > have
}

// refuseMemory turns a client away while memory is short: MQTT 5 clients hear why.
func (s *shard) refuseMemory(c *wsnet.Conn, p *codec.Connect) {
	if p.Version == codec.V5 {
		s.answer(c, p.Version, &codec.Connack{Reason: codec.QuotaExceeded})
	}
	s.denyMemory(c)
}

func (s *shard) denyMemory(c *wsnet.Conn) {
	s.count.refusedMemory++
	s.count.refused[RefusedMemory]++
	if s.opts.ConnectionMessages {
		s.logf(LevelNotice, "Client connection from %s denied: memory_limit exceeded.", peerHost(c))
	}
	c.Close(errMemory)
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
