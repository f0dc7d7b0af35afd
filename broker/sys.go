package broker

import (
	"sync"
	"time"

	"noctule/broker/message"
	"noctule/broker/sys"
	"noctule/broker/tally"
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
		tree: sys.New(tally.LoadNames()...),
	}
	s.sys = t
	t.publish(t.tree.Say(nil, sys.Prefix+"version", "mosquitto version "+s.opts.Version))
	t.publish(t.tree.Say(nil, sys.Prefix+"noctule/version", version.Read().String()))
	t.ask()
}

// tick starts an update when its time has come.
func (t *sysTree) tick(now int64) {
	if !t.asked && t.schedule.Due(t.s.b.clock.Wall(now)/1000) {
		t.ask()
	}
}

// ask gathers the numbers of all loops and updates the tree when the last has answered.
func (t *sysTree) ask() {
	t.asked = true
	t.schedule.Begin(t.s.b.clock.Wall(t.s.loop.Now()) / 1000)
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
	list := t.tree.Update(now, m.SysValues(), m.Loads())
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
