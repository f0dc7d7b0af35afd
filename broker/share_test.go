package broker_test

import (
	"fmt"
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
