package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"noctule/broker"
)

// A program tells what it has to say, and hears what became of it.
func ExampleBroker_Publish() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer b.Shutdown(ctx)

	r, err := b.Publish(ctx, broker.Publication{
		Topic: "building/door", Payload: []byte("open"), QoS: 1, Retain: true, Durable: true,
	})
	fmt.Println(r.Accepted, r.Receivers, err)

	_, err = b.Publish(ctx, broker.Publication{Topic: "building/#"})
	var refused broker.PublishError
	if errors.As(err, &refused) {
		fmt.Println(refused.String())
	}
	// Output:
	// true 0 <nil>
	// not a topic name
}
