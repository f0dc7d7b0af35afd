package broker

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"time"

	"noctule/broker/message"
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
	heapMax  uint64
	asked    bool // an answer of the loops is awaited
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
		s.sys.interval = int64(s.opts.SysInterval / time.Second)
	}
}

func (s *shard) startSys() {
	t := &sysTree{s: s, interval: int64(s.opts.SysInterval / time.Second), last: make(map[string]string)}
	t.loads = []load{
		{topic: "messages/received", value: func(m *Metrics) int64 { return m.PacketsReceived }},
		{topic: "messages/sent", value: func(m *Metrics) int64 { return m.PacketsSent }},
		{topic: "publish/dropped", value: func(m *Metrics) int64 { return m.DroppedTotal() }},
		{topic: "publish/received", value: func(m *Metrics) int64 { return m.PublishReceived }},
		{topic: "publish/sent", value: func(m *Metrics) int64 { return m.PublishSent }},
		{topic: "bytes/received", value: func(m *Metrics) int64 { return m.BytesReceived }},
		{topic: "bytes/sent", value: func(m *Metrics) int64 { return m.BytesSent }},
		{topic: "sockets", value: func(m *Metrics) int64 { return m.ConnectionsTotal }},
		{topic: "connections", value: func(m *Metrics) int64 { return m.ConnectionsTotal }},
	}
	s.sys = t
	t.publish("version", "mosquitto version "+s.opts.Version)
	t.ask()
}

// tick starts an update when its time has come.
func (t *sysTree) tick(now int64) {
	sec := now / 1000
	if sec < t.next || t.asked {
		return
	}
	t.ask()
}

// ask gathers the numbers of all loops and updates the tree when the last has answered.
func (t *sysTree) ask() {
	t.asked = true
	sec := t.s.loop.Now() / 1000
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

// update publishes what has changed.
func (t *sysTree) update(m *Metrics) {
	t.asked = false
	t.s.b.fill(m)
	n := func(topic string, v int64) { t.publish(topic, strconv.FormatInt(v, 10)) }
	t.publish("uptime", strconv.FormatInt(int64(m.Uptime), 10)+" seconds")
	n("clients/total", m.Sessions)
	if m.SessionsMaximum > 1 {
		n("clients/maximum", m.SessionsMaximum)
	}
	n("clients/connected", m.Connections)
	n("clients/active", m.Connections)
	n("clients/disconnected", m.Sessions-m.Connections)
	n("clients/inactive", m.Sessions-m.Connections)
	n("clients/expired", m.SessionsExpired)
	n("messages/received", m.PacketsReceived)
	n("messages/sent", m.PacketsSent)
	stored := m.Retained + m.QueuedMessages + m.InflightMessages
	n("messages/stored", stored)
	n("store/messages/count", stored)
	n("store/messages/bytes", m.QueuedBytes)
	n("subscriptions/count", m.Subscriptions)
	n("shared_subscriptions/count", m.SharedSubscriptions)
	n("retained messages/count", m.Retained)
	n("bytes/received", m.BytesReceived)
	n("bytes/sent", m.BytesSent)
	n("publish/messages/received", m.PublishReceived)
	n("publish/messages/sent", m.PublishSent)
	n("publish/messages/dropped", m.DroppedTotal())
	n("publish/bytes/received", m.PublishBytesReceived)
	n("publish/bytes/sent", m.PublishBytesSent)
	n("packet/out/count", m.QueuedMessages)
	n("packet/out/bytes", m.QueuedBytes)
	n("connections/socket/count", m.ConnectionsTotal)
	t.heap(n)
	t.updateLoads(m)
}

// heap publishes the Go heap where dashboards look for Mosquitto's.
func (t *sysTree) heap(n func(string, int64)) {
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	t.heapMax = max(t.heapMax, ms.HeapAlloc)
	n("heap/current", int64(ms.HeapAlloc))
	n("heap/maximum", int64(t.heapMax))
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
		if first || dt <= 0 {
			continue
		}
		perMinute := float64(delta) * 60 / dt
		for k, minutes := range [...]int{1, 5, 15} {
			e := math.Exp(-dt / float64(60*minutes))
			avg := perMinute + e*(l.avg[k]-perMinute)
			moved := math.Abs(avg-l.avg[k]) >= 0.01
			l.avg[k] = avg
			if moved {
				t.publish(
					fmt.Sprintf("load/%s/%dmin", l.topic, minutes),
					strconv.FormatFloat(avg, 'f', 2, 64),
				)
			}
		}
	}
}

// publish sends one value below $SYS/broker if it is new.
func (t *sysTree) publish(topic, value string) {
	if t.last[topic] == value {
		return
	}
	t.last[topic] = value
	t.s.publishMessage(message.New([]byte("$SYS/broker/"+topic), []byte(value), 2, true))
}
