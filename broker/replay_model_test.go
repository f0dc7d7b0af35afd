package broker_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/topictree"
)

// counting publishes 1, 2, 3 ... retained on one topic until stop is closed, on a goroutine of its own.
type counting struct {
	c     *brokertest.Client
	topic string
	qos   uint8
	sent  atomic.Int64 // the last number that has been taken
	ended chan struct{}
}

func (k *counting) run(stop chan struct{}, rnd *rand.Rand) {
	defer close(k.ended)
	for i := 1; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		p := codec.Publish{
			Retain: true, QoS: k.qos, PacketID: uint16(i%60000 + 1), Topic: []byte(k.topic), Payload: fmt.Append(nil, i),
		}
		if k.qos == 0 { // every one is waited for
			p.PacketID = 20
		}
		if _, err := k.c.Conn.Write(p.Append(nil, codec.V311)); err != nil || !handshake(k.c, k.qos, p.PacketID) {
			return
		}
		k.sent.Store(int64(i))
		if i > 4 && rnd.IntN(3) == 0 {
			time.Sleep(time.Duration(rnd.IntN(1500)) * time.Microsecond)
		}
	}
}

// watched is one subscription of a client in the model, by its Subscription Identifier.
type watched struct {
	filter  string
	live    bool
	ever    bool
	renewed int            // how often it was subscribed to, on behalf too, beyond the first time
	gaps    int            // how often it was unsubscribed from
	last    map[string]int // by topic
	twice   map[string]int // by topic: how often a number came again
	missed  map[string]int
}

// watcher is a client in the model.
type watcher struct {
	*taker
	id    string
	qos   uint8
	subs  []*watched
	cuts  int
	seen  int
	topic map[string]*counting
}

// check looks at what has come since.
func (w *watcher) check(seed uint64) {
	for ; w.seen < len(w.got); w.seen++ {
		p := &w.got[w.seen]
		topic := string(p.Topic)
		n, err := strconv.Atoi(string(p.Payload))
		id, ok := p.Properties.Uint(codec.SubscriptionIdentifier)
		if err != nil || !ok || int(id) > len(w.subs) {
			w.t.Fatalf("seed %d: %s got %q on %s for %d", seed, w.id, p.Payload, topic, id)
		}
		x := w.subs[id-1]
		last, had := x.last[topic]
		lossy := min(w.qos, w.topic[topic].qos) == 0 && w.cuts > 0
		switch {
		case !had || n == last+1:
		case n == last:
			if x.twice[topic]++; x.twice[topic] > x.renewed && !lossy {
				w.t.Fatalf("seed %d: %s (QoS %d) got %d on %s by %s again, RETAIN %v; renewed %d times", seed, w.id, w.qos, n, topic,
					x.filter, p.Retain, x.renewed)
			}
		case n < last:
			w.t.Fatalf("seed %d: %s (QoS %d, %d cuts) got %d behind %d on %s by %s, RETAIN %v, DUP %v", seed, w.id, w.qos, w.cuts, n, last, topic,
				x.filter, p.Retain, p.Dup)
		default:
			if x.missed[topic]++; x.missed[topic] > x.gaps && !lossy {
				w.t.Fatalf("seed %d: %s (QoS %d, %d cuts) got %d after %d on %s by %s, RETAIN %v", seed, w.id, w.qos, w.cuts, n, last, topic,
					x.filter, p.Retain)
			}
		}
		x.last[topic] = n
	}
}

// until takes packets until one of a type comes, or for a while.
func (w *watcher) until(want codec.Type) {
	for {
		h, body, err := w.c.Next()
		if err != nil {
			w.t.Fatal(err)
		}
		if !w.handle(h, body) && h.Type == want {
			return
		}
	}
}

// Publishers count on retained topics while clients of other loops subscribe, subscribe again, unsubscribe, are
// cut off and resume, with filters that overlap. For each subscription the numbers of a topic go on without a
// gap from the first, never back, and none comes twice but after a renewal; at rest all are there.
func TestModelRetainedAndLive(t *testing.T) {
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("NOCTULE_MODEL_ROUNDS")); err == nil {
		rounds = n
	}
	for range rounds {
		seed := rand.Uint64()
		modelRetained(t, seed)
	}
}

