package broker_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/codec/im"
)

// offline makes a persistent session that is not connected.
func (d *durable) offline(ids ...string) {
	d.t.Helper()
	for _, id := range ids {
		d.connect(id, codec.V5, keep).Disconnect()
	}
}

// resumed connects to a session that must be there.
func (d *durable) resumed(id string) *brokertest.Client {
	d.t.Helper()
	c, present := d.present(id, codec.V5, keep)
	if !present {
		d.t.Fatalf("no session of %s", id)
	}
	return c
}

// saved returns when what clients have sent so far is durable.
func (d *durable) saved() {
	d.t.Helper()
	brokertest.Settle(d.t, d.b)
	if err := d.b.Save(context.Background()); err != nil {
		d.t.Fatal(err)
	}
}

// wantStored checks how many lists and grants the store has, and that they fit together.
func (d *durable) wantStored(sets, grants int) {
	d.t.Helper()
	deadline := time.Now().Add(brokertest.Timeout)
	for {
		s, g := d.stored()
		if s == sets && g == grants {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%d sets and %d grants are stored, want %d and %d", s, g, sets, grants)
		}
		if err := d.b.Save(context.Background()); err != nil {
			d.t.Fatal(err)
		}
	}
}

// stored counts the lists that grants refer to, and grants; it fails if one refers to a list that is not there.
func (d *durable) stored() (sets, grants int) {
	d.t.Helper()
	keys, used := map[store.SetKey]bool{}, map[store.SetKey]bool{}
	err := d.mem.Walk(store.Grants, func(k, v []byte) error {
		g, err := store.ReadGrant(k, v)
		if grants++; g.Set != (store.SetKey{}) {
			used[g.Set] = true
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	err = d.mem.Walk(store.Sets, func(k, v []byte) error {
		x, err := store.ReadSet(k, v)
		keys[x.Key] = true
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	for key := range used {
		if !keys[key] {
			d.t.Fatalf("a grant refers to %x, which is not there", key)
		}
	}
	return len(keys), grants
}

// wantMessages publishes to topics and checks which of them the client gets, in that order.
func wantMessages(pub, c *brokertest.Client, published []string, want ...string) {
	for _, topic := range published {
		puback(pub, topic, topic)
	}
	for _, topic := range want {
		if p := c.WantPublish(topic, topic); p.QoS > 0 {
			c.Ack(codec.PUBACK, p.PacketID)
		}
	}
	c.WantNothing()
}

// published is the next message.
func published(c *brokertest.Client) (p codec.Publish) {
	c.Want(codec.PUBLISH, &p)
	return p
}

// What was granted to an offline session is there after a crash, and messages that are published then reach its
// queue before it connects.
func TestGrantsSurviveCrash(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		d.offline("c", "other")
		d.ask(behalf.Request{ClientID: "c", Topics: topics("a:1", "b/+:2", "q:0")})
		d.ask(behalf.Request{ClientID: "c", Topics: topics("a:1", "$share/g/s/#:1"), Origin: origin("api:second")})
		d.ask(behalf.Request{ClientID: "c", Topics: topics("b/+:2"), Action: im.Unsubscribe})
		last := d.ask(behalf.Request{ClientID: "other", Topics: topics("a:1", "q:0")}) // the same list as c's
		before := d.list("c")
		d.wantStored(2, 3)
		for range 2 {
			d.crash(t, loops)
			if after := d.list("c"); fmt.Sprint(after.Holdings) != fmt.Sprint(before.Holdings) || after.Connected {
				t.Errorf("was %+v, is %+v", before.Holdings, after.Holdings)
			}
			d.wantStored(2, 3)
			pub := d.connect("pub", codec.V5, nil)
			for _, topic := range []string{"a", "b/x", "s/1", "q"} {
				puback(pub, topic, topic)
			}
			c := d.resumed("c")
			got := map[string]int{}
			for range 2 {
				p := published(c)
				got[string(p.Payload)]++
				c.Ack(codec.PUBACK, p.PacketID)
			}
			c.WantNothing()
			if !maps.Equal(got, map[string]int{"a": 1, "s/1": 1}) {
				t.Errorf("got %v", got)
			}
			c.Disconnect()
			d.saved() // its acknowledgements
		}
		a := d.ask(behalf.Request{ClientID: "c", Topics: topics("new:1")})
		if a.Revision <= last.Revision {
			t.Errorf("revision %d after %d", a.Revision, last.Revision)
		}
		if m := brokertest.Settle(t, d.b); m.Granted != 7 {
			t.Errorf("%d granted subscriptions", m.Granted)
		}
	})
}

// The answer to a request for a persistent session is given when the store has it, for others at once.
func TestAnswerWaitsForTheStore(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		d.offline("c", "d")
		passing := d.connect("passing", codec.V5, nil)
		move := origin("api:move")
		list := topics("a:1")
		d.ask(behalf.Request{ClientID: "d", Topics: list, Origin: move})
		d.saved()
		gate := make(chan struct{})
		d.store.mu.Lock()
		d.store.gate = gate
		d.store.mu.Unlock()
		answered := make(chan behalf.Answer, 1)
		moved := make(chan int, 1)
		go func() {
			answered <- d.ask(behalf.Request{ClientID: "c", Topics: topics("b:1")})
		}()
		go func() {
			n, _ := d.b.Move(context.Background(), move, list, topics("e:1"))
			moved <- n
		}()
		inEffect := func() bool {
			return len(d.list("c").Holdings) > 1 && d.list("d").Holdings[1].Topics[0].Filter == "e"
		}
		for !inEffect() {
			brokertest.Settle(t, d.b)
		}
		d.ask(behalf.Request{ClientID: "passing", Topics: topics("p:1")})
		passing.WantNothing()
		select {
		case a := <-answered:
			t.Errorf("%+v", a)
		case n := <-moved:
			t.Errorf("%d moved", n)
		default:
		}
		close(gate)
		d.store.mu.Lock()
		d.store.gate = nil
		d.store.mu.Unlock()
		d.wantAnswer(<-answered, "0 b=new/1")
		if n := <-moved; n != 1 {
			t.Errorf("%d moved", n)
		}
		d.wantStored(2, 2)
	})
}

// Nothing is promised while the store cannot be written, and of an offline session nothing is changed.
func TestGrantsAreRefusedWhileTheStoreFails(t *testing.T) {
	d := newDurable(t, 2, nil)
	d.offline("c")
	pub := d.connect("pub", codec.V5, nil)
	list := topics("a:1")
	d.ask(behalf.Request{ClientID: "c", Topics: list})
	d.store.fail(errOff)
	pub.Send(&codec.Publish{Topic: []byte("a"), QoS: 1, PacketID: 1, Payload: []byte("m")})
	for {
		if m := brokertest.Settle(t, d.b); m.Store.Failing {
			break
		}
	}
	d.wantAnswer(d.ask(behalf.Request{ClientID: "c", Topics: topics("b:1")}), "151")
	if _, err := d.b.Move(context.Background(), origin("api:test"), list, topics("z:1")); err == nil {
		t.Error("a list was edited")
	}
	if h := d.list("c").Holdings; len(h[1].Topics) != 1 {
		t.Errorf("%+v", h)
	}
	d.store.fail(nil)
	pub.Want(codec.PUBACK, nil)
}

// What an UNSUBSCRIBE of the client has switched off, and what it may not, is the same after a restart.
func TestPoliciesSurviveCrash(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		c := d.connect("c", codec.V5, keep)
		for name, p := range map[string]behalf.Policy{"allow": behalf.Allow, "sticky": behalf.Sticky, "deny": behalf.Deny} {
			d.ask(behalf.Request{
				ClientID: "c", Topics: topics(name+"/1:1", name+"/2:1"),
				Origin: &behalf.Origin{Name: "api:" + name, Unsubscribe: p},
			})
		}
		all := []string{"allow/1", "allow/2", "sticky/1", "sticky/2", "deny/1", "deny/2"}
		for _, name := range []string{"allow", "sticky"} {
			unsubscribed(t, c, name+"/1", codec.Success)
		}
		unsubscribed(t, c, "deny/1", codec.NotAuthorized)
		d.crash(t, loops)
		pub := d.connect("pub", codec.V5, nil)
		for _, topic := range all {
			puback(pub, topic, topic)
		}
		c = d.resumed("c")
		wantMessages(pub, c, nil, "allow/2", "sticky/2", "deny/1", "deny/2")
		wantMessages(pub, c, all, "allow/2", "sticky/1", "sticky/2", "deny/1", "deny/2")
		unsubscribed(t, c, "deny/2", codec.NotAuthorized)
		c.Close()
		d.saved()
		d.crash(t, loops) // sticky/1 has come back with the CONNECT
		pub = d.connect("pub", codec.V5, nil)
		for _, topic := range all {
			puback(pub, topic, topic)
		}
		c = d.resumed("c")
		wantMessages(pub, c, nil, "allow/2", "sticky/1", "sticky/2", "deny/1", "deny/2")
	})
}

