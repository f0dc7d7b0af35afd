package broker

import (
	"sync"
	"time"

	"noctule/broker/message"
	"noctule/broker/sys"
	"noctule/internal/version"
	"noctule/wsnet"
)

// The $SYS tree, as Mosquitto's (broker/sys): retained, QoS 2. Shard 0 says when, and publishes; what is
// new is worked out off the loops.

// sysTree is shard 0's part of it.
type sysTree struct {
	s        *shard
	schedule sys.Schedule
	asked    bool      // an answer is awaited
	tree     *sys.Tree // while one is, its goroutine's
}

// reloadSys follows sys_interval.
func (s *shard) reloadSys() {
	switch {
	case s.opts.SysInterval <= 0:
		s.sys = nil
	case s.sys == nil:
		s.startSys()
	default:
		s.sys.schedule.Interval = wholeSeconds(s.opts.SysInterval)
	}
}

func (s *shard) startSys() {
	s.loop.MustBeHere()
	t := &sysTree{
		s: s, schedule: sys.Schedule{Interval: wholeSeconds(s.opts.SysInterval)},
		tree: sys.New(
			"messages/received", "messages/sent", "publish/dropped", "publish/received", "publish/sent",
			"bytes/received", "bytes/sent", "sockets", "connections",
		),
	}
	s.sys = t
	t.publish(t.tree.Say(nil, sys.Prefix+"version", "mosquitto version "+s.opts.Version))
	t.publish(t.tree.Say(nil, sys.Prefix+"noctule/version", version.Read().String()))
	t.ask()
}

// loadCounters are the counters of which $SYS tells averages, as startSys names them.
func (m *Metrics) loadCounters() []int64 {
	return []int64{
		m.PacketsReceived, m.PacketsSent, m.DroppedTotal(), m.PublishReceived, m.PublishSent,
		m.BytesReceived, m.BytesSent, m.ConnectionsTotal, m.Connects,
	}
}

// tick starts an update when its time has come.
func (t *sysTree) tick(now int64) {
	if !t.asked && t.schedule.Due(t.s.b.clock.wall(now)/1000) {
		t.ask()
	}
}

// ask gathers the numbers of all loops and updates the tree when the last has answered.
func (t *sysTree) ask() {
	t.asked = true
	t.schedule.Begin(t.s.b.clock.wall(t.s.loop.Now()) / 1000)
	var mu sync.Mutex
	m := new(Metrics)
	left := len(t.s.b.shards)
	for _, s := range t.s.b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) {
			mu.Lock()
			defer mu.Unlock()
			s.addTo(m)
			if left--; left == 0 {
				now := l.Now()
				s.b.asked.Go(func() { t.update(m, now) }) // Shutdown waits
			}
		}))
	}
}

// update works out what has changed, and has it published. Off the loops.
func (t *sysTree) update(m *Metrics, now int64) {
	t.s.b.fill(m)
	list := t.tree.Update(now, m.SysValues(), m.loadCounters())
	t.s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // one an interval
		t.asked = false
		t.publish(list)
	}))
}

// publish says what is new. On the loop.
func (t *sysTree) publish(list []sys.Text) {
	for _, x := range list {
		t.s.publishMessage(message.New([]byte(x.Topic), []byte(x.Text), 2, true))
	}
}

// SysValue is one number of the $SYS tree.
type SysValue = sys.Value

// SysValues are the whole numbers of the $SYS tree, in Mosquitto's order; the uptime is seconds.
func (m *Metrics) SysValues() []SysValue {
	stored := m.Retained + m.QueuedMessages + m.InflightMessages
	values := []struct {
		name string
		n    int64
	}{
		{"uptime", int64(m.Uptime)},
		{"clients/total", m.Sessions},
		{"clients/maximum", m.SessionsMaximum},
		{"clients/disconnected", m.Sessions - m.Connections},
		{"clients/inactive", m.Sessions - m.Connections},
		{"clients/connected", m.Connections},
		{"clients/active", m.Connections},
		{"clients/expired", m.SessionsExpired},
		{"messages/stored", stored},
		{"store/messages/count", stored},
		{"store/messages/bytes", m.RetainedBytes + m.QueuedBytes},
		{"subscriptions/count", m.Subscriptions},
		{"shared_subscriptions/count", m.SharedSubscriptions},
		{"retained messages/count", m.Retained},
		{"heap/current", m.Heap},
		{"heap/maximum", m.HeapMaximum},
		{"messages/received", m.PacketsReceived},
		{"messages/sent", m.PacketsSent},
		{"bytes/received", m.BytesReceived},
		{"bytes/sent", m.BytesSent},
		{"publish/bytes/received", m.PublishBytesReceived},
		{"publish/bytes/sent", m.PublishBytesSent},
		{"packet/out/count", m.QueuedMessages},
		{"packet/out/bytes", m.QueuedBytes},
		{"connections/socket/count", m.ConnectionsTotal},
		{"publish/messages/dropped", m.DroppedTotal()},
		{"publish/messages/received", m.PublishReceived},
		{"publish/messages/sent", m.PublishSent},
	}
	list := make([]SysValue, 0, len(values))
	for _, v := range values {
		list = append(list, SysValue{Topic: sys.Prefix + v.name, Value: v.n})
	}
	return list
}

// sysWaitingMax is how many messages of PublishSys may wait for the loop.
const sysWaitingMax = 1024

// PublishSys publishes what the program has to say below $SYS, in the order of the calls: QoS 2, not
// retained, with a Message Expiry Interval. It does not block: when the loop is behind, the message is
// dropped and counted, and nothing is logged, since logs may come this way. Any goroutine.
func (b *Broker) PublishSys(topic string, payload []byte, expiry time.Duration) {
	if b.sysWaiting.Add(1) > sysWaitingMax {
		b.sysWaiting.Add(-1)
		b.sysDropped.Add(1)
		return
	}
	s := b.shards[0]
	s.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) { // bounded by sysWaitingMax
		b.sysWaiting.Add(-1)
		m := message.New([]byte(topic), payload, 2, false)
		m.Expire(l.Now(), uint32(wholeSeconds(expiry)))
		s.publishMessage(m)
	}))
}