func modelRetained(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 9))
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops, o.Portable = 1+rnd.IntN(4), rnd.IntN(4) == 0
		o.MaxQueuedMessages, o.MaxInflight = 0, uint16(1+rnd.IntN(20))
		o.MaxBufferedBytes = 16 << 20
		if rnd.IntN(2) == 0 {
			o.Store = store.NewMemory()
		}
	})
	retainMany(x, 1, 50) // in the way
	stop := make(chan struct{})
	topic := map[string]*counting{}
	var list []*counting
	for i := range 6 {
		k := &counting{
			c: x.connect(fmt.Sprint("pub", i), codec.V311, nil), topic: fmt.Sprintf("m/%d/%d", i%2, i), qos: uint8(i % 3),
			ended: make(chan struct{}),
		}
		topic[k.topic] = k
		list = append(list, k)
		go k.run(stop, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	var watchers []*watcher
	filters := []string{"m/#", "m/+/+", "m/0/+", "m/1/#", "m/0/0", "m/1/1", "m/0/2", "m/+/5"}
	for i := range 5 {
		w := &watcher{id: fmt.Sprint("w", i), qos: uint8(i % 3), topic: topic}
		w.taker = take(t, x.connect(w.id, codec.V5, persistent(codec.V5)))
		for k := range 3 {
			f := filters[(i+3*k)%len(filters)]
			w.subs = append(w.subs, &watched{
				filter: f, last: map[string]int{}, twice: map[string]int{}, missed: map[string]int{},
			})
		}
		watchers = append(watchers, w)
	}
	for range 250 {
		w := watchers[rnd.IntN(len(watchers))]
		at := rnd.IntN(len(w.subs))
		s := w.subs[at]
		switch rnd.IntN(8) {
		case 0, 1:
			w.subscribe(at, s)
		case 2:
			w.c.Send(&codec.Unsubscribe{PacketID: 8, Filters: [][]byte{[]byte(s.filter)}})
			w.until(codec.UNSUBACK)
			if s.live {
				s.live = false
				s.gaps++
			}
		case 3:
			if rnd.IntN(2) == 0 {
				w.c.Hangup()
			}
			w.cuts++
			c, present := x.present(w.id, codec.V5, persistent(codec.V5))
			if !present {
				t.Fatalf("seed %d: no session", seed)
			}
			w.on(c)
		case 4:
			w.ask(x, at, s)
		default:
			for h, body, ok := w.c.NextWithin(time.Millisecond); ok; h, body, ok = w.c.NextWithin(time.Millisecond) {
				if w.handle(h, body); rnd.IntN(8) == 0 {
					break
				}
			}
		}
		w.check(seed)
	}
	close(stop)
	for _, k := range list {
		<-k.ended
	}
	for _, w := range watchers {
		w.all(x.b)
		w.check(seed)
		w.complete(seed, list)
	}
	if t.Failed() {
		t.Fatalf("seed %d", seed)
	}
}

func (w *watcher) subscribe(at int, s *watched) {
	w.c.Send(&codec.Subscribe{
		PacketID: 7, Properties: props(uintProp(codec.SubscriptionIdentifier, uint32(at+1))),
		Filters: []codec.Filter{{Name: []byte(s.filter), QoS: w.qos}},
	})
	w.renew(s)
	w.until(codec.SUBACK)
}

// renew counts a subscription that may bring numbers again.
func (w *watcher) renew(s *watched) {
	if s.ever {
		s.renewed++
	}
	s.live, s.ever = true, true
}

// ask subscribes the client on its behalf, or takes that back.
func (w *watcher) ask(x *fixture, at int, s *watched) {
	set := behalf.NewSet([]behalf.Topic{{Filter: s.filter, QoS: w.qos, ID: uint32(at + 1)}})
	w.renew(s)
	x.ask(behalf.Request{ClientID: w.id, Topics: set})
}

// complete checks that the last number of each topic has come for each subscription.
func (w *watcher) complete(seed uint64, list []*counting) {
	for _, s := range w.subs {
		for _, k := range list {
			matches := s.live && topictree.MatchFilter([]byte(s.filter), []byte(k.topic))
			lossy := min(w.qos, k.qos) == 0 && w.cuts > 0
			if matches && !lossy && s.last[k.topic] != int(k.sent.Load()) {
				w.t.Errorf("seed %d: %s (QoS %d, %d cuts) has %d of %d on %s by %s", seed, w.id, w.qos, w.cuts, s.last[k.topic],
					k.sent.Load(), k.topic, s.filter)
			}
		}
	}
}