// unsubscribed sends UNSUBSCRIBE and wants a reason code.
func unsubscribed(t testing.TB, c *brokertest.Client, filter string, want codec.Reason) {
	t.Helper()
	c.Send(&codec.Unsubscribe{PacketID: 7, Filters: [][]byte{[]byte(filter)}})
	var a codec.Unsuback
	c.Want(codec.UNSUBACK, &a)
	if len(a.Codes) != 1 || a.Codes[0] != want {
		t.Errorf("UNSUBACK of %s: %v, want %v", filter, a.Codes, want)
	}
}

// A list is stored once for all sessions and loops, and goes with the last of them.
func TestListsAreStoredOnce(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		var ids []string
		for i := range 20 {
			ids = append(ids, fmt.Sprint("c", i))
		}
		d.offline(ids...)
		a, b := topics("a:1", "b:1"), topics("a:1", "c:1")
		for _, id := range ids {
			d.ask(behalf.Request{ClientID: id, Topics: a})
		}
		d.wantStored(1, 20)
		d.restart(t)
		d.wantStored(1, 20)
		n, err := d.b.Move(context.Background(), origin("api:test"), a, b)
		if n != 20 || err != nil {
			t.Fatal(n, err)
		}
		d.wantStored(1, 20)
		d.crash(t, loops)
		for _, id := range ids[:10] {
			if x := d.list(id).Holdings[1].Topics; len(x) != 2 || x[1].Filter != "c" {
				t.Fatalf("%s has %+v", id, x)
			}
			d.ask(behalf.Request{ClientID: id, Action: im.Replace})
		}
		d.wantStored(1, 20)
		for _, id := range ids[10:] { // sessions that end
			d.connect(id, codec.V5, nil).Disconnect()
		}
		d.wantStored(0, 10)
		d.crash(t, loops)
		d.wantStored(0, 10)
		pub := d.connect("pub", codec.V5, nil)
		puback(pub, "a", "nobody")
		d.resumed("c1").WantNothing()
	})
}

