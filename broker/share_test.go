package broker_test

import (
	"fmt"
	"sync"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestSharedSubscriptionHoldsFromItsSuback has messages follow the SUBACK at once, whatever loop deals.
func TestSharedSubscriptionHoldsFromItsSuback(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		sub := x.connect("sub", codec.V5, nil)
		for i := range 1000 {
			topic := fmt.Sprint("t/", i)
			sub.Subscribe("$share/g/"+topic, 0)
			pub.Publish(topic, "m", 0, 0)
			sub.WantPublish(topic, "m")
		}
		if m := brokertest.Settle(t, x.b); m.Dropped[broker.DropOffline] != 0 {
			t.Errorf("dropped %v", m.Dropped)
		}
	})
}

// standstill stops a loop when it has read its sockets, until the result is called.
func standstill(t testing.TB, b *broker.Broker, loop int) (entered <-chan struct{}, goOn func()) {
	t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	b.OnLoop(loop, func() {
		close(in)
		<-out
	})
	once := sync.OnceFunc(func() { close(out) })
	t.Cleanup(once)
	return in, once
}

func twoLoops(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = 2 }

// apart is a publisher on the loop that deals $share/g/t, and a subscriber on the other one of two.
func (x *fixture) apart(session connectFunc) (home int, pub, sub *brokertest.Client, id string) {
	x.t.Helper()
	home = x.b.ShareHome("g", "t")
	on := func(loop int, name string) string {
		for x.b.HomeOf(name) != loop {
			name += "x"
		}
		return name
	}
	id = on(1-home, "sub")
	pub, sub = x.connect(on(home, "pub"), codec.V5, nil), x.connect(id, codec.V5, session)
	brokertest.Settle(x.t, x.b)
	return home, pub, sub, id
}

// sharesEarly publishes four messages to a shared subscription around the moment in which the loop that deals hears
// of its first member, which gets them in order: that is in its mail, and the loop reads its sockets before.
func (x *fixture) sharesEarly(qos uint8, session connectFunc) (pub, sub *brokertest.Client, id string) {
	t := x.t
	t.Helper()
	home, pub, sub, id := x.apart(session)
	first, goOn := standstill(t, x.b, home)
	<-first
	sub.Subscribe("$share/g/t", qos) // the home will hear of it in its next turn, behind the sockets
	second, finish := standstill(t, x.b, home)
	pub.Publish("t", "0", qos, 1)
	pub.Publish("t", "1", qos, 2)
	goOn()
	<-second
	pub.Publish("t", "2", qos, 3) // is read when the first member is known
	pub.Publish("t", "3", qos, 4)
	finish()
	for i := range 4 {
		sub.WantPublish("t", fmt.Sprint(i))
	}
	if n := x.dropped(broker.DropOffline); n != 0 {
		t.Errorf("%d dropped", n)
	}
	return pub, sub, id
}

// What one publisher sends to a shared subscription keeps its order, from its first message on [MQTT-4.6.0-6].
func TestSharedSubscriptionBeginsInOrder_MQTT_4_6_0_6(t *testing.T) {
	for _, qos := range []uint8{0, 1} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			x := newFixture(t, twoLoops)
			pub, sub, _ := x.sharesEarly(qos, nil)
			pub.Publish("t", "4", qos, 5)
			sub.WantPublish("t", "4")
			sub.WantNothing()
		})
	}
	t.Run("stored", func(t *testing.T) {
		d := newDurable(t, 2, nil)
		pub, _, id := d.sharesEarly(1, keep)
		for range 4 {
			pub.Want(codec.PUBACK, nil)
		}
		d.crash(t, 2)
		sub, present := d.present(id, codec.V5, keep)
		if !present {
			t.Fatal("no session")
		}
		for i := range 4 {
			sub.WantPublish("t", fmt.Sprint(i))
		}
		sub.WantNothing()
	})
}

// Who leaves a shared subscription before the loop that deals has heard of it leaves nothing there: what was
// published meanwhile is dropped, and the next member gets what comes after.
func TestSharedSubscriptionLeftAtOnce(t *testing.T) {
	x := newFixture(t, twoLoops)
	home, pub, sub, _ := x.apart(nil)
	first, goOn := standstill(t, x.b, home)
	<-first
	sub.Subscribe("$share/g/t", 1)
	pub.Publish("t", "0", 1, 1)
	second, finish := standstill(t, x.b, home)
	goOn()
	<-second
	sub.Send(&codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("$share/g/t")}})
	sub.Want(codec.UNSUBACK, nil)
	finish()
	pub.Want(codec.PUBACK, nil)
	puback(pub, "t", "1")
	sub.Subscribe("$share/g/t", 1)
	pub.Publish("t", "2", 1, 3)
	sub.WantPublish("t", "2")
	sub.WantNothing()
}
