package presub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"noctule/broker"
	"noctule/broker/presub"
)

// Pre-subscription is a feature of a broker that a program embeds: its providers have their say about each client
// that connects, which then gets messages that it has never subscribed to.
func ExampleEngine() {
	if err := provide(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	// Output: ann hears 21.5 on rooms/ann/temperature
}

func provide() error {
	rules, err := presub.Parse([]byte(`
providers:
  - name: rooms
    static:
      topics: [{topic: rooms/%c/#, qos: 1}]
`))
	if err != nil {
		return err
	}
	engine, err := presub.New(rules, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer engine.Close()
	o := broker.DefaultOptions()
	o.Features = []broker.Feature{engine}
	b, err := broker.New(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer b.Shutdown(ctx)

	heard := make(chan mqtt.Message, 1)
	c := mqtt.NewClientOptions().AddBroker("pipe://inside").SetClientID("ann")
	c.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return b.Pipe(), nil })
	c.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { heard <- m })
	client := mqtt.NewClient(c)
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		return t.Error()
	}
	defer client.Disconnect(0)
	p := broker.Publication{Topic: "rooms/ann/temperature", Payload: []byte("21.5"), QoS: 1}
	if _, err := b.Publish(ctx, p); err != nil {
		return err
	}
	m := <-heard
	fmt.Printf("ann hears %s on %s\n", m.Payload(), m.Topic())
	return nil
}

// feature counts what it is asked.
type feature struct {
	options, attached int
	err               error
	b                 *broker.Broker
}

func (f *feature) Options(o *broker.Options) {
	f.options++
	o.ClientIDPrefixes = "f-"
}

func (f *feature) Attach(b *broker.Broker) error {
	f.attached++
	f.b = b
	return f.err
}

// TestFeatures: each has its say before the broker begins and at each reload, and gets the broker once; one that
// fails ends it.
func TestFeatures(t *testing.T) {
	f, last := &feature{}, &feature{}
	o := broker.DefaultOptions()
	o.Features = []broker.Feature{f, last}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if f.options != 1 || f.attached != 1 || f.b != b || last.b != b {
		t.Errorf("%+v", f)
	}
	if err := b.Reload(t.Context(), broker.DefaultOptions(), nil); err != nil {
		t.Fatal(err)
	}
	if f.options != 2 || last.options != 2 || f.attached != 1 {
		t.Errorf("after a reload %+v", f)
	}
	if err := b.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	last.err = errors.New("it cannot")
	if _, err := broker.New(o); !errors.Is(err, last.err) {
		t.Errorf("a feature that fails: %v", err)
	}
}
