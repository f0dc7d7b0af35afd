package broker_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// cutAfter turns the power off after a number of commits.
func (c *cut) cutAfter(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = n
}

func unclean(p *codec.Connect) { p.CleanStart = false }

// talker is a publisher of QoS 2 that keeps its own state across crashes.
type talker struct {
	name  string
	state []int // by packet id-1: 0 sent or not, 1 PUBREC has come, 2 PUBCOMP
}

func (k *talker) publish(i int, dup bool) *codec.Publish {
	return &codec.Publish{
		Topic: []byte("m/" + k.name), Payload: fmt.Appendf(nil, "%s %02d", k.name, i),
		QoS: 2, PacketID: uint16(i + 1), Dup: dup,
	}
}

// take handles an acknowledgement.
func (k *talker) take(t *testing.T, c *brokertest.Client, h codec.Header, body []byte) {
	t.Helper()
	a := codec.Ack{Type: h.Type}
	if err := a.Parse(h.Flags, body, codec.V311); err != nil {
		t.Fatal(err)
	}
	switch h.Type {
	case codec.PUBREC:
		k.state[a.PacketID-1] = max(k.state[a.PacketID-1], 1)
		_, _ = c.Conn.Write((&codec.Ack{Type: codec.PUBREL, PacketID: a.PacketID}).Append(nil, codec.V311))
	case codec.PUBCOMP:
		k.state[a.PacketID-1] = 2
	default:
		t.Fatalf("%s", h.Type)
	}
}

// talk sends all messages at once and answers until nothing comes for a while.
func (k *talker) talk(t *testing.T, c *brokertest.Client) {
	for i := range k.state {
		if _, err := c.Conn.Write(k.publish(i, false).Append(nil, codec.V311)); err != nil {
			return
		}
	}
	for slices.Min(k.state) < 2 {
		h, body, ok := c.NextWithin(30 * time.Millisecond)
		if !ok {
			return
		}
		k.take(t, c, h, body)
	}
}

// finish goes on with what the crash has left.
func (k *talker) finish(t *testing.T, c *brokertest.Client) {
	for i, s := range k.state {
		switch s {
		case 0:
			c.Send(k.publish(i, true))
		case 1:
			c.Ack(codec.PUBREL, uint16(i+1))
		}
	}
	for slices.Min(k.state) < 2 {
		h, body, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		k.take(t, c, h, body)
	}
}

// drain takes all that waits for a subscriber of QoS 2.
func drain(t *testing.T, b *broker.Broker, c *brokertest.Client) (got []string) {
	t.Helper()
	held := map[uint16]bool{}
	quiet := false
	ping := func() { // PINGRESP does not wait for the disk as messages of QoS 2 do
		brokertest.Settle(t, b)
		save(t, b)
		brokertest.Settle(t, b)
		c.Raw(codec.AppendPingreq(nil))
	}
	ping()
	for {
		h, body, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch h.Type {
		case codec.PUBLISH:
			var p codec.Publish
			if err := p.Parse(h.Flags, body, codec.V311); err != nil {
				t.Fatal(err)
			}
			if !held[p.PacketID] {
				got = append(got, string(p.Payload))
			}
			held[p.PacketID] = true
			c.Ack(codec.PUBREC, p.PacketID)
			quiet = false
		case codec.PUBREL:
			a := codec.Ack{Type: h.Type}
			if err := a.Parse(h.Flags, body, codec.V311); err != nil {
				t.Fatal(err)
			}
			delete(held, a.PacketID)
			c.Ack(codec.PUBCOMP, a.PacketID)
			quiet = false
		case codec.PINGRESP:
			if quiet && len(held) == 0 {
				return got
			}
			quiet = brokertest.Settle(t, b).QueueReads == 0
			ping()
		default:
			t.Fatalf("%s", h.Type)
		}
	}
}

// The power goes off between any two commits, and the next broker has another number of loops: every message of
// QoS 2 arrives once at each subscriber and at one member of each shared subscription, in order where order is
// promised.
func TestModelExactlyOnceAcrossCrashes(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 7))
		bound := rnd.Int64N(60) // a queue has about 100 bytes; 0: none
		d := newDurable(t, 1+rnd.IntN(4), func(o *broker.Options, _ *broker.ListenerOptions) {
			o.PersistenceSync, o.MaxQueuedMemory = broker.SyncAlways, bound
		})
		const subscribers, talkers, each = 6, 3, 6
		for i := range subscribers {
			c := d.connect(fmt.Sprint("s", i), codec.V311, unclean)
			filter := "m/+"
			if i%2 == 1 {
				filter = "$share/g/m/#"
			}
			if rnd.IntN(2) == 0 {
				c.Subscribe(filter, 2)
			} else { // on its behalf
				d.ask(behalf.Request{ClientID: fmt.Sprint("s", i), Topics: topics(filter + ":2")})
			}
			c.Disconnect()
		}
		d.store.cutAfter(1 + rnd.IntN(25))
		var list []*talker
		for i := range talkers {
			k := &talker{name: fmt.Sprint("p", i), state: make([]int, each)}
			list = append(list, k)
			c := brokertest.Dial(t, d.addr, codec.V311)
			p := codec.Connect{Version: codec.V311, ClientID: []byte(k.name)}
			c.Send(&p)
			if h, _, ok := c.NextWithin(30 * time.Millisecond); ok && h.Type == codec.CONNACK {
				k.talk(t, c)
			}
			c.Close()
		}
		d.crash(t, 1+rnd.IntN(4))
		for _, k := range list {
			c, _ := d.present(k.name, codec.V311, nil)
			k.finish(t, c)
			c.Disconnect()
		}
		brokertest.Settle(t, d.b) // what is on its way between loops has arrived
		brokertest.Settle(t, d.b)
		shared := map[string]int{}
		for i := range subscribers {
			c, present := d.present(fmt.Sprint("s", i), codec.V311, nil)
			if !present {
				t.Fatalf("seed %d: no session", seed)
			}
			got := drain(t, d.b, c)
			c.Disconnect()
			if i%2 == 1 {
				for _, m := range got {
					shared[m]++
				}
				continue
			}
			for _, k := range list {
				var mine []string
				for _, m := range got {
					if strings.HasPrefix(m, k.name) {
						mine = append(mine, m)
					}
				}
				if len(mine) != each || !slices.IsSorted(mine) || len(slices.Compact(slices.Clone(mine))) != each {
					t.Fatalf("seed %d: s%d got %v", seed, i, mine)
				}
			}
		}
		for m, n := range shared {
			if n != 1 {
				t.Fatalf("seed %d: %q came %d times to the group", seed, m, n)
			}
		}
		if len(shared) != talkers*each {
			t.Fatalf("seed %d: the group got %d of %d", seed, len(shared), talkers*each)
		}
		d.crash(t, 1) // its loops end; the cleanup of the test ends the last
	}
}