// The lists of a CONNECT are stored before CONNACK, and written anew only when they have changed.
func TestListsOfConnectAreStored(t *testing.T) {
	list := topics("a:1", "$share/g/b:1")
	g := &grantor{}
	g.set("c", behalf.Grant{Origin: perConnect, Topics: list})
	d := newDurable(t, 2, func(o *broker.Options, _ *broker.ListenerOptions) { o.Admitters = []broker.Admitter{g} })
	d.offline("c")
	d.wantStored(1, 1)
	record := func() (value string) {
		_ = d.mem.Walk(store.Grants, func(_, v []byte) error { value = string(v); return nil })
		return value
	}
	before := record()
	d.crash(t, 2)
	pub := d.connect("pub", codec.V5, nil)
	puback(pub, "a", "a")
	puback(pub, "b", "b")
	c := d.resumed("c")
	for range 2 {
		p := published(c)
		c.Ack(codec.PUBACK, p.PacketID)
	}
	c.WantNothing()
	if after := record(); after != before {
		t.Errorf("the record was %x, is %x", before, after)
	}
	c.Disconnect()
	g.set("c", behalf.Grant{Origin: perConnect}) // a provider that has nothing for it any more
	d.resumed("c").Disconnect()
	d.wantStored(0, 1)
}

// A request that has waited is answered when it is durable.
func TestAnswerOfPendingRequestWaitsForTheStore(t *testing.T) {
	d := newDurable(t, 2, nil)
	later := make(chan behalf.Answer, 1)
	d.wantAnswer(d.ask(behalf.Request{
		ClientID: "c", Topics: topics("a:1"), Wait: time.Hour, Later: func(a behalf.Answer) { later <- a },
	}), "0 a=pending/1")
	c := d.connect("c", codec.V5, keep)
	d.wantAnswer(<-later, "0 a=new/1")
	d.store.mu.Lock()
	d.store.off = true
	d.store.mu.Unlock()
	c.Close()
	d.crash(t, 2)
	if h := d.list("c").Holdings; len(h) != 2 || len(h[1].Topics) != 1 {
		t.Errorf("%+v", h)
	}
}

// grantModel is what sessions have, by client id and origin.
type grantModel map[string]map[string][]string

func (m grantModel) clone() grantModel {
	out := grantModel{}
	for id, x := range m {
		out[id] = maps.Clone(x)
	}
	return out
}

// of is the same of a broker.
func (d *durable) granted(ids []string) grantModel {
	m := grantModel{}
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	for _, id := range ids {
		l, err := d.b.List(ctx, id)
		if err != nil {
			continue
		}
		m[id] = map[string][]string{}
		var muted []string
		for _, h := range l.Holdings {
			muted = append(muted, h.Muted...)
			for _, x := range h.Topics {
				m[id][h.Origin] = append(m[id][h.Origin], fmt.Sprint(x.Filter, ":", x.QoS))
			}
		}
		slices.Sort(muted)
		if len(muted) > 0 {
			m[id]["muted"] = slices.Compact(muted)
		}
	}
	return m
}

