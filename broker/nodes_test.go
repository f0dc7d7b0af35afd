package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// notes are what hooks were told, from any loop.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

// take returns what is there, sorted, and forgets it.
func (n *notes) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.list)
	s := strings.Join(n.list, ", ")
	n.list = nil
	return s
}

// TestInterest: first and last subscribers of the node, wherever their sessions live.
func TestInterest(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		a, b := x.connect("a", codec.V5, nil), x.connect("bb", codec.V5, nil)
		a.Subscribe("there", 0)
		var n notes
		stop := x.b.Interest(func(filter string, wanted bool) { n.add("%s %v", filter, wanted) })
		if got := n.take(); got != "there true" {
			t.Errorf("at the beginning %q", got)
		}
		for _, c := range []*brokertest.Client{a, b} {
			c.Subscribe("t/+", 0)
			c.Subscribe("$share/g/s", 0)
		}
		if got := n.take(); got != "$share/g/s true, t/+ true" {
			t.Errorf("subscribed: %q", got)
		}
		a.Disconnect()
		brokertest.Settle(t, x.b)
		if got := n.take(); got != "there false" {
			t.Errorf("one has gone: %q", got)
		}
		b.Disconnect()
		brokertest.Settle(t, x.b)
		if got := n.take(); got != "$share/g/s false, t/+ false" {
			t.Errorf("both have gone: %q", got)
		}
		stop()
		x.connect("c", codec.V5, nil).Subscribe("late", 0)
		if got := n.take(); got != "" {
			t.Errorf("after stop %q", got)
		}
	})
}

// TestForward: every message once, from whatever loop it is published on, and what it says for PUBACK.
func TestForward(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		var n notes
		stop, err := x.b.Forward(t.Context(), func(m *broker.Forwarded) bool {
			n.add("%s %s %d %v %v", m.Topic, m.Payload, m.QoS, m.Retain, m.Expiry)
			return string(m.Topic) == "elsewhere"
		})
		if err != nil {
			t.Fatal(err)
		}
		c := x.connect("c", codec.V5, willOf(0, 0))
		c.Subscribe("here", 0)
		for topic, want := range map[string]codec.Reason{"elsewhere": 0, "here": 0, "nowhere": codec.NoMatchingSubscribers} {
			c.Publish(topic, "m", 1, 1)
			if topic == "here" {
				c.WantPublish("here", "m")
			}
			a := codec.Ack{}
			c.Want(codec.PUBACK, &a)
			if a.Reason != want {
				t.Errorf("%s: %s", topic, a.Reason)
			}
		}
		if got := n.take(); got != "elsewhere m 1 false 0s, here m 1 false 0s, nowhere m 1 false 0s" {
			t.Errorf("%q", got)
		}
		x.publication(broker.Publication{Topic: "own", Payload: []byte("m"), Retain: true, Expiry: time.Minute})
		x.publication(broker.Publication{Topic: "from another node", Payload: []byte("m"), Local: true})
		x.b.PublishSys("$SYS/x", []byte("m"), time.Minute)
		c.Close()
		brokertest.Until(t, x.b, "the will is sent", func(m *broker.Metrics) bool { return m.Connections == 0 })
		brokertest.Settle(t, x.b)
		if got := n.take(); got != "own m 0 true 1m0s, w/c gone 1 false 0s" && got != "own m 0 true 1m0s, w/c gone 0 false 0s" {
			t.Errorf("%q", got)
		}
		stop()
		brokertest.Settle(t, x.b)
		x.publication(broker.Publication{Topic: "late"})
		if got := n.take(); got != "" {
			t.Errorf("after stop %q", got)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if stop, err := x.b.Forward(gone, func(*broker.Forwarded) bool { return false }); err == nil {
			stop() // the loops were faster
		}
	})
}
