package broker

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"noctule/broker/message"
	"noctule/internal/version"
	"noctule/wsnet"
)

// The $SYS tree, as Mosquitto's: retained, QoS 2, at wall-clock multiples of sys_interval, and only what
// has changed since the last time. It belongs to shard 0.

// sysTree is what was published last.
type sysTree struct {
	s        *shard
	interval int64             // seconds
	next     int64             // Unix seconds
	last     map[string]string // by topic
	loads    []load
	lastTime int64 // Unix ms of the last loads
	asked    bool  // an answer of the loops is awaited
}

// load is one counter's three moving averages, per minute.
type load struct {
	topic string
	value func(*Metrics) int64
	prev  int64
	avg   [3]float64
}

// reloadSys follows sys_interval.
func (s *shard) reloadSys() {
	switch {
	case s.opts.SysInterval <= 0:
		s.sys = nil
	case s.sys == nil:
		s.startSys()
	default:
		s.sys.interval = wholeSeconds(s.opts.SysInterval)
	}
}

func (s *shard) startSys() {
	t := &sysTree{s: s, interval: wholeSeconds(s.opts.SysInterval), last: make(map[string]string)}
	t.loads = []load{
		{topic: "messages/received", value: func(m *Metrics) int64 { return m.PacketsReceived }},
		{topic: "messages/sent", value: func(m *Metrics) int64 { return m.PacketsSent }},
		{topic: "publish/dropped", value: func(m *Metrics) int64 { return m.DroppedTotal() }},
		{topic: "publish/received", value: func(m *Metrics) int64 { return m.PublishReceived }},
		{topic: "publish/sent", value: func(m *Metrics) int64 { return m.PublishSent }},
		{topic: "bytes/received", value: func(m *Metrics) int64 { return m.BytesReceived }},
		{topic: "bytes/sent", value: func(m *Metrics) int64 { return m.BytesSent }},
		{topic: "sockets", value: func(m *Metrics) int64 { return m.ConnectionsTotal }},
		{topic: "connections", value: func(m *Metrics) int64 { return m.Connects }},
	}
	s.sys = t
	t.publish(sysPrefix+"version", "mosquitto version "+s.opts.Version)
	t.publish(sysPrefix+"noctule/version", version.Read().String())
	t.ask()
}

// tick starts an update when its time has come.
func (t *sysTree) tick(now int64) {
	sec := t.s.b.clock.wall(now) / 1000
	if t.asked || sec < t.next && t.next-sec <= t.interval { // unless the system's clock was set back
		return
	}
	t.ask()
}

// ask gathers the numbers of all loops and updates the tree when the last has answered.
func (t *sysTree) ask() {
	t.asked = true
	sec := t.s.b.clock.wall(t.s.loop.Now()) / 1000
	t.next = sec - sec%t.interval + t.interval
	var mu sync.Mutex
	m := new(Metrics)
	left := len(t.s.b.shards)
	for _, s := range t.s.b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) {
			mu.Lock()
			defer mu.Unlock()
			s.addTo(m)
			if left--; left == 0 {
				t.s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { t.update(m) }))
			}
		}))
	}
}

// SysValue is one number of the $SYS tree.
type SysValue struct {
	Topic string // with $SYS/broker/
	Value int64
}

// SysValues are the whole numbers of the $SYS tree, in Mosquitto's order; the uptime is seconds.
func (m *Metrics) SysValues() []SysValue {
	stored := m.Retained + m.QueuedMessages + m.InflightMessages
	list := []SysValue{
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
	for i := range list {
		list[i].Topic = sysPrefix + list[i].Topic
	}
	return list
}

const sysPrefix = "$SYS/broker/"

// update publishes what has changed.
func (t *sysTree) update(m *Metrics) {
	t.asked = false
	t.s.b.fill(m)
	for _, v := range m.SysValues() {
		text := strconv.FormatInt(v.Value, 10)
		switch v.Topic {
		case sysPrefix + "uptime":
			text += " seconds"
		case sysPrefix + "clients/maximum":
			if v.Value <= 1 { // Mosquitto starts with 1 and tells only more
				continue
			}
		}
		t.publish(v.Topic, text)
	}
	t.updateLoads(m)
}

// updateLoads moves the averages over 1, 5 and 15 minutes: i = delta per minute, v = i + e^(-dt/tau) (v -
// i).
func (t *sysTree) updateLoads(m *Metrics) {
	now := t.s.loop.Now()
	dt := float64(now-t.lastTime) / 1000
	first := t.lastTime == 0
	t.lastTime = now
	for i := range t.loads {
		l := &t.loads[i]
		v := l.value(m)
		delta := v - l.prev
		l.prev = v
		if first {
			for _, minutes := range [...]int{1, 5, 15} {
				t.publish(loadTopic(l.topic, minutes), "0.00")
			}
			continue
		}
		if dt <= 0 {
			continue
		}
		perMinute := float64(delta) * 60 / dt
		for k, minutes := range [...]int{1, 5, 15} {
			e := math.Exp(-dt / float64(60*minutes))
			avg := perMinute + e*(l.avg[k]-perMinute)
			moved := math.Abs(avg-l.avg[k]) >= 0.01
			l.avg[k] = avg
			if moved {
				t.publish(loadTopic(l.topic, minutes), strconv.FormatFloat(avg, 'f', 2, 64))
			}
		}
	}
}

func loadTopic(name string, minutes int) string {
	return fmt.Sprintf("%sload/%s/%dmin", sysPrefix, name, minutes)
}

// publish sends one value if it is new.
func (t *sysTree) publish(topic, value string) {
	if t.last[topic] == value {
		return
	}
	t.last[topic] = value
	t.s.publishMessage(message.New([]byte(topic), []byte(value), 2, true))
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
