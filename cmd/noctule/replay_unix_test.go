//go:build !windows

package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// Retained messages that are on their way when the broker is killed come after it all the same [MQTT-3.3.1-9],
// however often it is killed, and when they have come nothing of it is left in the file.
func TestRetainedMessagesGoOnAfterAKill(t *testing.T) {
	const n, rounds = 200, 6
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	port, dir := freePort(t), t.TempDir()
	conf := persistent(port, dir)
	addr := fmt.Sprint("127.0.0.1:", port)
	p := startBroker(t, conf)
	pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
	for i := range n {
		pub.Send(&codec.Publish{Retain: true, QoS: 1, PacketID: 1, Topic: fmt.Appendf(nil, "t/%d", i), Payload: fmt.Append(nil, i)})
		pub.Want(codec.PUBACK, nil)
	}
	unclean := func(p *codec.Connect) { p.CleanStart = false }
	subs := map[string]map[string]int{"one": {}, "two": {}} // topics that have come
	for id := range subs {
		c := brokertest.Connect(t, addr, id, codec.V311, unclean)
		c.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("t/#"), QoS: 1}}})
		c.Want(codec.SUBACK, nil)
	}
	for round := range rounds {
		if code := p.stop(t, syscall.SIGKILL); code == 0 {
			t.Fatal("it was not killed")
		}
		p = startBroker(t, conf)
		for id, got := range subs {
			c := brokertest.Dial(t, addr, codec.V311)
			if ack := c.Connack(id, unclean); !ack.SessionPresent {
				t.Fatalf("seed %d: no session", seed)
			}
			some := rnd.IntN(n / 2)
			if round == rounds-1 {
				some = 3 * n // all
			}
			for ; some > 0; some-- {
				h, body, ok := c.NextWithin(time.Second)
				if !ok {
					break
				}
				var m codec.Publish
				if err := m.Parse(h.Flags, body, codec.V311); err != nil {
					t.Fatal(err)
				}
				got[string(m.Topic)]++
				c.Ack(codec.PUBACK, m.PacketID)
			}
			if round == rounds-1 && len(got) != n {
				t.Errorf("seed %d: %s has %d of %d", seed, id, len(got), n)
			}
		}
	}
	p.stop(t, syscall.SIGTERM)
	code, text := outcome(t, "db", "dump", own(filepath.Join(dir, "mosquitto.db")))
	if code != exitOK || strings.Contains(text, "to come") || !strings.Contains(text, `"t/#" options`) {
		t.Errorf("exit %d, left behind:\n%s", code, text)
	}
}
