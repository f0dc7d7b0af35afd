package broker

import (
	"noctule/broker/line"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/internal/memguard"
	"noctule/wsnet"
)

// memory_limit. Mosquitto counts what it allocates and lets an allocation above the limit fail. Go has no
// allocation that fails, so the broker measures (internal/memguard), and refuses beforehand: near the limit
// clients without a session are turned away, and messages that would have to be kept (QoS 1 and 2, retained
// ones, those for offline sessions) are refused or dropped, and so are subscriptions, until enough has gone.
// QoS 0 to connected clients goes on as long as they read, and who has a session may come and fetch what is
// queued for it: else nothing would ever go.

// greetingsShort is how many connections of one loop may be without a CONNECT while memory is short.
const greetingsShort = 256

// openMemory begins to watch.
func (b *Broker) openMemory() {
	b.memory.Measure, b.memory.Go = b.opts.MemoryUsed, b.asked.Go // Shutdown waits
	b.memory.SetLimit(b.opts.MemoryLimit)
}

// watchMemory measures under load, at the end of a turn; whichever loop comes first does.
func (s *shard) watchMemory() {
	s.loop.MustBeHere()
	if s.b.memory.Due(s.loop.Now()) {
		s.sampleMemory()
	}
}

// sampleMemory looks whether memory is short.
func (s *shard) sampleMemory() {
	s.loop.MustBeHere()
	g := &s.b.memory
	turn := g.Sample(&s.probe, s.loop.Now())
	switch n := g.Numbers(); turn {
	case memguard.Short:
		s.logf(LevelWarning, "Warning: memory_limit: %d of %d bytes are used. New clients are refused "+
			"and messages are not queued.", n.Used, n.Limit)
	case memguard.Enough:
		s.logf(LevelNotice, "memory_limit: %d of %d bytes are used. Clients and messages are taken "+
			"again.", n.Used, n.Limit)
	case memguard.Same:
	}
}

// refuseSocket closes a new connection while memory is short and many others have not sent CONNECT.
func (s *shard) refuseSocket(c *wsnet.Conn) bool {
	if !s.b.memory.Short() || s.greeting.Len() < greetingsShort {
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
		s.logf(LevelNotice, "Client connection from %s denied: memory_limit exceeded.", line.Host(c))
	}
	c.Close(errMemory)
}

// tooMuch reports a message of a client that would have to be kept while memory is short. What removes a
// retained message is welcome.
func (s *shard) tooMuch(m *message.Message) bool {
	if !s.b.memory.Short() || m.QoS == 0 && !m.Retain || m.Retain && len(m.Payload) == 0 {
		return false
	}
	s.drop(DropMemory)
	return true
}
