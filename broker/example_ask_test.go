package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/wsnet"
)

// keeper knows who may open doors only by asking elsewhere.
type keeper struct{}

// Rules implements auth.Authorizer.
func (k keeper) Rules(string, string, bool) auth.Rules { return k }

// Check implements auth.Rules.
func (keeper) Check(a auth.Access, topic []byte) auth.Verdict {
	if a != auth.Read && bytes.HasPrefix(topic, []byte("doors/")) {
		return auth.Ask
	}
	return auth.Allow
}

// Covers implements auth.Rules.
func (keeper) Covers([]byte) bool { return true }

// Ask implements auth.Asker. It may take its time.
func (keeper) Ask(ctx context.Context, _ auth.Access, topic []byte) auth.Verdict {
	select {
	case <-time.After(time.Millisecond): // a service that answers
	case <-ctx.Done():
		return auth.Ignore
	}
	if string(topic) == "doors/garden" {
		return auth.Allow
	}
	return auth.Deny
}

// A verdict that takes time holds only the connection whose packet waits for it.
func Example_ask() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer stop(b)
	l := broker.DefaultListenerOptions()
	l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{keeper{}}}
	l.Net = wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", NoDelay: true}
	listener, err := b.Listen(l)
	if err != nil {
		log.Fatal(err)
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + listener.Addr().String()))
	done(client.Connect())
	defer client.Disconnect(0)
	for _, door := range []string{"garden", "cellar"} {
		t := client.Subscribe("doors/"+door, 0, nil).(*mqtt.SubscribeToken)
		t.Wait()
		fmt.Printf("%s 0x%02x\n", door, t.Result()["doors/"+door])
	}
	// Output:
	// garden 0x00
	// cellar 0x80
}
