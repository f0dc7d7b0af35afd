package broker_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/url"
	"sync"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"noctule/broker"
)

// Two brokers of one process pass on what the other one has subscribers for. Real nodes have a network in between,
// and tell each other what they are interested in.
func ExampleBroker_Forward() {
	ctx := context.Background()
	var nodes [2]*broker.Broker
	for i := range nodes {
		b, err := broker.New(broker.DefaultOptions())
		if err != nil {
			log.Fatal(err)
		}
		defer stop(b)
		nodes[i] = b
	}
	here, there := nodes[0], nodes[1]

	var wanted sync.Map // filters that there has subscribers for
	defer there.Interest(func(filter string, on bool) {
		if on {
			wanted.Store(filter, true)
		} else {
			wanted.Delete(filter)
		}
	})()
	road := make(chan broker.Publication, 100)
	end, err := here.Forward(ctx, func(m *broker.Forwarded) bool {
		if _, ok := wanted.Load(string(m.Topic)); !ok { // a real one matches wildcards
			return false
		}
		select {
		case road <- broker.Publication{
			Topic: string(m.Topic), Payload: append([]byte{}, m.Payload...), QoS: m.QoS, Local: true,
		}:
			return true
		default: // it must not block
			return false
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	defer end()

	o := mqtt.NewClientOptions().AddBroker("pipe://inside").SetClientID("c")
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return there.Pipe(), nil })
	client := mqtt.NewClient(o)
	done(client.Connect())
	defer client.Disconnect(0)
	heard := make(chan string, 1)
	done(client.Subscribe("lights", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }))

	for _, topic := range []string{"doors", "lights"} {
		_, _ = here.Publish(ctx, broker.Publication{Topic: topic, Payload: []byte(topic + " on"), QoS: 1})
	}
	_, _ = there.Publish(ctx, <-road)
	fmt.Println(<-heard, "and", len(road), "more")
	// Output: lights on and 0 more
}
