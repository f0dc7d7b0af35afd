package presub_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"noctule/broker"
	"noctule/broker/presub"
	"noctule/wsnet"
)

// A program that embeds the broker subscribes a client on its behalf. The client is not connected yet: the
// request waits for it, and takes effect before its CONNACK.
func ExampleEngine_Subscribe() {
	if err := subscribe(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	// Output: c1 /e/e1/im/u/u1 pending
}

func subscribe() error {
	log := slog.New(slog.DiscardHandler)
	rules, err := presub.Parse([]byte("pending: {default_wait: 10s}"))
	if err != nil {
		return err
	}
	engine, err := presub.New(rules, log)
	if err != nil {
		return err
	}
	defer engine.Close()

	options := broker.DefaultOptions()
	options.Log = log
	options.Features = []broker.Feature{engine}
	b, err := broker.New(options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer b.Shutdown(ctx)
	listener := broker.DefaultListenerOptions()
	listener.AllowAnonymous = true
	listener.Net = wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0"}
	if _, err := b.Listen(listener); err != nil {
		return err
	}

	topics := []presub.Topic{{Topic: "/e/e1/im/u/u1", QoS: 1}}
	answers, err := engine.Subscribe(ctx, "shop", "c1", topics)
	if err != nil {
		return err
	}
	for _, a := range answers {
		for _, r := range a.Results {
			fmt.Println(a.ClientID, r.Topic, r.State)
		}
	}
	return nil
}