// Random requests, edits of lists, unsubscriptions and ends of sessions; the power goes off at random, also in the
// middle of a request: what was answered is there afterwards, and what was not is there whole or not at all.
func TestModelGrantsAcrossCrashes(t *testing.T) {
	rounds, steps := 6, 120
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		x := &grantRun{rnd: rand.New(rand.NewPCG(seed, 3)), seed: seed}
		x.durable = newDurable(t, 1+x.rnd.IntN(4), func(o *broker.Options, _ *broker.ListenerOptions) {
			o.PersistenceSync = broker.SyncAlways
		})
		for i := range 6 {
			x.ids = append(x.ids, fmt.Sprint("c", i))
		}
		x.offline(x.ids...)
		x.known = x.granted(x.ids)
		for range steps {
			x.step(t)
		}
		x.crash(t, 1)
		x.check(t, x.known)
	}
}

type grantRun struct {
	*durable
	rnd   *rand.Rand
	seed  uint64
	ids   []string
	known grantModel
}

// check compares with what must be there; it is what is known from now on.
func (x *grantRun) check(t *testing.T, allowed ...grantModel) {
	t.Helper()
	x.known = x.granted(x.ids)
	is := fmt.Sprint(x.known)
	if !slices.ContainsFunc(allowed, func(m grantModel) bool { return m == nil || fmt.Sprint(m) == is }) {
		t.Fatalf("seed %d: is %v, want %v", x.seed, is, allowed)
	}
	x.stored()
}

func (x *grantRun) topics() *behalf.Set {
	var list []string
	for range 1 + x.rnd.IntN(3) {
		list = append(list, []string{"a:1", "a:2", "b:1", "c/#:0", "$share/g/a:1", "d:1"}[x.rnd.IntN(6)])
	}
	return topics(list...)
}

func (x *grantRun) step(t *testing.T) {
	t.Helper()
	id := x.ids[x.rnd.IntN(len(x.ids))]
	switch n := x.rnd.IntN(20); {
	case n < 11:
		x.ask(x.request(id))
		x.known = x.granted(x.ids)
	case n < 13:
		if _, err := x.b.Move(context.Background(), origin("api:1"), x.topics(), x.topics()); err != nil {
			t.Fatalf("seed %d: %v", x.seed, err)
		}
		x.known = x.granted(x.ids)
	case n < 15:
		c, _ := x.present(id, codec.V5, keep)
		c.Send(&codec.Unsubscribe{PacketID: 7, Filters: [][]byte{[]byte("a"), []byte("$share/g/a")}})
		c.Want(codec.UNSUBACK, nil)
		c.Disconnect()
		x.known = x.granted(x.ids)
	case n < 16:
		x.connect(id, codec.V5, keep).Disconnect() // a clean start: all is new
		x.known = x.granted(x.ids)
		if len(x.known[id]) != 0 {
			t.Fatalf("seed %d: %v after a clean start", x.seed, x.known[id])
		}
	case n < 18:
		x.crash(t, 1+x.rnd.IntN(4))
		x.check(t, x.known)
	default:
		x.halfway(t, id)
	}
}

func (x *grantRun) request(id string) behalf.Request {
	return behalf.Request{
		ClientID: id, Origin: origin(fmt.Sprint("api:", x.rnd.IntN(2))), Topics: x.topics(),
		Action: []im.Action{im.Subscribe, im.Unsubscribe, im.Replace}[x.rnd.IntN(3)],
	}
}

// halfway has the power go off around a request.
func (x *grantRun) halfway(t *testing.T, id string) {
	t.Helper()
	before := x.known.clone()
	x.store.cutAfter(1 + x.rnd.IntN(2))
	r := x.request(id)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	a := x.b.Apply(ctx, &r)
	after := x.granted(x.ids)
	x.crash(t, 1+x.rnd.IntN(4))
	if a[0].Code == behalf.Done {
		x.check(t, after)
	} else {
		x.check(t, before, after)
	}
}

// With Promises a request returns when it is in effect; what it has changed is stored when Wait says so.
func TestPromisesOfABatch(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, nil)
		ids := []string{"c0", "c1", "c2", "c3", "c4"}
		d.offline(ids...)
		d.saved()
		gate := make(chan struct{})
		d.store.mu.Lock()
		d.store.gate = gate
		d.store.mu.Unlock()
		var p behalf.Promises
		for _, id := range ids {
			d.wantAnswer(d.ask(behalf.Request{ClientID: id, Topics: topics("a:1"), Promises: &p}), "0 a=new/1")
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if p.Wait(ended) {
			t.Error("stored though the store stands still")
		}
		d.store.mu.Lock()
		d.store.gate = nil
		d.store.mu.Unlock()
		close(gate)
		if !p.Wait(context.Background()) {
			t.Error("not stored")
		}
		if sets, grants := d.stored(); sets != 1 || grants != len(ids) {
			t.Errorf("%d sets and %d grants are stored", sets, grants)
		}
	})
}
